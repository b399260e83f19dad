// Writes a DICOM segmentation for the page on a thread of its own. The one message has the files of the series and the mask; the answer
// is the segmentation or the reason of a failure.
import init, { SeriesFiles } from "./sulcus_viewer_segmentation.js";

const bytes = async (file) => new Uint8Array(await file.arrayBuffer());

addEventListener("message", async ({ data: { files, uid, mask, keepPatient } }) => {
  try {
    await init({ module_or_path: new URL("sulcus_viewer_segmentation_bg.wasm", import.meta.url) });
    const series = new SeriesFiles();
    for (const file of files) series.add(await bytes(file));
    const random = crypto.getRandomValues(new Uint8Array(96));
    const result = series.encode(uid, await bytes(mask), keepPatient, Date.now(), random);
    postMessage({ result }, [result.buffer]);
  } catch (error) {
    postMessage({ error: typeof error === "string" ? error : `the writer stopped (${error.message ?? error})` });
  }
});
