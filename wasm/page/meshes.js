// The panel with surfaces of labels in 3-D. A worker makes them; WebGL draws them, or the worker where there is none.
import { download, element } from "./elements.js";
import { Requests } from "./requests.js";
import { renderer } from "./webgl.js";

const LAYERS = ["mask", "truth"];
// The axes of the picture in RAS: to the right, up, and toward the viewer.
const VIEWS = {
  Anterior: [-1, 0, 0, 0, 0, 1, 0, 1, 0],
  Posterior: [1, 0, 0, 0, 0, 1, 0, -1, 0],
  Left: [0, -1, 0, 0, 0, 1, -1, 0, 0],
  Right: [0, 1, 0, 0, 0, 1, 1, 0, 0],
  Superior: [1, 0, 0, 0, 1, 0, 0, 0, 1],
  Inferior: [-1, 0, 0, 0, 1, 0, 0, 0, -1],
};
// From the front, a little from the left and above.
const START = turned(turned(VIEWS.Anterior, 1, 0.45), 0, -0.3);
const LETTERS = ["RL", "AP", "SI"];
const WORDS = [["right", "left"], ["front", "back"], ["above", "below"]];
const KEY_TURN = Math.PI / 36;
const UPDATE_MS = 120;
const NOTHING = { labels: [], colors: new Uint8Array(0) };

let host;
const mesher = new Requests("mesher.js", "making surfaces", () => {
  forget();
  shown.labels.forEach((label) => gl?.remove(label));
});
let ui;
let gl;
let axes = START;
// The shift of the middle of the picture in millimetres, along its axes, and the zoom.
let shift = [0, 0];
let zoom = 1;
// Centre and radius of what is shown.
let ball = [0, 0, 0, 1];
// The voxels that the worker has: the layer and its files; and the corrections since then, pairs of an offset and a label.
let sent = "";
let changes = [];
const numbers = new WeakMap();
let numbered = 0;
let shown = NOTHING;
let drawing = false;
let again = false;
let updating;
let turn = 0;

// Called by the page before anything else.
export function connect(page) {
  host ??= page;
  return { show };
}

const viewer = () => host.viewer();
// Nothing is sent for corrections while the panel is closed; with many of them, the whole mask is sent again.
const MAX_CHANGES = 1 << 20;

function forget() {
  sent = "";
  changes = [];
}

function painted(pairs) {
  if (!sent) return;
  changes.push(pairs);
  if (changes.reduce((sum, some) => sum + some.length, 0) > 2 * MAX_CHANGES) forget();
}

// The axes of a picture after a turn about one of them. About the first (to the right) the front moves up, about the second (up) to the
// left.
function turned(from, about, angle) {
  const rows = [0, 3, 6].map((i) => from.slice(i, i + 3));
  const [a, b] = about === 0 ? [1, 2] : [2, 0];
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const mix = (one, two, c, s) => one.map((v, i) => c * v + s * two[i]);
  [rows[a], rows[b]] = [mix(rows[a], rows[b], cos, sin), mix(rows[b], rows[a], cos, -sin)];
  return orthonormal(rows).flat();
}

// Many turns add up rounding errors.
function orthonormal([right, up]) {
  const dot = (u, v) => u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
  const unit = (v) => v.map((x) => x / Math.sqrt(dot(v, v)));
  const x = unit(right);
  const y = unit(up.map((v, i) => v - dot(up, x) * x[i]));
  return [x, y, [x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]]];
}

function say(text, bad = false) {
  ui.status.textContent = text;
  ui.status.style.color = bad ? "var(--bad)" : "";
}

const failed = (error) => say(`${error.message ?? error}`.replace(/\.?$/, "."), true);

// Builds the panel once; afterwards opens and closes it.
function show() {
  const box = host.$("#meshes");
  if (!ui) build(box);
  place();
  if (box.open) update();
}

// The picture is there while the panel is open. What was beside the third plane gets a row of its own.
function place() {
  const is = host.$("#meshes").open && !host.$("#meshes").hidden;
  if (ui.figure.hidden === !is) return;
  ui.figure.hidden = !is;
  host.$("#under").style.gridColumn = is ? "1 / -1" : "";
  host.redraw();
}

