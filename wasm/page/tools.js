// The parts of the viewer that are loaded on demand: measuring, correcting, sessions, label files, surface scores, resampling, the
// list of keys. The computations are in a WebAssembly module of its own.
import init, * as wasm from "./sulcus_viewer_tools.js";
import { download, element } from "./elements.js";

const KEYS = [
  ["← → ↑ ↓", "a voxel, in the selected plane"],
  ["PgUp PgDn", "a slice (also: wheel)"],
  ["Home End", "first, last slice"],
  ["1 2 3, 4", "one plane, all planes (also: double click)"],
  ["+ −, 0", "zoom, fit (also: Ctrl-wheel, two fingers)"],
  ["Ctrl-drag", "moves the picture (also: middle button, two fingers)"],
  ["Shift-drag", "window and level (also: right button)"],
  ["A, C", "automatic window, next colours"],
  ["S, X, N", "smooth, crosshair, left is left"],
  ["M, T", "style of the mask, of the truth"],
  ["[ ]", "opacity"],
  ["D, F, B", "differences, flicker or its other picture, both layers"],
  ["W", "slice with most differences"],
  [", . and Space", "volume before, after, play"],
  ["Click on a label", "its centre; with Shift: its largest slice"],
  ["Enter, Esc", "while measuring: a point at the crosshair (twice closes a polygon); ends measuring and correcting"],
  ["Ctrl-Z, Ctrl-Y", "while correcting: undo, redo"],
  ["J K, Y R U, E", "in a review: next and previous case, accept, reject, open again, note"],
  ["?", "this list"],
];
const PLANES = ["axial", "coronal", "sagittal"];
const SVG = "http://www.w3.org/2000/svg";
const SAVED = ["colormap", "slab", "projection", "channel", "smooth", "crosshair", "neurological", "opacity", "mask-style", "truth-style", "comparison", "swipe"];
// The numbers of points; a polygon ends where the user ends it.
const POINTS = { distance: 2, angle: 3, ellipse: 2, polygon: Infinity };
const MAX_CORNERS = 1000;
// Points that are nearer to each other, in CSS pixels, are the same.
const SAME = 6;

const HINTS = {
  distance: "Drag on a picture, or click at both ends.",
  angle: "Click at an end, the corner and the other end.",
  ellipse: "Drag on a picture from one corner of the ellipse to the other.",
  polygon: "Click at each corner, and at the last or first one again to close it (with the keyboard: Enter).",
  brush: "Drag on a picture to paint the label. Esc ends it.",
  erase: "Drag on a picture to erase. Esc ends it.",
  fill: "Click into a region to give it the label. Esc ends it.",
};

let host;
let ready;
let editor;
let unsaved = false;
// Finished measurements, and the one that is being made.
const measures = [];
let open = null;

// Called by the page before anything else.
export async function connect(page) {
  host ??= page;
  host.unsaved = () => unsaved;
  ready ??= init({ module_or_path: new URL("sulcus_viewer_tools_bg.wasm", import.meta.url) });
  await ready;
  return module;
}

const viewer = () => host.viewer();
function showHelp() {
  const list = host.$("#help dl");
  if (!list.children.length) {
    for (const [keys, action] of KEYS) {
      host.cell(list, "dt", keys);
      host.cell(list, "dd", action);
    }
  }
  host.$("#help").showModal();
}

function surfaceScores(tolerance) {
  const values = host.labelRows().map((row) => row.value);
  const [mask, truth] = [viewer().label_values(1), viewer().label_values(2)];
  if (!mask.length || !truth.length) throw "HD95 and NSD need a mask and a truth on the same grid.";
  const scores = wasm.surface_scores(viewer().grid(), mask, truth, Uint16Array.from(values), tolerance);
  return new Map(values.map((value, i) => [value, [...scores.subarray(2 * i, 2 * i + 2)]]));
}

