// Writes DICOM segmentations for the page on a thread of its own.
import init, { SeriesFiles } from "./sulcus_viewer_segmentation.js";
import { answer, bytes } from "./requests.js";

const ready = init({ module_or_path: new URL("sulcus_viewer_segmentation_bg.wasm", import.meta.url) });

const ACTIONS = {
  // The mask, a NIfTI file, on the grid of a series, of which there are the files.
  async encode({ files, uid, mask, keepPatient }) {
    const series = new SeriesFiles();
    for (const file of files) series.add(await bytes(file));
    return series.encode(uid, await bytes(mask), keepPatient, Date.now(), crypto.getRandomValues(new Uint8Array(96)));
  },
};

answer(ACTIONS, ready, "the writer");
