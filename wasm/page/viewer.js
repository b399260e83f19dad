// Passes files and events to the WebAssembly module and draws its pixels. The state of the scene is in the module, that of the
// settings in the controls of the page.
import init, { Viewer } from "./sulcus_viewer.js";

const ROLES = ["image", "mask", "truth", "map"];
const PLANES = ["Axial", "Coronal", "Sagittal"];
const STEPS = 1000;
// Volumes of one drop. A folder can have thousands.
const MAX_VOLUMES = 6;
const CINE_MS = 150;
const FLICKER_MS = 500;
// Level and width.
const CT_WINDOWS = { "soft tissue": [40, 400], lung: [-600, 1500], bone: [400, 1800], brain: [40, 80], liver: [30, 150], mediastinum: [50, 350] };
const PERCENTILES = { "0.5 to 99.5": [0.5, 99.5], "2 to 98": [2, 98], "5 to 95": [5, 95], "all values": [0, 100] };
const $ = (selector) => document.querySelector(selector);
const canvases = [...document.querySelectorAll(".view canvas")];
const zones = [...document.querySelectorAll(".zone")];
const names = ["", "", "", ""];
// What was opened for each role.
const files = [];
// 0 for a scan, and for a picture the unit of its grid: 1 millimetres, 2 millimetres along x and y alone, 3 pixels.
let unit = 0;
let viewer;
let loadError = "";
// The time at which loading the first picture began; 0 is the start of loading the page.
let began = 0;
let scheduled = false;
// The plane that keys refer to, and the only one that is shown if `single`.
let current = 0;
let single = false;
let labelNames = new Map();
// HD95 and NSD by label, once they are asked for.
let surfaces = new Map();
let flickerRole = 1;
let timers = {};
let announcing;
// Functions that draw more after each picture; modules that are loaded later add theirs.
const afterDraw = [];

const number = (value, none = String(value)) => {
  if (!Number.isFinite(value)) return none;
  const size = Math.abs(value);
  return size !== 0 && (size < 0.01 || size >= 1e6) ? value.toExponential(2) : String(+value.toFixed(size < 10 ? 3 : 1));
};
const length = () => (unit === 3 ? "px" : "mm");
const side = (mm, names) => `${names[mm < 0 ? 1 : 0]} ${Math.abs(mm).toFixed(1)}`;
const size = (plane) => [plane, canvases[plane].width, canvases[plane].height];
const labelName = (value) => (value === 0 ? "background" : labelNames.get(value) ?? `label ${value}`);
// What the page is busy with, and how much of it is done, from 0 to 1; nothing hides it.
function busy(text, done) {
  const [bar, words] = $("#busy").children;
  $("#busy").hidden = !text;
  words.textContent = text ?? "";
  if (done >= 0) bar.value = done;
  else bar.removeAttribute("value");
}

const stepsMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

function showError() {
  const text = [loadError, viewer?.problems() ?? ""].filter(Boolean).join("\n");
  $("#error").textContent = text;
  $("#error").hidden = !text;
}

function addError(text) {
  loadError += (loadError && "\n") + text;
}

// Every call of the module goes through this function, which reports a crash of the module to the user.
function guarded(action) {
  try {
    return action();
  } catch (error) {
    loadError = typeof error === "string" ? error : `The viewer stopped (${error.message ?? error}). Reload the page.`;
    showError();
    return undefined;
  }
}

function drawPlane(canvas, plane, line, any) {
  const box = canvas.getBoundingClientRect();
  const width = Math.round(box.width * devicePixelRatio);
  const height = Math.round(box.height * devicePixelRatio);
  if (!width || !height) return;
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  canvas.getContext("2d").putImageData(new ImageData(viewer.draw(plane, width, height, line), width, height), 0, 0);
  const view = canvas.parentElement;
  const [slices, slice] = viewer.slices(plane);
  const flicker = $("#comparison").selectedIndex === 3 && !$("#compare").hidden ? `${ROLES[flickerRole]} · ` : "";
  view.querySelector(".slice").textContent = any ? `${flicker}${slice + 1} / ${slices}` : "";
  const edges = viewer.edges(plane);
  [..."lrtb"].forEach((side, i) => { view.querySelector(`.edge.${side}`).textContent = edges[i] ?? ""; });
  canvas.setAttribute("aria-label", any ? `${PLANES[plane]} slice ${slice + 1} of ${slices}` : `${PLANES[plane]}, empty`);
  const slide = view.querySelector(".slide");
  [slide.disabled, slide.max, slide.value] = [!any, slices ?? 1, slice + 1 || 1];
  canvas.dataset.box = [box.x, box.y, box.width, box.height].map(Math.round).join(",");
  showScale(view.querySelector(".scale"), viewer.mm_per_pixel(plane, width, height) * devicePixelRatio, box.width);
}