// A session, or names of labels: of a data set of nnU-Net, or of a label file of another program.
async function openOther(file, path, role) {
  const text = await file.text();
  let data;
  if (host.cohort && /\.csv$/i.test(path) && text.includes("verdict")) return host.cohort.restore(text);
  if (/\.json$/i.test(path)) {
    try {
      data = JSON.parse(text);
    } catch {
      throw "this is not JSON";
    }
    if (data?.format === "sulcus.view") return restore(data);
  }
  const roles = [1, 2].filter((layer) => (role ? layer === role : viewer().has(layer)));
  if (!roles.some((layer) => viewer().has(layer))) throw "open a mask first: this file has names of labels";
  let labels;
  if (data && !Array.isArray(data.labels) && typeof data.labels === "object") {
    labels = namesOfDataset(data.labels);
  } else if (data?.format === "sulcus.labels") {
    labels = data.labels;
  } else {
    const lines = wasm.label_entries(text).split("\n").filter(Boolean).map((line) => line.split("\t"));
    labels = lines.map(([value, r, g, b, name]) => ({ value: Number(value), name, color: [r, g, b].map(Number) }));
  }
  for (const layer of roles) host.setNames(layer, labels);
}

// `{ "background": 0, "liver": 1 }`, or in older data sets `{ "0": "background", "1": "liver" }`. Regions are not labels.
function namesOfDataset(labels) {
  const pairs = Object.entries(labels).map(([key, value]) => (typeof value === "string" ? [value, Number(key)] : [key, value]));
  const colors = new Map(host.labelRows().map((row) => [row.value, row.color.match(/\d+/g).map(Number)]));
  return pairs
    .filter(([, value]) => Number.isInteger(value) && value > 0)
    .map(([name, value]) => ({ value, name, color: colors.get(value) ?? [230, 159, 0] }));
}

// The view as plain data: what a session file has, and what an address can have.
function getState() {
  const value = (input) => (input.type === "checkbox" ? input.checked : input.options ? input.selectedIndex : Number(input.value));
  const state = Object.fromEntries(SAVED.map((id) => [id, value(host.$(`#${id}`))]));
  const hidden = host.labelRows().filter((row) => !row.shown).map((row) => row.value);
  return { ...state, at: [...viewer().readout().slice(3, 6)], window: [...viewer().window()], camera: [...viewer().camera()], plane: host.single() ? host.current() : undefined, hidden };
}

function setState(state) {
  const numbers = (list) => (Array.isArray(list) ? list : String(list).split(",")).map(Number);
  host.guarded(() => {
    for (const id of SAVED) if (state[id] !== undefined && state[id] !== null) host.change(id, state[id]);
    if (state.window) viewer().set_window(...numbers(state.window));
    if (state.at) viewer().go_to_ras(...numbers(state.at));
    if (state.camera) viewer().set_camera(Float64Array.from(numbers(state.camera)));
    if (state.hidden) for (const { value: label } of host.labelRows()) viewer().show_label(label, !numbers(state.hidden).includes(label));
    if (state.plane !== undefined && state.plane !== null) host.showPlanes(Math.min(Math.max(Number(state.plane) || 0, 0), 2));
    host.showWindow();
    host.showLabels();
  });
  host.redraw();
}

// What an address asks for: a view, a cohort, and a model to predict with.
async function follow(state) {
  if (state.cases) await host.load("cohort").then((module) => module.useAddress(state.cases)).catch(host.failed);
  setState(state);
  if (state.view) await followView(state.view, state.view_name).catch(host.failed);
  if (state.embedded) await host.load("bridge");
  if (state.model) await (await host.load("predict")).useAddress(state.model, state.model_name);
}

async function followView(address, shown) {
  const { name, blob, error } = await host.fetchFile(undefined, address, shown);
  try {
    if (error) throw `could not be loaded: ${error}`;
    const view = JSON.parse(await blob.text());
    if (view?.format !== "sulcus.view") throw "this is no saved view";
    restore(view);
  } catch (reason) {
    throw `${name}: ${reason.message ?? reason}.`;
  }
}

