// Opens what the page itself does not: folders, DICOM, NRRD, MetaImage, volumes in two files, pictures. Workers convert them to NIfTI.
import { element } from "./elements.js";
import { Requests } from "./requests.js";

const LABEL_FILE = /\.(json|txt|ctbl|csv|label)$/i;
const MODEL = /\.onnx$/i;
const NIFTI = /\.nii(\.gz)?$/i;
const SINGLE = /\.(nrrd|mha)$/i;
// A header in a file of its own, and the endings of the file with the voxels.
const HEADERS = { hdr: ["img", "img.gz"], nhdr: [], mhd: [] };
const VOXELS = /\.(img|raw|zraw|bin)(\.gz)?$/i;
const PICTURE = /\.(png|jpe?g|tiff?)$/i;
// A folder can have thousands of volumes; at most one image, a mask and a truth are shown.
const MAX_VOLUMES = 12;
const MAX_FILES = 20000;
const MAX_SEGMENTATIONS = 2;

let host;
const reader = new Requests("worker.js", "the reader");
const decoder = new Requests("decoder.js", "the decoder");
// The files and the UID of each DICOM series that is an image of the page.
const seriesOf = new WeakMap();

// Called by the page before anything else.
export function connect(page) {
  host ??= page;
  return { openAll, filesOf, encodeSegmentation, encodePicture };
}