// A bar of 1, 2 or 5 times a power of ten millimetres, at most a third of the picture wide.
function showScale(bar, mm, width) {
  bar.hidden = !(mm > 0);
  if (bar.hidden) return;
  const third = (mm * width) / 3;
  const power = 10 ** Math.floor(Math.log10(third));
  const most = [5, 2, 1].map((n) => n * power).find((n) => n <= third) ?? power;
  bar.style.width = `${most / mm}px`;
  bar.textContent = `${+most.toPrecision(1)} ${length()}`;
}

function draw() {
  scheduled = false;
  guarded(() => {
    const start = performance.now();
    const line = Math.max(1, Math.round(devicePixelRatio));
    const any = viewer.slices(0).length > 0;
    canvases.forEach((canvas, plane) => drawPlane(canvas, plane, line, any));
    document.body.dataset.drawMs = (performance.now() - start).toFixed(2);
    const [i, j, k, x, y, z, mask, truth, ...value] = viewer.readout();
    $("#value").textContent = value.map((one) => number(one)).join(", ") || "–";
    $("#ras").textContent = any && !unit ? `${side(x, "RL")}, ${side(y, "AP")}, ${side(z, "SI")} mm` : "–";
    $("#voxel").textContent = any ? [i, j, k].join(", ") : "–";
    $("#at-mask").textContent = mask >= 0 ? labelName(mask) : "–";
    $("#at-truth").textContent = truth >= 0 ? labelName(truth) : "–";
    $("#at-map").textContent = number(viewer.map_value(), "–");
    afterDraw.forEach((more) => more());
    if (any) document.body.dataset.firstPictureMs ??= Math.round(performance.now() - began);
  });
}

function redraw() {
  if (!scheduled) {
    scheduled = true;
    requestAnimationFrame(draw);
  }
}

// Tells users of screen readers what is under the crosshair, once it rests.
function announce() {
  clearTimeout(announcing);
  announcing = setTimeout(() => guarded(() => {
    const at = viewer.readout();
    if (!at.length) return;
    const [slices, slice] = viewer.slices(current);
    const place = [side(at[3], ["right", "left"]), side(at[4], ["anterior", "posterior"]), side(at[5], ["superior", "inferior"])];
    const parts = [`${PLANES[current]} slice ${slice + 1} of ${slices}`, unit ? `pixel ${at[0]}, ${at[1]}` : `${place.join(", ")} millimetres`];
    if (at[8] !== undefined) parts.push(`value ${at.slice(8).map((one) => number(one)).join(", ")}`);
    if (at[6] >= 0) parts.push(`mask ${labelName(at[6])}`);
    if (at[7] >= 0) parts.push(`truth ${labelName(at[7])}`);
    $("#live").textContent = parts.join("; ");
  }), 300);
}

// After an action of the user: pictures and the read-out.
function act(action) {
  guarded(action);
  redraw();
  announce();
}