// Puts layers that lie on another grid on that of the image.
async function resample() {
  if (viewer().sides_unknown()) throw "The image does not state where it lies in the patient, so nothing can be resampled to it.";
  for (const role of viewer().misplaced()) {
    const name = host.names[role];
    host.busy(`Resampling ${name}`);
    // The page shows that before the work begins.
    await new Promise((go) => setTimeout(go, 30));
    try {
      const bytes = wasm.resampled(new Uint8Array(await host.files[role].arrayBuffer()), viewer().grid(), role < 3);
      await host.open(new Blob([bytes]), name, role, `${name.replace(/\.gz$/i, "")} (resampled)`);
    } catch (error) {
      throw `${name}: ${error.message ?? error}.`;
    } finally {
      host.busy();
    }
  }
  host.refresh();
}

const view = () => ({ format: "sulcus.view", format_version: 1, files: [...host.names], ...getState(), measures });
const save = () => download("view.json", "application/json", JSON.stringify(view(), null, 1));

function restore(view) {
  if (view.format_version !== 1) throw `this session has version ${view.format_version}; this viewer reads version 1`;
  setState(view);
  const isPoint = (point) => Array.isArray(point) && point.length === 3 && point.every(Number.isFinite);
  const isMeasure = (m) => Array.isArray(m?.points) && (m.kind === "polygon" ? m.points.length > 2 && m.points.length <= MAX_CORNERS : POINTS[m.kind] === m.points.length) && m.points.every(isPoint) && PLANES[m.plane];
  measures.splice(0, measures.length, ...(view.measures ?? []).filter(isMeasure).map(({ kind, plane, points }) => ({ kind, plane, points })));
  measures.forEach(evaluate);
  showTools();
  listMeasures();
  const other = (view.files ?? []).filter((name, i) => name && name !== host.names[i]);
  if (other.length) throw `the view was restored, but it was saved with other files: ${other.join(", ")}`;
}

// The value of a measurement, as data and as text.
function evaluate(measure) {
  const [a, b, c] = measure.points.map((point) => Float64Array.from(point));
  if (measure.kind === "distance") {
    measure.value = wasm.distance_mm(a, b);
    measure.text = `${measure.value.toFixed(1)} ${host.length()}`;
  } else if (measure.kind === "angle" && c) {
    measure.value = wasm.angle_degrees(a, b, c);
    measure.text = `${measure.value.toFixed(1)}°`;
  } else if (measure.kind === "ellipse" || (measure.kind === "polygon" && c)) {
    const offsets = wasm.region_offsets(viewer().grid(), measure.plane, Float64Array.from(measure.points.flat()));
    const found = wasm.region_statistics(viewer().grid(), measure.plane, viewer().values_at(offsets));
    measure.region = [...found];
    const [, area, mean, sd] = found;
    // The colours of a picture have no mean.
    const values = Number.isFinite(mean) ? `${host.number(mean)} ± ${host.number(sd)}, ` : "";
    measure.text = found.length ? `${values}${host.number(area)} ${host.length()}²` : "no voxel inside";
  }
}

