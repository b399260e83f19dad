// Reads files for the page on a thread of its own. Each message has an action and gets one answer: a result or the reason of a
// failure. Progress is reported in between.
import init, { DicomFiles, pair_to_nifti, to_nifti } from "./sulcus_viewer_formats.js";

const ready = init({ module_or_path: new URL("sulcus_viewer_formats_bg.wasm", import.meta.url) });
let dicom;

const bytes = async (file) => new Uint8Array(await file.arrayBuffer());

const ACTIONS = {
  // Takes over DICOM files; the answer is the list of series and the names of the segmentations.
  async index({ files, paths }, progress) {
    dicom?.free();
    dicom = new DicomFiles();
    const segmentations = [];
    for (const [i, file] of files.entries()) {
      if (dicom.add(await bytes(file), paths[i])) segmentations.push(paths[i]);
      progress(i / files.length);
    }
    return { series: dicom.series(), segmentations };
  },
  thumbnail: ({ uid }) => dicom.thumbnail(uid),
  series: ({ uid }) => dicom.series_as_nifti(uid),
  segmentation: ({ number }) => dicom.segmentation_as_nifti(number),
  close() {
    dicom?.free();
    dicom = undefined;
  },
  convert: async ({ file }) => to_nifti(await bytes(file)),
  pair: async ({ header, voxels }) => pair_to_nifti(await bytes(header), await bytes(voxels)),
};

addEventListener("message", async ({ data: { id, action, ...data } }) => {
  try {
    await ready;
    const result = await ACTIONS[action](data, (done) => postMessage({ id, done }));
    postMessage({ id, result }, result instanceof Uint8Array ? [result.buffer] : []);
  } catch (error) {
    // A sentence is a refusal. Anything else is a crash, after which the module cannot be used any more.
    postMessage(typeof error === "string" ? { id, error } : { id, error: `the reader stopped (${error.message ?? error})`, crashed: true });
  }
});