function showWindow() {
  const [min, max] = viewer.range();
  const [low, high] = viewer.window();
  const has = min !== undefined;
  for (const id of ["level", "width", "auto", "preset", "colormap", "slab"]) $(`#${id}`).disabled = !has;
  const span = has && max > min ? max - min : 1;
  const level = (low + high) / 2;
  $("#level").value = has ? ((level - min) / span) * STEPS : STEPS / 2;
  $("#width").value = has ? ((high - low) / span) * STEPS : STEPS;
  $("#level").nextElementSibling.textContent = has ? number(level) : "";
  $("#width").nextElementSibling.textContent = has ? number(high - low) : "";
  $("#low").textContent = has ? number(low) : "";
  $("#high").textContent = has ? number(high) : "";
  const colors = viewer.colors();
  const pixels = new ImageData(256, 1);
  for (let i = 0; i < 256; i++) pixels.data.set([...colors.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  $("#bar").getContext("2d").putImageData(pixels, 0, 0);
}

// The controls of the map follow its file and its channel.
function showMap() {
  const channels = viewer.map_channels();
  $("#map-box").hidden = !channels;
  $("#map-channels").hidden = channels < 2;
  const texts = Array.from({ length: channels }, (_, i) => (i ? labelNames.get(i) ?? `class ${i}` : "background"));
  $("#map-channel").replaceChildren(...[...texts, "uncertainty"].map((text) => new Option(text)));
  const [channel, low, high] = viewer.map_window();
  $("#map-channel").selectedIndex = channel;
  [$("#map-low").value, $("#map-high").value] = [low, high].map((value) => +value.toPrecision(4));
}

function setWindow(level, width) {
  const [min, max] = viewer.range();
  if (min === undefined) return;
  const minWidth = (max > min ? max - min : 1) / STEPS;
  const half = Math.max(width, minWidth) / 2;
  viewer.set_window(level - half, level + half);
  showWindow();
  redraw();
}

function cell(row, kind, text) {
  const element = document.createElement(kind);
  element.textContent = text;
  row.append(element);
  return element;
}

function labelRows() {
  const values = viewer.labels();
  const texts = viewer.names().split("\n");
  return Array.from({ length: values.length / 13 }, (_, i) => {
    const [value, r, g, b, shown, mask, maskMl, truth, truthMl, dice, iou, mean, sd] = values.subarray(13 * i, 13 * i + 13);
    const [hd95, nsd] = surfaces.get(value) ?? [NaN, NaN];
    return { name: texts[i], value, color: `rgb(${r}, ${g}, ${b})`, shown, mask, maskMl, truth, truthMl, dice, iou, mean, sd, hd95, nsd };
  });
}

function showLabels() {
  const rows = labelRows();
  labelNames = new Map(rows.map((row) => [row.value, row.name]));
  const has = (key) => rows.some((row) => !Number.isNaN(row[key]));
  const ml = (volume) => volume.toFixed(3);
  const score = (value) => value.toFixed(4);
  // A pixel has no volume; its area is 1, or that of the file.
  const grid = viewer.grid();
  const area = (n) => (unit === 2 ? number(n * grid[3] * grid[8]) : n);
  const areas = unit < 2 ? "" : unit === 2 ? "mm²" : "px";
  const columns = [
    areas ? [`Mask ${areas}`, "mask", area] : ["Mask ml", "maskMl", ml, (row) => `${row.mask} voxels`],
    areas ? [`Truth ${areas}`, "truth", area] : ["Truth ml", "truthMl", ml, (row) => `${row.truth} voxels`],
    ["Dice", "dice", score],
    ["IoU", "iou", score],
    [`HD95 ${length()}`, "hd95", (value) => value.toFixed(2)],
    ["NSD", "nsd", score],
    ["Mean ± SD", "mean", (value, row) => `${number(value)} ± ${number(row.sd)}`],
  ].filter(([, key]) => has(key));
  $("#labels").hidden = rows.length === 0;
  $("#no-labels").hidden = rows.length > 0;
  const head = document.createElement("tr");
  for (const title of ["Label", ...columns.map(([title]) => title)]) cell(head, "th", title).scope = "col";
  $("#labels thead").replaceChildren(head);
  $("#labels tbody").replaceChildren(...rows.map((label) => {
    const row = document.createElement("tr");
    const [show, go, swatch] = ["input", "button", "span"].map((kind) => document.createElement(kind));
    Object.assign(show, { type: "checkbox", checked: label.shown, ariaLabel: `Show ${label.name}` });
    show.oninput = () => act(() => viewer.show_label(label.value, show.checked));
    go.title = `Value ${label.value}: put the crosshair into its centre (Shift: into its largest slice)`;
    swatch.className = "swatch";
    swatch.style.background = label.color;
    go.append(swatch, label.name);
    go.onclick = (event) => act(() => (event.shiftKey ? viewer.go_to_largest(current, label.value) : viewer.go_to(label.value)));
    cell(row, "td", "").append(show, go);
    for (const [, key, text, title] of columns) {
      const entry = cell(row, "td", Number.isNaN(label[key]) ? "–" : text(label[key], label));
      if (title) entry.title = title(label);
    }
    return row;
  }));
}

// Updates the page after the files have changed.
function refresh() {
  guarded(() => {
    unit = viewer.unit();
    // The planes of a patient are none of a picture.
    PLANES[0] = $("figcaption span").textContent = unit ? "Picture" : "Axial";
    $("#layout").hidden = unit > 0;
    if (unit) showPlanes(0);
    $("#neurological").disabled = unit > 0;
    SETTINGS.neurological($("#neurological"));
    $("#unit").textContent = length();
    zones.forEach((zone, role) => {
      const full = viewer.has(role);
      if (!full) names[role] = "";
      zone.classList.toggle("full", full);
      zone.querySelector(".name").textContent = full ? names[role] : "drop it here";
      zone.querySelector(".name").title = names[role];
      zone.querySelector(".close").hidden = !full;
    });
    const any = ROLES.some((_, role) => viewer.has(role));
    $("#welcome").hidden = any;
    $("#views").classList.toggle("empty", !any);
    $("#tools").hidden = $("#headers").hidden = !any;
    $("#image-box").hidden = !viewer.has(0);
    $("#overlay-box").hidden = !viewer.has(1) && !viewer.has(2);
    $("#meshes").hidden = $("#overlay-box").hidden || unit > 0;
    $("#resample").hidden = unit > 0 || !viewer.misplaced().length;
    $("#swap").disabled = !viewer.has(1) && !viewer.has(2);
    $("#case").textContent = names.find(Boolean) ?? "";
    document.title = names.find(Boolean) ? `${names.find(Boolean)} – Sulcus viewer` : "Sulcus viewer";
    $("#warning").hidden = !viewer.sides_unknown();
    const channels = viewer.channels();
    $("#channels").hidden = channels < 2;
    $("#channel").max = Math.max(channels - 1, 0);
    $("#compare").hidden = !viewer.has(1) || !viewer.has(2);
    showWindow();
    showLabels();
    showMap();
    if ($("#headers").open) $("#headers").ontoggle();
    SETTINGS.comparison();
  });
  showError();
  redraw();
}

// A mask that Sulcus wrote contains its label names as JSON. The browser parses it, which keeps a JSON parser out of the module.
function nameLabels(role) {
  const text = viewer.label_text(role);
  if (!text) return;
  let labels;
  try {
    const table = JSON.parse(text);
    if (table.format !== "sulcus.labels" || table.format_version !== 1) return;
    labels = table.labels.map(({ value, name, color }) => ({ value: Number(value), name: String(name), color: [...color] }));
  } catch {
    return; // An unknown format: the labels are named by their numbers.
  }
  setNames(role, labels);
}

function setNames(role, labels) {
  const line = ({ name }) => name.replaceAll("\n", " ");
  viewer.name_labels(role, Uint16Array.from(labels, (l) => l.value), labels.map(line).join("\n"), Uint8Array.from(labels.flatMap((l) => l.color)));
}

// The size of a NIfTI file according to its header, or undefined if this is none.
function announcedBytes(start) {
  if (start.length < 544) return undefined;
  const view = new DataView(start.buffer, start.byteOffset);
  const little = [348, 540].includes(view.getInt32(0, true));
  const two = view.getInt32(0, little) === 540;
  if (!two && view.getInt32(0, little) !== 348) return undefined;
  const dim = (i) => (two ? Number(view.getBigInt64(16 + 8 * i, little)) : view.getInt16(40 + 2 * i, little));
  const offset = two ? Number(view.getBigInt64(168, little)) : view.getFloat32(108, little);
  let bits = view.getInt16(two ? 14 : 72, little);
  for (let i = 1; i <= Math.min(dim(0), 7); i++) bits *= dim(i);
  return offset + bits / 8;
}

// The bytes of a file, inflated by the browser on a thread of its own. What the browser cannot inflate, such as damaged data,
// is left to the module of the tools, which names the reason.
async function content(blob, name) {
  const [first, second] = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  const whole = async () => new Uint8Array(await blob.arrayBuffer());
  if (first !== 0x1f || second !== 0x8b) return whole();
  try {
    const reader = blob.stream().pipeThrough(new DecompressionStream("gzip")).getReader();
    let bytes = new Uint8Array(0);
    let length = 0;
    let size;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (size > 1e7) busy(`Reading ${name}`, length / size);
      if (size === undefined) {
        // The header came in one piece or in several.
        const start = new Uint8Array(length + value.length);
        start.set(bytes.subarray(0, length));
        start.set(value, length);
        size = announcedBytes(start);
        bytes = start;
        length = start.length;
        if (size === undefined && length < 544) continue;
        // deflate cannot shrink data by more.
        if (!(size >= 0 && size <= blob.size * 1032)) throw new RangeError();
        bytes = new Uint8Array(size);
        bytes.set(start.subarray(0, size));
        continue;
      }
      if (length < size) bytes.set(value.subarray(0, size - length), length);
      length += value.length;
      if (length > size + 2 ** 28) throw new RangeError();
    }
    return bytes.subarray(0, length);
  } catch {
    return (await tools()).inflate(await whole());
  }
}

const load = (name) => import(`./${name}.js`).then((module) => module.connect(host));
const tools = () => load("tools");
const failed = (error) => { busy(); guarded(() => { throw error; }); };
const withTools = (action) => tools().then(action).catch(failed);

// Returns the role that the file got.
async function open(blob, path, role, name = path.split("/").pop(), picture = 0) {
  try {
    const got = viewer.load(await content(blob, name), path, role, picture);
    names[got] = name;
    if (got === 3) $("#map-colors").selectedIndex = 2;
    files[got] = blob;
    surfaces = new Map();
    nameLabels(got);
    host.onFiles?.(got);
    if (got === 0) {
      $("#channel").value = 0;
      play(false);
    }
    return got;
  } catch (error) {
    const reason = typeof error === "string" ? error : `the viewer stopped (${error.message ?? error}); reload the page`;
    addError(`${name}: ${reason}.`);
  } finally {
    busy();
  }
  return undefined;
}

// Closes everything without drawing: other files follow.
function clear() {
  loadError = "";
  files.length = 0;
  ROLES.forEach((_, role) => { viewer.remove(role); host.onFiles?.(role); });
}

// NIfTI files are opened here; whatever else is among the files needs another module.
async function openFiles(files, role) {
  loadError = "";
  began = performance.now();
  if (files.length > MAX_VOLUMES || !files.every(({ path }) => /\.nii(\.gz)?$/i.test(path))) await (await load("loading")).openAll(files, role);
  else await openVolumes(files, role);
  refresh();
}

async function openVolumes(files, role) {
  const images = [];
  for (const { file, path, role: own, picture } of files) {
    if ((await open(file, path, own ?? (files.length === 1 ? role : undefined), undefined, picture)) === 0) images.push(path);
  }
  if (images.length > 1) addError(`Only one image is shown at a time: ${images.pop()}. Open ${images.join(" or ")} alone to see it.`);
}

const listed = (files) => [...files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));

