// Reads files for the page on a thread of its own.
import init, { DicomFiles, pair_to_nifti, to_nifti } from "./sulcus_viewer_formats.js";
import { answer, bytes } from "./requests.js";

const ready = init({ module_or_path: new URL("sulcus_viewer_formats_bg.wasm", import.meta.url) });
let dicom;

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
  convert: async ({ file }) => to_nifti(await bytes(file)),
  pair: async ({ header, voxels }) => pair_to_nifti(await bytes(header), await bytes(voxels)),
};

answer(ACTIONS, ready, "the reader");