// All files in dropped folders, in the order of their paths.
async function filesOf(entries) {
  const found = [];
  const walk = async (entry) => {
    if (found.length >= MAX_FILES) throw `The folder has more than ${MAX_FILES} files: drop one case of it.`;
    if (entry.isFile) {
      found.push({ file: await new Promise((go, fail) => entry.file(go, fail)), path: entry.fullPath.slice(1) });
      if (found.length % 100 === 0) host.busy(`Looking for files: ${found.length}`);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const part = await new Promise((go, fail) => reader.readEntries(go, fail));
      if (!part.length) return;
      for (const next of part) await walk(next);
    }
  };
  try {
    for (const entry of entries) await walk(entry);
  } catch (error) {
    if (origin !== "null" || typeof error === "string") throw error;
    throw "A page that no server has sent cannot read folders that are dropped: choose the folder with Open a folder, or drop its files.";
  }
  host.busy();
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

const plural = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
const nameOf = (path) => path.split("/").pop();

// Whether a file begins like DICOM: the mark after the preamble, or an element of group 2 or 8.
async function isDicom({ file }) {
  const start = new Uint8Array(await file.slice(0, 140).arrayBuffer());
  const mark = String.fromCharCode(...start.slice(128, 132)) === "DICM";
  return mark || (start.length > 8 && (start[0] === 2 || start[0] === 8) && start[1] === 0 && start[3] === 0);
}

// The file with the voxels of a header.
async function partner({ file, path }, files) {
  const ending = path.split(".").pop().toLowerCase();
  const folder = path.slice(0, path.length - nameOf(path).length);
  const stem = path.slice(0, -ending.length);
  const find = (wanted) => files.find((other) => other.path === wanted);
  if (ending === "hdr") return HEADERS.hdr.map((end) => find(stem + end)).find(Boolean);
  const named = (await file.slice(0, 4096).text()).match(/^\s*(?:data ?file\s*:|ElementDataFile\s*=)\s*(?:\.\/)?(.+?)\s*$/im);
  return named ? find(folder + named[1]) : undefined;
}

// Opens files in a role, or in the roles that their content and names say.
async function openAll(files, role) {
  try {
    await openSorted(files.filter(({ path }) => !nameOf(path).startsWith(".")), role);
  } finally {
    host.busy();
    reader.end();
    decoder.end();
  }
}

async function openSorted(files, role) {
  const kinds = { models: [], labels: [], nifti: [], pictures: [], single: [], headers: [], dicom: [], voxels: [], other: [] };
  for (const [i, item] of files.entries()) {
    const { path } = item;
    if (i % 50 === 49) host.busy(`Looking at ${plural(files.length, "file")}`, i / files.length);
    if (NIFTI.test(path)) kinds.nifti.push(item);
    else if (MODEL.test(path)) kinds.models.push(item);
    else if (SINGLE.test(path)) kinds.single.push(item);
    else if (PICTURE.test(path)) kinds.pictures.push(item);
    else if (path.split(".").pop().toLowerCase() in HEADERS) kinds.headers.push(item);
    else if (await isDicom(item)) kinds.dicom.push(item);
    else if (VOXELS.test(path)) kinds.voxels.push(item);
    else if (LABEL_FILE.test(path)) kinds.labels.push(item);
    else kinds.other.push(item);
  }
  const volumes = [...kinds.nifti];
  const count = kinds.nifti.length + kinds.single.length + kinds.headers.length + kinds.pictures.length;
  // One file of an unknown kind may still be a volume; reading it says what is wrong with it.
  if (files.length === 1) kinds.single.push(...kinds.other.splice(0));
  if (count > MAX_VOLUMES) throw `These are ${count} volumes: open one case at a time, an image with its mask and truth (at most ${MAX_VOLUMES} files).`;
  for (const item of kinds.pictures) {
    const wanted = item.role ?? (files.length === 1 ? role : undefined);
    await converted(item, volumes, async () => {
      const { file, unit, isMask } = await decoder.ask("read", { file: item.file, asMask: wanted === undefined ? undefined : wanted === 1 || wanted === 2 });
      return { file, picture: unit, role: isMask ? wanted : wanted ?? 0 };
    });
  }
  for (const item of kinds.single) {
    await converted(item, volumes, () => reader.ask("convert", { file: item.file }));
  }
  for (const item of kinds.headers) {
    const voxels = await partner(item, files);
    if (voxels) await converted(item, volumes, () => reader.ask("pair", { header: item.file, voxels: voxels.file }));
    else host.addError(`${item.path}: the file with its voxels is missing: drop both files together.`);
  }
  if (kinds.dicom.length) await openDicom(kinds.dicom, volumes, role);
  if (volumes.length) host.busy(`Opening ${plural(volumes.length, "volume")}`);
  await host.openVolumes(volumes, role);
  if (kinds.labels.length) await openLabels(kinds.labels, role, volumes.length);
  for (const { file, path } of kinds.models.slice(0, 1)) await (await host.load("predict")).useModel(file, nameOf(path));
  if (!volumes.length && !kinds.labels.length && !kinds.models.length && kinds.other.length + kinds.voxels.length) host.addError(reason(files));
}

// Why none of the files is a volume.
function reason(files) {
  const names = files.slice(0, 3).map(({ path }) => nameOf(path)).join(", ") + (files.length > 3 ? ", …" : "");
  return `${names}: none of these is a volume. NIfTI (.nii, .nii.gz), DICOM, NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd) and pictures (.png, .jpg, .tif) are opened.`;
}

async function converted(item, volumes, convert) {
  host.busy(`Reading ${nameOf(item.path)}`);
  try {
    const made = await convert();
    volumes.push({ ...made, file: new Blob([made.file ?? made]), path: item.path });
  } catch (error) {
    host.addError(`${nameOf(item.path)}: ${error.message ?? error}.`);
  }
}

// In a folder, only files with names of labels are meant; reports and tables of other programs lie there too.
async function openLabels(files, role, volumes) {
  const module = await host.tools();
  for (const { file, path } of files) {
    try {
      await module.openOther(file, path, role);
    } catch (error) {
      if (files.length === 1 || !volumes) host.addError(`${nameOf(path)}: ${error.message ?? error}.`);
    }
  }
}

async function openDicom(files, volumes, role) {
  const text = `Reading ${plural(files.length, "DICOM file")}`;
  host.busy(text, 0);
  const data = { files: files.map(({ file }) => file), paths: files.map(({ path }) => path) };
  let found;
  try {
    found = await reader.ask("index", data, { progress: (done) => host.busy(text, done) });
  } catch (error) {
    return host.addError(`${error}.`);
  }
  const series = found.series.split("\n").filter(Boolean).map((line) => {
    const [uid, modality, slices, rows, columns, description] = line.split("\t");
    return { uid, modality, slices, rows, columns, description };
  });
  if (!series.length && !found.segmentations.length) return host.addError(`${plural(files.length, "DICOM file")}: none has images.`);
  host.busy();
  const chosen = series.length > 1 || found.segmentations.length > MAX_SEGMENTATIONS
    ? await choose(series, found.segmentations)
    : { series: series[0], segmentations: found.segmentations.map((_, i) => i) };
  if (!chosen) return undefined;
  if (chosen.series) {
    const { uid, modality, description, slices } = chosen.series;
    const name = [modality, description].filter(Boolean).join(" ") || "DICOM series";
    host.busy(`Decoding ${plural(slices, "slice")}`);
    try {
      const file = new Blob([await reader.ask("series", { uid })]);
      seriesOf.set(file, { files: data.files, uid });
      volumes.push({ file, path: name.replaceAll("/", "∕"), role: role ?? 0 });
    } catch (error) {
      host.addError(`${name}: ${error}.`);
    }
  }
  for (const i of chosen.segmentations) {
    const path = found.segmentations[i];
    await converted({ path }, volumes, () => reader.ask("segmentation", { number: i }));
  }
  return undefined;
}

// The mask that a function makes, a NIfTI file in memory, as a DICOM segmentation of the series that is an image.
async function encodeSegmentation(image, mask, keepPatient) {
  const series = seriesOf.get(image);
  if (!series) throw "A DICOM segmentation refers to a DICOM series: open the series as the image first.";
  const writer = new Requests("encoder.js", "the writer");
  try {
    return await writer.ask("encode", { ...series, mask: await mask(), keepPatient });
  } finally {
    writer.end();
  }
}

// The mask that a function makes, a NIfTI file in memory, as a picture.
async function encodePicture(mask, unit) {
  try {
    return await decoder.ask("mask", { mask: await mask(), unit });
  } finally {
    decoder.end();
  }
}

function picture([width, height, ...grey]) {
  const canvas = element("canvas", { width: width || 1, height: height || 1 });
  canvas.style.cssText = "display:block;width:64px;height:64px;object-fit:contain;background:#000";
  if (!width) return canvas;
  const pixels = new ImageData(width, height);
  grey.forEach((value, i) => pixels.data.set([value, value, value, 255], 4 * i));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

// Lets the user choose one of several series, and which segmentations lie on it. Texts of the files stay texts.
async function choose(series, segmentations) {
  const dialog = element("dialog", { id: "chooser" });
  dialog.setAttribute("aria-labelledby", "h-chooser");
  const table = element("table");
  table.append(element("thead", {}, element("tr", {}, ...["", "Series", "Slices", "Size"].map((text) => element("th", { textContent: text, scope: "col" })))));
  const body = element("tbody");
  table.append(body);
  const pictures = series.map(({ uid, modality, slices, rows, columns, description }, i) => {
    const radio = element("input", { type: "radio", name: "series", value: i, checked: i === 0 });
    const place = element("td");
    const name = [modality, description].filter(Boolean).join(" ") || "without a description";
    const label = element("label", { title: uid }, radio, ` ${name}`);
    const text = element("td", {}, label);
    text.style.cssText = "text-align:left;white-space:normal";
    body.append(element("tr", {}, place, text, element("td", { textContent: slices }), element("td", { textContent: `${columns} × ${rows}` })));
    return { uid, place };
  });
  const boxes = segmentations.map((path, i) => element("input", { type: "checkbox", value: i, checked: i < MAX_SEGMENTATIONS }));
  const masks = boxes.map((box, i) => element("div", { className: "checks" }, element("label", {}, box, nameOf(segmentations[i]))));
  const cancel = element("button", { textContent: "Cancel", onclick: () => dialog.close() });
  const open = element("button", { textContent: "Open", className: "big", onclick: () => dialog.close("open") });
  dialog.append(element("h2", { id: "h-chooser", textContent: series.length ? `${plural(series.length, "series").replace(/ss$/, "s")}: which one?` : "Segmentations" }));
  if (series.length) dialog.append(table);
  if (masks.length) dialog.append(element("h2", { textContent: "Segmentations (at most two)" }), ...masks);
  dialog.append(element("p", {}, open, " ", cancel));
  document.body.append(dialog);
  dialog.showModal();
  // The pictures come one after the other while the user reads.
  let reading = true;
  const showing = (async () => {
    for (const { uid, place } of pictures) {
      if (!reading) return;
      place.append(picture(await reader.ask("thumbnail", { uid }).catch(() => [])));
    }
  })();
  await new Promise((go) => { dialog.onclose = go; });
  reading = false;
  await showing;
  const wanted = {
    series: series[Number(dialog.querySelector("input[type=radio]:checked")?.value)],
    segmentations: boxes.filter((box) => box.checked).slice(0, MAX_SEGMENTATIONS).map((box) => Number(box.value)),
  };
  dialog.remove();
  return dialog.returnValue === "open" ? wanted : undefined;
}