async function fetchFile(role, address, shown) {
  const name = shown ?? decodeURIComponent(address.split(/[?#]/)[0].split("/").pop());
  try {
    const url = new URL(address, location.href);
    if (url.origin !== location.origin) throw new Error("only files served with this page can be opened");
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return { role, name, blob: await answer.blob() };
  } catch (error) {
    return { role, name, error: error.message };
  }
}

function showPlanes(plane) {
  if (unit) plane = 0;
  single = plane !== undefined;
  if (single) current = plane;
  $("#views").classList.toggle("single", single);
  canvases.forEach((canvas, i) => canvas.parentElement.classList.toggle("on", single && i === plane));
  [...$("#layout").children].forEach((button, i) => button.setAttribute("aria-pressed", single ? i === plane + 1 : i === 0));
  guarded(() => viewer.set_single(single));
  redraw();
}

function play(on = !timers.cine) {
  clearInterval(timers.cine);
  timers.cine = undefined;
  if (on && viewer.channels() > 1) timers.cine = setInterval(() => moveChannel(1), CINE_MS);
  $("#play").textContent = timers.cine ? "Pause" : "Play";
  $("#play").setAttribute("aria-pressed", Boolean(timers.cine));
  if (!timers.cine) guarded(showLabels);
}

function moveChannel(by) {
  const channels = viewer.channels();
  if (channels < 2) return;
  $("#channel").value = (Number($("#channel").value) + by + channels) % channels;
  SETTINGS.channel($("#channel"));
  redraw();
}

function applyComparison() {
  const mode = $("#comparison").selectedIndex;
  viewer.set_comparison(mode === 3 ? 2 + flickerRole : mode, $("#swipe").value / 100);
}

function flicker() {
  flickerRole = 3 - flickerRole;
  act(applyComparison);
}

// What each control does. Sessions and addresses set the same controls.
const SETTINGS = {
  level: (input) => { const [min, span] = valueSpan(); const [low, high] = viewer.window(); setWindow(min + (input.value / STEPS) * span, high - low); },
  width: (input) => { const [low, high] = viewer.window(); setWindow((low + high) / 2, (input.value / STEPS) * valueSpan()[1]); },
  preset: (input) => {
    const [kind, name] = input.value.split(":");
    if (kind === "ct") setWindow(...CT_WINDOWS[name]);
    if (kind === "percent") viewer.percentile_window(...PERCENTILES[name]);
    input.value = "";
    showWindow();
  },
  colormap: (input) => { viewer.set_colormap(input.selectedIndex); showWindow(); },
  slab: (input) => { SETTINGS.projection(); input.nextElementSibling.textContent = Number(input.value) ? `${input.value} mm` : "1 slice"; $("#projections").hidden = !Number(input.value); },
  projection: () => viewer.set_slab(Number($("#slab").value), $("#projection").selectedIndex),
  channel: (input) => {
    viewer.set_channel(Number(input.value));
    $("#channels label").textContent = `Volume ${Number(input.value) + 1}/${viewer.channels()}`;
    if (!timers.cine) {
      showWindow();
      showLabels();
    }
  },
  smooth: (input) => viewer.set_smooth(input.checked),
  crosshair: (input) => viewer.set_crosshair(input.checked),
  neurological: (input) => viewer.set_neurological(input.checked && !unit),
  opacity: (input) => { viewer.set_opacity(input.value / 100); input.nextElementSibling.textContent = `${input.value} %`; },
  "mask-style": (input) => viewer.set_style(1, Number(input.value)),
  "truth-style": (input) => viewer.set_style(2, Number(input.value)),
  "map-channel": (input) => { viewer.set_map_channel(input.selectedIndex); showMap(); },
  "map-colors": () => viewer.set_map($("#map-colors").selectedIndex, Number($("#map-low").value), Number($("#map-high").value), $("#map-opacity").value / 100),
  "map-opacity": (input) => { SETTINGS["map-colors"](); input.nextElementSibling.textContent = `${input.value} %`; },
  "map-low": () => SETTINGS["map-colors"](),
  "map-high": () => SETTINGS["map-colors"](),
  comparison: () => {
    const mode = $("#comparison").selectedIndex;
    const both = !$("#compare").hidden;
    $("#legend").hidden = mode !== 1;
    $("#swipes").hidden = mode !== 2;
    clearInterval(timers.flicker);
    if (mode === 3 && both && !stepsMotion()) timers.flicker = setInterval(flicker, FLICKER_MS);
    applyComparison();
  },
  swipe: (input) => { applyComparison(); input.nextElementSibling.textContent = `${input.value} %`; },
};
const valueSpan = () => { const [min, max] = viewer.range(); return [min, max > min ? max - min : 1]; };

function change(id, value) {
  const input = $(`#${id}`);
  if (input.type === "checkbox") input.checked = value === undefined ? !input.checked : value === true || value === "1" || value === "true";
  else if (value !== undefined && input.options) input.selectedIndex = Math.min(Math.max(Number(value) || 0, 0), input.options.length - 1);
  else if (value !== undefined) input.value = Number(value);
  guarded(() => SETTINGS[id](input));
  redraw();
}

function nextOption(id) {
  const input = $(`#${id}`);
  change(id, (input.selectedIndex + 1) % input.options.length);
}

async function start() {
  const query = new URLSearchParams(location.search);
  const asked = ROLES.map((role, number) => [number, query.get(role), query.get(`${role}_name`) ?? undefined])
    .filter(([, address]) => address)
    .map((request) => fetchFile(...request));
  await init({ module_or_path: new URL("sulcus_viewer_bg.wasm", import.meta.url) });
  viewer = new Viewer();
  listen();
  if (matchMedia("(max-width: 560px)").matches) showPlanes(0);
  for (const file of asked) {
    const { role, name, blob, error } = await file;
    if (error) addError(`${name}: could not be loaded: ${error}.`);
    else if (/\.(png|jpe?g|tiff?)$/i.test(name)) await (await load("loading")).openAll([{ file: blob, path: name }], role);
    else await open(blob, name, role);
  }
  refresh();
  const state = Object.fromEntries(query);
  if (Object.keys(state).some((key) => !/^(image|mask|truth|map)(_name)?$/.test(key))) (await tools()).follow(state);
}

// A key that works everywhere on the page.
function pressed(key) {
  const middle = [canvases[current].width / 2, canvases[current].height / 2];
  const zoom = (factor) => act(() => viewer.zoom(...size(current), factor, ...middle));
  const actions = {
    1: () => showPlanes(0), 2: () => showPlanes(1), 3: () => showPlanes(2), 4: () => showPlanes(),
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: fit,
    a: () => $("#auto").click(), c: () => nextOption("colormap"),
    s: () => change("smooth"), x: () => change("crosshair"), n: () => change("neurological"),
    m: () => nextOption("mask-style"), t: () => nextOption("truth-style"),
    "[": () => change("opacity", Number($("#opacity").value) - 5), "]": () => change("opacity", Number($("#opacity").value) + 5),
    b: () => change("comparison", 0), d: () => change("comparison", 1),
    f: () => ($("#comparison").selectedIndex === 3 ? flicker() : change("comparison", 3)),
    w: () => $("#worst").click(), ",": () => moveChannel(-1), ".": () => moveChannel(1), " ": () => play(),
    "?": help,
  };
  actions[key.toLowerCase()]?.();
  return key.toLowerCase() in actions;
}

const help = () => withTools((tools) => tools.showHelp());
const fit = () => act(() => viewer.set_camera(Float64Array.of(1)));

function listen() {
  addEventListener("resize", redraw);
  // Open files in a role, or recognise their roles.
  for (const input of document.querySelectorAll("input[type=file]")) {
    const role = zones.indexOf(input.closest(".zone"));
    input.onchange = async () => { await openFiles(listed(input.files), role < 0 ? undefined : role).catch(failed); input.value = ""; };
  }
  $("#resample button").onclick = () => withTools((tools) => tools.resample());
  zones.forEach((zone, role) => {
    zone.querySelector(".close").onclick = () => { loadError = ""; surfaces = new Map(); files[role] = undefined; guarded(() => viewer.remove(role)); host.onFiles?.(role); refresh(); };
  });
  $("#swap").onclick = () => {
    guarded(() => viewer.swap_labels());
    [names[1], names[2]] = [names[2], names[1]];
    [files[1], files[2]] = [files[2], files[1]];
    surfaces = new Map();
    host.onFiles?.(1);
    refresh();
  };
  addEventListener("dragover", (event) => {
    event.preventDefault();
    const zone = event.target.closest?.(".zone");
    zones.forEach((z) => z.classList.toggle("over", z === zone));
    document.body.classList.toggle("over", !zone);
  });
  const leave = () => {
    zones.forEach((zone) => zone.classList.remove("over"));
    document.body.classList.remove("over");
  };
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) leave(); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    leave();
    const zone = event.target.closest?.(".zone");
    if (!event.dataTransfer?.files.length) return;
    const role = zone ? Number(zone.dataset.role) : undefined;
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const whole = entries.some((entry) => entry.isDirectory) ? load("loading").then((module) => module.filesOf(entries)) : Promise.resolve(listed(event.dataTransfer.files));
    whole.then((files) => openFiles(files, role)).catch(failed);
  });

  const options = (group, kind, windows, text) => group.append(...Object.entries(windows).map(([name, window]) => new Option(text(name, window), `${kind}:${name}`)));
  const [percent, ct] = $("#preset").querySelectorAll("optgroup");
  options(percent, "percent", PERCENTILES, (name) => name);
  options(ct, "ct", CT_WINDOWS, (name, [level, width]) => `${name} (L ${level}, W ${width})`);
  for (const [id, action] of Object.entries(SETTINGS)) {
    const input = $(`#${id}`);
    input.oninput = () => { guarded(() => action(input)); redraw(); };
  }
  guarded(() => SETTINGS.opacity($("#opacity")));
  $("#auto").onclick = () => act(() => { viewer.percentile_window(0.5, 99.5); showWindow(); });
  $("#play").onclick = () => play();
  $("#worst").onclick = () => act(() => viewer.go_to_worst(current));
  $("#surfaces").onclick = () => withTools(async (tools) => {
    surfaces = await tools.surfaceScores(Number($("#tolerance").value));
    showLabels();
  });
  for (const id of ["tools", "predict", "meshes", "headers"]) $(`#${id}`).ontoggle = () => load(id).then((module) => module.show()).catch(failed);
  [...$("#layout").children].forEach((button, i) => { button.onclick = () => showPlanes(i ? i - 1 : undefined); });
  $("#fit").onclick = fit;
  $("#help-open").onclick = help;
  $("#help button").onclick = () => $("#help").close();
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || $("#help").open) return;
    const typing = event.target.closest?.("input, select, textarea");
    if (typing || (event.key === " " && event.target.closest?.("button, summary"))) return;
    if (pressed(event.key)) event.preventDefault();
  });
  canvases.forEach(listenToCanvas);
}