function build(box) {
  const edge = (side) => element("span", { className: `edge ${side}` });
  ui = {
    caption: element("span", { className: "seen" }),
    edges: [..."lrtb"].map(edge),
    layer: element("select", { id: "meshes-layer", ariaLabel: "Layer whose surfaces are shown" }, ...LAYERS.map((name) => new Option(name))),
    smooth: element("input", { id: "meshes-smooth", type: "number", min: 0, max: 100, value: 20 }),
    stl: element("button", { id: "meshes-stl", textContent: "Save STL", title: "A file for each label that is shown", disabled: true }),
    ply: element("button", { id: "meshes-ply", textContent: "Save PLY", title: "All labels that are shown, in their colours", disabled: true }),
    table: element("table", { id: "meshes-table", hidden: true }),
    status: element("p", { id: "meshes-status", className: "hint", role: "status" }),
  };
  ui.figure = element("figure", { className: "view on", id: "meshes-view" }, element("figcaption", {}, element("span", { textContent: "3-D" }), ui.caption), ...ui.edges);
  // Below a single plane the rows have no height of their own.
  document.head.append(element("style", { textContent: "#views.single #meshes-view { min-height: 300px; }" }));
  newCanvas();
  ui.figure.hidden = true;
  host.$("#under").before(ui.figure);
  const views = Object.entries(VIEWS).map(([name, view]) => element("button", { textContent: name, onclick: () => { axes = view; shift = [0, 0]; changed(); } }));
  const group = element("div", { className: "checks", role: "group", ariaLabel: "Seen from" }, ...views, element("button", { textContent: "Reset", onclick: reset }));
  box.append(
    group,
    element("div", { className: "checks" }, ui.layer, element("label", { title: "Passes of smoothing; with 0 the faces of the voxels are shown" }, "Smooth ", ui.smooth), ui.stl, ui.ply),
    ui.table,
    ui.status,
    element("p", { className: "hint", textContent: "Drag or the arrow keys turn, the wheel, + and − zoom, Ctrl-drag moves, 0 resets. A double click on a surface puts the crosshair there." }),
  );
  ui.layer.oninput = update;
  ui.smooth.onchange = update;
  ui.stl.onclick = () => saveStl().catch(failed);
  ui.ply.onclick = () => savePly().catch(failed);
  // Files, names and corrections change the table of labels; its boxes show and hide labels.
  new MutationObserver(later).observe(host.$("#labels tbody"), { childList: true });
  host.$("#labels").addEventListener("input", later);
  host.onPaint = painted;
}

// A canvas without WebGL after one that lost it.
function newCanvas(withoutGl = false) {
  const canvas = element("canvas", { id: "meshes-canvas", tabIndex: 0 });
  canvas.setAttribute("role", "img");
  canvas.style.cursor = "grab";
  if (ui.canvas) ui.canvas.replaceWith(canvas);
  else ui.edges[1].before(canvas);
  ui.canvas = canvas;
  gl = withoutGl ? undefined : renderer(canvas);
  document.body.dataset.meshes = gl ? "webgl" : "software";
  canvas.addEventListener("webglcontextlost", () => { newCanvas(true); update(); });
  new ResizeObserver(changed).observe(canvas);
  listen(canvas);
}

function later() {
  clearTimeout(updating);
  updating = setTimeout(update, UPDATE_MS);
}

// The number of an object that stays the same as long as the object does.
function identity(object) {
  if (!object) return 0;
  if (!numbers.has(object)) numbers.set(object, ++numbered);
  return numbers.get(object);
}