function shape(kind, attributes) {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function drawMeasures() {
  host.canvases.forEach((canvas, plane) => {
    const view = canvas.parentElement;
    let svg = view.querySelector("svg");
    if (!svg) {
      if (!measures.length && !open && !host.tool) return;
      svg = shape("svg", { "aria-hidden": "true" });
      canvas.after(svg);
    }
    svg.setAttribute("viewBox", `0 0 ${canvas.width} ${canvas.height}`);
    svg.replaceChildren(...[...measures, open].filter((m) => m?.plane === plane && m.points.length).flatMap((m) => drawMeasure(m, plane)));
  });
}

function drawMeasure(measure, plane) {
  const at = measure.points.map((point) => viewer().canvas_at(...host.size(plane), Float64Array.from(point)));
  if (at.some(([, , away]) => !(Math.abs(away) < 0.5))) return [];
  const line = { fill: "none", stroke: "#ffe66b", "stroke-width": 2 * devicePixelRatio };
  const [[ax, ay], [bx, by] = [ax, ay]] = at;
  const drawn = measure.kind === "ellipse"
    ? [shape("ellipse", { ...line, cx: (ax + bx) / 2, cy: (ay + by) / 2, rx: Math.abs(ax - bx) / 2, ry: Math.abs(ay - by) / 2 })]
    : [shape(measure.kind === "polygon" && measure !== open ? "polygon" : "polyline", { ...line, points: at.map(([x, y]) => `${x},${y}`).join(" ") })];
  if (measure.text) {
    const [x, y] = at.at(-1);
    const text = shape("text", { x: x + 6, y: y - 6, fill: "#ffe66b", stroke: "#000", "stroke-width": 3, "paint-order": "stroke", "font-size": 13 * devicePixelRatio });
    text.textContent = measure.text;
    drawn.push(text);
  }
  return drawn;
}

function listMeasures() {
  host.onMeasures?.(measures);
  const list = host.$("#measures");
  if (!list) return;
  list.replaceChildren(...measures.map((measure, i) => {
    const go = element("button", { textContent: `${i + 1}. ${measure.kind}: ${measure.text ?? ""}` });
    go.onclick = () => host.act(() => viewer().go_to_ras(...measure.points[0]));
    const remove = element("button", { textContent: "×", ariaLabel: `Delete measurement ${i + 1}` });
    remove.onclick = () => { measures.splice(i, 1); listMeasures(); };
    return element("li", {}, go, " ", remove);
  }));
  host.$("#csv").disabled = !measures.length;
  host.redraw();
}

function csv() {
  const rows = measures.map((m, i) => {
    const [voxels, area, mean, sd, min, max] = m.region ?? [];
    const unit = { distance: host.length(), angle: "degrees" }[m.kind];
    const points = [0, 1, 2].flatMap((p) => m.points[p] ?? ["", "", ""]);
    const corners = m.kind === "polygon" ? m.points.map((point) => point.join(" ")).join("|") : "";
    return [i + 1, m.kind, PLANES[m.plane], ...points, m.value, unit, voxels, area, mean, sd, min, max, corners];
  });
  const head = ["number", "kind", "plane", "x1", "y1", "z1", "x2", "y2", "z2", "x3", "y3", "z3", "value", "unit", "voxels", `area_${host.length()}2`, "mean", "sd", "min", "max", "corners"];
  return [head, ...rows].map((row) => row.map((value) => value ?? "").join(",")).join("\n") + "\n";
}

function addPoint(kind, plane, point) {
  if (!open || open.kind !== kind || open.plane !== plane) open = { kind, plane, points: [] };
  // A polygon ends at its last or first corner.
  const near = (other) => {
    const [a, b] = [point, other].map((at) => viewer().canvas_at(...host.size(plane), Float64Array.from(at)));
    return Math.hypot(a[0] - b[0], a[1] - b[1]) < SAME * devicePixelRatio;
  };
  const closes = kind === "polygon" && open.points.length > 0 && (near(open.points.at(-1)) || (open.points.length > 2 && near(open.points[0])));
  if (!closes) open.points.push(point);
  if (closes ? open.points.length < 3 : open.points.length < POINTS[kind]) return;
  evaluate(open);
  measures.push(open);
  open = null;
  listMeasures();
}

// Distances and ellipses are drawn by dragging, or like angles and polygons by one click for each point.
function measuring(kind) {
  const ras = (plane, at) => [...viewer().ras_at(...host.size(plane), ...at)];
  let start;
  return {
    kind,
    down(event, plane, at) {
      if (event.button || event.ctrlKey || event.shiftKey || !viewer().slices(0).length) return false;
      start = at;
      host.act(() => addPoint(kind, plane, ras(plane, at)));
      return true;
    },
    move(event, plane, at) {
      if (open?.points.length !== 1 || open.plane !== plane || kind === "angle" || kind === "polygon") return;
      const preview = { ...open, points: [open.points[0], ras(plane, at)] };
      host.guarded(() => evaluate(preview));
      const svg = host.canvases[plane].parentElement.querySelector("svg");
      svg?.replaceChildren(...drawMeasure(preview, plane));
    },
    up(event, plane, at) {
      const dragged = Math.hypot(at[0] - start[0], at[1] - start[1]) > 5 * devicePixelRatio;
      if (dragged && open && kind !== "polygon") host.act(() => addPoint(kind, plane, ras(plane, at)));
    },
    key(event) {
      if (event.key !== "Enter" || event.target.closest?.("button, a, summary")) return false;
      host.act(() => addPoint(kind, host.current(), [...viewer().readout().slice(3, 6)]));
      return true;
    },
  };
}

function startEditor() {
  if (viewer().misplaced().includes(1)) throw "The mask lies on another grid than the image: resample it before you correct it.";
  if (!viewer().has(1)) {
    viewer().add_labels(1);
    // Other modules see by this number that there is another mask, for which there is no file.
    host.blanks = (host.blanks ?? 0) + 1;
  }
  editor ??= new wasm.Editor(viewer().grid(), viewer().label_values(1));
  return editor;
}

function apply(changes) {
  if (!changes.length) return;
  unsaved = true;
  viewer().paint(1, changes);
  host.onPaint?.(changes);
}

function settle() {
  viewer().finish_painting();
  host.refresh();
  host.onEdit?.();
  const [back, again] = editor?.steps() ?? [0, 0];
  host.$("#undo").disabled = !back;
  host.$("#redo").disabled = !again;
}

function correcting(kind) {
  const value = (id) => Number(host.$(id).value);
  const label = () => (kind === "erase" ? 0 : Math.min(Math.max(Math.round(value("#paint")), 1), 65535));
  const voxel = (plane, at) => [...viewer().voxel_at(...host.size(plane), ...at)];
  // Takes back what has other intensities than the window, if it is asked for.
  const inWindow = (changes) => {
    if (kind !== "brush" || !host.$("#in-window").checked || !changes.length) return changes;
    const [low, high] = viewer().window();
    return editor.keep_between(viewer().values_at(changes.filter((_, i) => i % 2 === 0)), low, high);
  };
  let last;
  const stroke = (plane, to, across) => {
    const over = host.$("#keep").checked && kind === "brush" ? 0 : -1;
    apply(inWindow(editor.stroke(Float64Array.from([...last, ...to]), host.$("#sphere").checked ? -1 : across, value("#radius"), label(), over)));
    last = to;
  };
  return {
    kind,
    down(event, plane, at) {
      if (event.button || event.ctrlKey || event.shiftKey || !viewer().slices(0).length) return false;
      host.act(() => {
        startEditor();
        const [i, j, k, across] = voxel(plane, at);
        last = [i, j, k];
        editor.begin();
        if (kind === "fill") apply(editor.fill(Float64Array.from(last), host.$("#sphere").checked ? -1 : across, label()));
        else stroke(plane, last, across);
        // A new label has no colour before its statistics are known.
        if (!host.labelRows().some((row) => row.value === label())) viewer().finish_painting();
      });
      return true;
    },
    move(event, plane, at) {
      if (kind === "fill") return;
      host.act(() => {
        const [i, j, k, across] = voxel(plane, at);
        stroke(plane, [i, j, k], across);
      });
    },
    up() {
      host.act(settle);
    },
    // A ring of the brush's size.
    hover(event, plane, at) {
      const svg = host.canvases[plane].parentElement.querySelector("svg");
      const pixel = viewer().mm_per_pixel(...host.size(plane));
      svg?.querySelector(".ring")?.remove();
      if (kind === "fill" || !svg || !pixel) return;
      const r = Math.max(value("#radius") / pixel, 2);
      svg.append(shape("circle", { class: "ring", cx: at[0], cy: at[1], r, fill: "none", stroke: "#fff", "stroke-width": devicePixelRatio }));
    },
    key(event) {
      const action = (event.ctrlKey || event.metaKey) && { z: undo, y: redo }[event.key.toLowerCase()];
      if (!action) return false;
      action();
      return true;
    },
  };
}

const undo = () => host.act(() => { if (editor) { apply(editor.undo()); settle(); } });
const redo = () => host.act(() => { if (editor) { apply(editor.redo()); settle(); } });

// A correction of a whole label, as one step.
function refine(change) {
  host.act(() => {
    if (!viewer().slices(0).length) throw "Open a scan first.";
    startEditor();
    editor.begin();
    const changes = change(Math.min(Math.max(Math.round(Number(host.$("#paint").value)), 1), 65535));
    apply(changes);
    settle();
    host.$("#done").textContent = changes.length ? `${changes.length / 2} voxels changed` : "nothing to change";
  });
}

const interpolate = () => refine((label) => editor.interpolate(label, viewer().voxel_at(...host.size(host.current()), 0, 0)[3]));
const keepLargest = () => refine((label) => editor.keep_largest(label));

// The mask with names and colours, as a gzipped NIfTI file on the grid of another file.
async function encodeMask(like) {
  const rows = host.labelRows();
  const colors = Uint8Array.from(rows.flatMap((row) => row.color.match(/\d+/g).map(Number)));
  const names = rows.map((row) => row.name).join("\n");
  startEditor();
  return editor.save(new Uint8Array(await like.arrayBuffer()), Uint16Array.from(rows, (row) => row.value), names, colors);
}

// The name of a saved mask, without the ending.
const maskName = (name) => name.replace(/( \(resampled\))?$/, "").replace(/(\.seg)?\.(nii|nrrd|nhdr|mha|mhd|hdr|img|dcm|png|jpe?g|tiff?)(\.gz)?$/i, "").replace(/[^\w.-]+/g, "_") || "mask";

async function saveMask() {
  const like = host.files[1] ?? host.files[0];
  if (!like) throw "There is no file whose grid the mask could have.";
  if (host.unit()) {
    const stack = viewer().grid()[2] > 1;
    const mask = async () => new Blob([wasm.inflate(await encodeMask(like))]);
    const file = await (await host.load("loading")).encodePicture(mask, host.unit());
    download(`${maskName(host.names[1] || host.names[0])}_corrected.${stack ? "tif" : "png"}`, stack ? "image/tiff" : "image/png", file);
    unsaved = false;
    return;
  }
  download(`${maskName(host.names[1] || host.names[0])}_corrected.nii.gz`, "application/gzip", await encodeMask(like));
  unsaved = false;
}

async function saveSegmentation() {
  const loading = await host.load("loading");
  const image = host.files[0];
  const mask = async () => new Blob([wasm.inflate(await encodeMask(image))]);
  const file = await loading.encodeSegmentation(image, mask, host.$("#keep-patient").checked);
  download(`${maskName(host.names[1] || host.names[0])}_seg.dcm`, "application/dicom", file);
  unsaved = false;
}

function use(tool) {
  host.tool = host.tool?.kind === tool?.kind ? null : tool;
  open = null;
  host.$("#hint").textContent = HINTS[host.tool?.kind] ?? "";
  for (const button of document.querySelectorAll("#tools [data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === host.tool?.kind);
  host.redraw();
}

function showTools() {
  const box = host.$("#tools");
  if (box.children.length > 1) return;
  const title = (text) => {
    const made = element("h2", { textContent: text });
    made.style.marginTop = "12px";
    return made;
  };
  const paint = element("input", { id: "paint", type: "number", min: 1, max: 65535, value: 1 });
  // The labels that exist are offered by name; any other number is a new label.
  const known = element("datalist", { id: "labels-known" });
  paint.setAttribute("list", "labels-known");
  paint.onfocus = () => known.replaceChildren(...host.labelRows().map((row) => element("option", { value: row.value, label: row.name })));
  const button = (text, action, properties = {}) => element("button", { textContent: text, onclick: () => host.guarded(action), ...properties });
  const toolButton = (kind, make) => {
    const made = button(kind[0].toUpperCase() + kind.slice(1), () => use(make(kind)), { ariaPressed: "false" });
    made.dataset.tool = kind;
    return made;
  };
  const failed = (error) => host.guarded(() => { throw error; });
  const row = (...children) => element("div", { className: "checks" }, ...children);
  const labelled = (text, input, unit = "") => element("label", {}, text, input, unit);
  box.append(
    element("p", { id: "hint", className: "hint", role: "status" }),
    title("Measure"),
    row(...Object.keys(POINTS).map((kind) => toolButton(kind, measuring)), button("CSV", () => download("measurements.csv", "text/csv", csv()), { id: "csv", disabled: true })),
    element("ul", { id: "measures" }),
    title("Correct the mask"),
    row(...["brush", "erase", "fill"].map((kind) => toolButton(kind, correcting))),
    row(
      labelled("Label", paint),
      known,
      labelled("Radius", element("input", { id: "radius", type: "number", min: 0, max: 100, step: 0.5, value: 2 }), element("span", { className: "unit", textContent: host.length() })),
    ),
    row(
      labelled("In 3-D", element("input", { id: "sphere", type: "checkbox" })),
      labelled("Keep other labels", element("input", { id: "keep", type: "checkbox" })),
      labelled("Only in the window", element("input", { id: "in-window", type: "checkbox", title: "The brush paints only voxels whose intensity lies in the window of the image" })),
    ),
    row(
      button("Interpolate slices", interpolate, { id: "interpolate", title: "Fills the slices of the selected plane between those with this label" }),
      button("Keep largest island", keepLargest, { id: "largest", title: "Removes all connected parts of this label but the largest" }),
      element("small", { id: "done", role: "status" }),
    ),
    row(button("Undo", undo, { id: "undo", disabled: true }), button("Redo", redo, { id: "redo", disabled: true }), button("Save mask", () => saveMask().catch(failed), { id: "save-mask" })),
    row(
      button("Save as DICOM SEG", () => saveSegmentation().catch(failed), { id: "save-seg", title: "A DICOM segmentation of the series that is open" }),
      labelled("With the patient's identity", element("input", { id: "keep-patient", type: "checkbox" })),
    ),
    title("View"),
    row(button("Save view", save, { id: "save-view" }), element("small", { textContent: "Drop a saved view on the page to restore it." })),
  );
  host.afterDraw.push(drawMeasures);
  // A double click ends a polygon, and shows one plane alone only without a tool.
  for (const canvas of host.canvases) canvas.addEventListener("dblclick", (event) => { if (host.tool) event.stopImmediatePropagation(); }, true);
  host.onFiles = (role) => {
    host.$("#tools .unit").textContent = host.length();
    if (role < 2) editor = undefined;
    if (role === 1) unsaved = false;
    if (role === 0) measures.forEach(evaluate);
  };
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && host.tool) use(null);
    else if (host.tool?.key?.(event)) event.preventDefault();
  });
  addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
}

// A view, or only some of its settings; the names of its files do not matter.
function setView({ files, ...state }) {
  if (state.format === "sulcus.view") restore(state);
  else setState(state);
}

// The mask as it is shown: its file, or if it was corrected a new one. Afterwards the corrections count as saved.
async function mask() {
  const like = host.files[1] ?? host.files[0];
  if (!like || !viewer().has(1)) throw "there is no mask";
  const file = editor ? new Blob([await encodeMask(like)]) : host.files[1];
  unsaved = false;
  return file;
}

const discard = () => { unsaved = false; };
const inflate = (bytes) => wasm.inflate(bytes);
const module = { showHelp, surfaceScores, openOther, show: showTools, inflate, resample, follow, view, setView, mask, discard };