function listenToCanvas(canvas, plane) {
  // The position of each pointer that is down, and what the first one does.
  const pointers = new Map();
  let drag = null;
  const scale = () => canvas.width / canvas.getBoundingClientRect().width;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.x) * (canvas.width / box.width), (event.clientY - box.y) * (canvas.height / box.height)];
  };
  const point = (event) => act(() => viewer.point_at(...size(plane), ...place(event)));
  // Two fingers: their middle and distance.
  const pinch = () => {
    const [[ax, ay], [bx, by]] = [...pointers.values()];
    return { middle: [(ax + bx) / 2, (ay + by) / 2], apart: Math.max(Math.hypot(ax - bx, ay - by), 1) };
  };
  const slide = canvas.parentElement.querySelector(".slide");
  slide.oninput = () => act(() => viewer.go_to_slice(plane, slide.value - 1));
  slide.onfocus = canvas.onfocus = () => { current = plane; };
  canvas.oncontextmenu = (event) => event.preventDefault();
  canvas.ondblclick = () => showPlanes(single ? undefined : plane);
  canvas.onpointerdown = (event) => {
    current = plane;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
    if (pointers.size === 2) {
      drag = { kind: "pinch", ...pinch() };
      return;
    }
    if (host.tool?.down(event, plane, place(event))) {
      drag = { kind: "tool" };
      return;
    }
    const [low, high] = viewer.window();
    const kind = event.shiftKey || event.button === 2 ? "window" : event.ctrlKey || event.metaKey || event.button === 1 ? "pan" : "point";
    drag = { kind, x: event.clientX, y: event.clientY, level: (low + high) / 2, width: high - low };
    if (kind === "point") point(event);
  };
  canvas.onpointermove = (event) => {
    if (!drag) return host.tool?.hover?.(event, plane, place(event));
    if (pointers.has(event.pointerId)) pointers.set(event.pointerId, place(event));
    if (drag.kind === "tool") return host.tool?.move(event, plane, place(event));
    if (drag.kind === "point") return point(event);
    if (drag.kind === "pinch") {
      if (pointers.size !== 2) return;
      const { middle, apart } = pinch();
      const before = drag;
      drag = { kind: "pinch", middle, apart };
      return act(() => {
        viewer.pan(...size(plane), middle[0] - before.middle[0], middle[1] - before.middle[1]);
        viewer.zoom(...size(plane), apart / before.apart, ...middle);
      });
    }
    const by = [event.clientX - drag.x, event.clientY - drag.y];
    if (drag.kind === "pan") {
      [drag.x, drag.y] = [event.clientX, event.clientY];
      return act(() => viewer.pan(...size(plane), by[0] * scale(), by[1] * scale()));
    }
    const step = valueSpan()[1] / 400;
    guarded(() => setWindow(drag.level - by[1] * step, drag.width + by[0] * step));
  };
  canvas.onpointerup = canvas.onpointercancel = (event) => {
    pointers.delete(event.pointerId);
    if (drag?.kind === "tool") host.tool?.up(event, plane, place(event));
    drag = null;
  };
  let wheel = 0;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey) return act(() => viewer.zoom(...size(plane), Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), ...place(event)));
    // One notch of a wheel is about 100 pixels; a touchpad sends many smaller steps.
    wheel += event.deltaMode === 0 ? event.deltaY / 100 : event.deltaY / 3;
    const steps = Math.abs(wheel) >= 1 || event.deltaMode !== 0 || Math.abs(event.deltaY) >= 40 ? Math.sign(wheel) * Math.max(1, Math.trunc(Math.abs(wheel))) : 0;
    if (steps) {
      wheel = 0;
      act(() => viewer.step(plane, 0, 0, steps));
    }
  }, { passive: false });
  canvas.onkeydown = (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const end = { Home: 0, End: 1e6 }[event.key];
    const move = { ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, -1, 0], ArrowDown: [0, 1, 0], PageUp: [0, 0, -1], PageDown: [0, 0, 1] }[event.key];
    if (!move && end === undefined) return;
    event.preventDefault();
    act(() => (move ? viewer.step(plane, ...move) : viewer.go_to_slice(plane, end)));
  };
}

// What modules that are loaded on demand work with.
const host = {
  $, canvases, names, files, afterDraw, act, guarded, failed, redraw, refresh, busy, addError, open, openVolumes, fetchFile, load, tools, change, showPlanes, showWindow, showLabels, setNames, size, cell, labelRows, number,
  clear, tool: null, viewer: () => viewer, unit: () => unit, length, current: () => current, single: () => single,
};

start()
  .catch((error) => {
    loadError = `The viewer could not start: ${error.message ?? error}.`;
    showError();
  })
  .finally(() => requestAnimationFrame(() => { document.body.dataset.ready = "true"; }));