// Brings the surfaces up to date with the labels of the page.
async function update() {
  place();
  if (ui.figure.hidden) return;
  const mine = ++turn;
  try {
    const present = LAYERS.filter((_, i) => viewer().has(i + 1));
    [...ui.layer.options].forEach((option, i) => { option.disabled = !viewer().has(i + 1); });
    if (ui.layer.selectedOptions[0]?.disabled !== false && present.length) ui.layer.value = present[0];
    ui.layer.hidden = present.length < 2;
    const role = ui.layer.selectedIndex + 1;
    const state = [role, identity(host.files[role]), identity(host.files[0]), host.blanks ?? 0].join(" ");
    if (state !== sent) {
      const voxels = viewer().label_values(role);
      if (!voxels.length) {
        nothing("Surfaces need a mask or a truth on the grid of the image.");
        return;
      }
      say("Making surfaces");
      [sent, changes] = [state, []];
      await mesher.ask("voxels", { grid: viewer().grid(), voxels }, { transfer: [voxels.buffer] });
    } else if (changes.length) {
      // Only the mask is corrected.
      const pairs = changes.flatMap((some) => [...some]);
      changes = [];
      if (role === 1) await mesher.ask("change", { pairs: Uint32Array.from(pairs) });
    }
    await mesher.ask("smoothing", { passes: Number(ui.smooth.value) });
    const key = role === 1 ? "mask" : "truth";
    const rows = host.labelRows().filter((row) => row.shown && row[key] > 0);
    const made = [];
    for (const row of rows) {
      const { measures, ...mesh } = await mesher.ask("make", { label: row.value, wanted: Boolean(gl), known: gl?.has(row.value) });
      if (mine !== turn) return;
      if (measures.length) made.push({ ...row, measures });
      if (mesh.positions) gl?.set(row.value, mesh);
    }
    const labels = made.map((row) => row.value);
    const found = await mesher.ask("ball", { labels: Uint16Array.from(labels) });
    if (mine !== turn) return;
    if (found.length) ball = [...found];
    shown = { labels, names: made.map((row) => row.name), colors: Uint8Array.from(made.flatMap((row) => row.color.match(/\d+/g).map(Number))) };
    list(made);
    changed();
    document.body.dataset.meshesMade = labels.join(" ");
  } catch (error) {
    forget();
    if (mine === turn) failed(error);
  }
}

function nothing(text) {
  shown = NOTHING;
  forget();
  list([]);
  say(text);
  changed();
}

// The table of what is shown.
function list(rows) {
  ui.table.hidden = !rows.length;
  ui.stl.disabled = ui.ply.disabled = !rows.length;
  const head = element("tr");
  for (const title of ["Surface", "mm²", "ml", "parts"]) host.cell(head, "th", title).scope = "col";
  ui.table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows.map(({ name, color, measures }) => {
    const [, , area, ml, voxelMl, parts, cavities] = measures;
    const row = element("tr");
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = color;
    host.cell(row, "td", "").append(swatch, name);
    host.cell(row, "td", area.toFixed(1));
    host.cell(row, "td", ml.toFixed(3)).title = `${voxelMl.toFixed(3)} ml of voxels`;
    host.cell(row, "td", parts).title = `${parts} connected parts, ${cavities} cavities`;
    return row;
  })));
  const triangles = rows.reduce((sum, row) => sum + row.measures[1], 0);
  say(rows.length ? `${triangles} triangles, drawn ${gl ? "with WebGL" : "on the processor"}` : "No label is shown.");
}

function camera() {
  const scale = (0.5 * zoom * Math.min(ui.canvas.width, ui.canvas.height)) / (ball[3] * 1.05);
  const center = [0, 1, 2].map((i) => ball[i] - shift[0] * axes[i] - shift[1] * axes[3 + i]);
  return Float32Array.from([...axes, ...center, scale]);
}

// The letter, or word, of the direction in the patient that is nearest to a direction in the picture.
function nearest(direction, names) {
  const sizes = direction.map(Math.abs);
  const axis = sizes.indexOf(Math.max(...sizes));
  return names[axis][direction[axis] > 0 ? 0 : 1];
}

// Draws after any change. While the worker draws, later changes wait for it.
function changed() {
  const box = ui.canvas.getBoundingClientRect();
  const [width, height] = [box.width, box.height].map((length) => Math.round(length * devicePixelRatio));
  if (!width || !height) return;
  const minus = (v) => v.map((x) => -x);
  const [right, up, near] = [0, 3, 6].map((i) => axes.slice(i, i + 3));
  [minus(right), right, up, minus(up)].forEach((direction, i) => { ui.edges[i].textContent = shown.labels.length ? nearest(direction, LETTERS) : ""; });
  const from = nearest(near, WORDS);
  ui.caption.textContent = shown.labels.length ? `from ${from === "front" || from === "back" ? `the ${from}` : from}` : "";
  ui.canvas.setAttribute("aria-label", shown.labels.length ? `Surfaces of ${shown.names.join(", ")}, seen ${ui.caption.textContent}` : "Surfaces in 3-D, empty");
  ui.canvas.dataset.camera = camera().join(",");
  ui.canvas.dataset.place = [box.x, box.y, box.width, box.height].map(Math.round).join(",");
  if (gl) {
    if (ui.canvas.width !== width) ui.canvas.width = width;
    if (ui.canvas.height !== height) ui.canvas.height = height;
    gl.draw({ ...shown, camera: camera(), far: ball[3] + Math.hypot(...shift) + 1 });
    return;
  }
  if (drawing) {
    again = true;
    return;
  }
  if (ui.canvas.width !== width) ui.canvas.width = width;
  if (ui.canvas.height !== height) ui.canvas.height = height;
  const target = ui.canvas.getContext("2d");
  if (!shown.labels.length) {
    target.clearRect(0, 0, width, height);
    return;
  }
  drawing = true;
  mesher.ask("draw", { width, height, camera: camera(), labels: Uint16Array.from(shown.labels), colors: shown.colors })
    .then((pixels) => target.putImageData(new ImageData(pixels, width, height), 0, 0))
    .catch(failed)
    .finally(() => {
      drawing = false;
      document.body.dataset.meshesDrawn = Number(document.body.dataset.meshesDrawn ?? 0) + 1;
      if (again) changed();
      again = false;
    });
}

function reset() {
  [axes, shift, zoom] = [START, [0, 0], 1];
  changed();
}

// Turns what is shown, so that its front moves to the right and down.
function turnBy(right, down) {
  axes = turned(turned(axes, 1, -right), 0, -down);
  changed();
}

function zoomBy(factor) {
  zoom = Math.min(Math.max(zoom * factor, 0.2), 40);
  changed();
}

function listen(canvas) {
  const pointers = new Map();
  const distance = () => {
    const [[ax, ay], [bx, by]] = [...pointers.values()];
    return Math.max(Math.hypot(ax - bx, ay - by), 1);
  };
  canvas.oncontextmenu = (event) => event.preventDefault();
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    canvas.style.cursor = "grabbing";
  };
  canvas.onpointermove = (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const apart = pointers.size === 2 ? distance() : 0;
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pointers.size === 2) return zoomBy(distance() / apart);
    const [x, y] = [event.clientX - before[0], event.clientY - before[1]];
    const size = canvas.getBoundingClientRect();
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.buttons & 6) {
      const mm = devicePixelRatio / camera()[12];
      shift = [shift[0] + x * mm, shift[1] - y * mm];
      return changed();
    }
    // Half a turn across the picture.
    const full = Math.PI / Math.min(size.width, size.height);
    return turnBy(x * full, y * full);
  };
  canvas.onpointerup = canvas.onpointercancel = (event) => {
    pointers.delete(event.pointerId);
    canvas.style.cursor = "grab";
  };
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)));
  }, { passive: false });
  canvas.ondblclick = (event) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.x, event.clientY - box.y].map((at) => at * devicePixelRatio);
    mesher.ask("pick", { width: canvas.width, height: canvas.height, camera: camera(), labels: Uint16Array.from(shown.labels), x, y })
      .then((found) => { if (found.length) host.act(() => viewer().go_to_ras(found[0], found[1], found[2])); })
      .catch(failed);
  };
  canvas.onkeydown = (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const step = KEY_TURN * (event.shiftKey ? 3 : 1);
    const action = {
      ArrowLeft: () => turnBy(-step, 0), ArrowRight: () => turnBy(step, 0), ArrowUp: () => turnBy(0, -step), ArrowDown: () => turnBy(0, step),
      "+": () => zoomBy(1.25), "=": () => zoomBy(1.25), "-": () => zoomBy(0.8), 0: reset,
    }[event.key];
    if (!action) return;
    event.preventDefault();
    // The same keys move the planes.
    event.stopPropagation();
    action();
  };
}

async function saveStl() {
  for (const [i, label] of shown.labels.entries()) {
    const name = shown.names[i];
    download(`${label}_${name.replace(/[^\p{L}\p{N}_-]/gu, "_").slice(0, 60)}.stl`, "model/stl", await mesher.ask("stl", { label, name }));
  }
}

async function savePly() {
  const { labels, names, colors } = shown;
  const base = host.names[ui.layer.selectedIndex + 1].replace(/\.(nii|nrrd|nhdr|mha|mhd|hdr|img|dcm)(\.gz)?$/i, "").replace(/[^\w.-]+/g, "_") || "surfaces";
  download(`${base}.ply`, "application/octet-stream", await mesher.ask("ply", { labels: Uint16Array.from(labels), names: names.join("\n"), colors }));
}
