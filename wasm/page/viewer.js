// Passes files and events to the WebAssembly module and draws its pixels. The state is in the module.
import init, { Viewer } from "./sulcus_viewer.js";

const ROLES = ["image", "mask", "truth"];
const PLANES = ["Axial", "Coronal", "Sagittal"];
const STEPS = 1000;

const $ = (selector) => document.querySelector(selector);
const canvases = [...document.querySelectorAll(".view canvas")];
const zones = [...document.querySelectorAll(".zone")];
const names = ["", "", ""];
let viewer;
let loadError = "";
// The time at which loading the first picture began; 0 is the start of loading the page.
let began = 0;
let scheduled = false;

const number = (value) => {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 0.01 || size >= 1e6) ? value.toExponential(2) : String(+value.toFixed(size < 10 ? 3 : 1));
};

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
    loadError = typeof error === "string" ? error : `The viewer stopped (${error.message ?? error}). Reload the page to go on.`;
    showError();
    return undefined;
  }
}

function draw() {
  scheduled = false;
  guarded(() => {
    const line = Math.max(1, Math.round(devicePixelRatio));
    const any = viewer.slices(0).length > 0;
    canvases.forEach((canvas, plane) => {
      const box = canvas.getBoundingClientRect();
      const width = Math.round(box.width * devicePixelRatio);
      const height = Math.round(box.height * devicePixelRatio);
      if (canvas.width !== width) canvas.width = width;
      if (canvas.height !== height) canvas.height = height;
      if (width > 0 && height > 0) {
        canvas.getContext("2d").putImageData(new ImageData(viewer.draw(plane, width, height, line), width, height), 0, 0);
      }
      const view = canvas.parentElement;
      const [slices, slice] = viewer.slices(plane);
      view.querySelector(".slice").textContent = any ? `${slice + 1} / ${slices}` : "";
      const edges = viewer.edges(plane);
      [..."lrtb"].forEach((side, i) => { view.querySelector(`.edge.${side}`).textContent = edges[i] ?? ""; });
      canvas.setAttribute("aria-label", any ? `${PLANES[plane]} slice ${slice + 1} of ${slices}` : `${PLANES[plane]}, empty`);
      canvas.dataset.box = [box.x, box.y, box.width, box.height].map(Math.round).join(",");
    });
    const at = viewer.readout();
    $("#value").textContent = at?.value === undefined ? "–" : number(at.value);
    $("#ras").textContent = at ? `${[...at.ras_mm].map((v) => v.toFixed(1)).join(", ")} mm` : "–";
    $("#voxel").textContent = at ? [...at.voxel].join(", ") : "–";
    $("#at-mask").textContent = at?.mask === undefined ? "–" : at.mask || "background";
    $("#at-truth").textContent = at?.truth === undefined ? "–" : at.truth || "background";
    if (any && !document.body.dataset.firstPictureMs) {
      const spent = Math.round(performance.now() - began);
      document.body.dataset.firstPictureMs = spent;
      $("#timing").textContent = `first picture in ${spent} ms`;
    }
  });
}

function redraw() {
  if (!scheduled) {
    scheduled = true;
    requestAnimationFrame(draw);
  }
}

function showWindow() {
  const [min, max] = viewer.range();
  const [low, high] = viewer.window();
  const has = min !== undefined;
  for (const id of ["level", "width", "auto", "smooth"]) $(`#${id}`).disabled = !has;
  const span = has && max > min ? max - min : 1;
  const level = (low + high) / 2;
  $("#level").value = has ? ((level - min) / span) * STEPS : STEPS / 2;
  $("#width").value = has ? ((high - low) / span) * STEPS : STEPS;
  $("#level").nextElementSibling.textContent = has ? number(level) : "";
  $("#width").nextElementSibling.textContent = has ? number(high - low) : "";
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

function showLabels() {
  const rows = viewer.labels();
  const [mask, truth] = [rows[0]?.mask_voxels !== undefined, rows[0]?.truth_voxels !== undefined];
  $("#labels").hidden = rows.length === 0;
  $("#no-labels").hidden = rows.length > 0;
  const [groups, head] = [document.createElement("tr"), document.createElement("tr")];
  const add = (row, text, columns = 1) => Object.assign(cell(row, "th", text), { colSpan: columns, scope: columns > 1 ? "colgroup" : "col" });
  add(groups, "");
  add(head, "Label");
  for (const name of [mask && "Mask", truth && "Truth"].filter(Boolean)) {
    add(groups, name, 2);
    add(head, "voxels");
    add(head, "ml");
  }
  if (mask && truth) {
    add(groups, "");
    add(head, "Dice");
  }
  $("#labels thead").replaceChildren(groups, head);
  $("#labels tbody").replaceChildren(...rows.map((label) => {
    const row = document.createElement("tr");
    const go = document.createElement("button");
    go.title = `Value ${label.value}: put the crosshair into it`;
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = label.color;
    go.append(swatch, label.name);
    go.onclick = () => guarded(() => { viewer.go_to(label.value); redraw(); });
    cell(row, "td", "").append(go);
    if (mask) { cell(row, "td", label.mask_voxels); cell(row, "td", label.mask_ml.toFixed(3)); }
    if (truth) { cell(row, "td", label.truth_voxels); cell(row, "td", label.truth_ml.toFixed(3)); }
    if (mask && truth) cell(row, "td", label.dice === undefined ? "–" : label.dice.toFixed(4));
    return row;
  }));
}

// Updates the page after the files have changed.
function refresh() {
  guarded(() => {
    zones.forEach((zone, role) => {
      const full = viewer.has(role);
      if (!full) names[role] = "";
      zone.classList.toggle("full", full);
      zone.querySelector(".name").textContent = full ? names[role] : "drop it here";
      zone.querySelector(".name").title = names[role];
      zone.querySelector(".close").hidden = !full;
    });
    $("#swap").disabled = !viewer.has(1) && !viewer.has(2);
    $("#case").textContent = names.find(Boolean) ?? "";
    document.title = names.find(Boolean) ? `${names.find(Boolean)} – Sulcus viewer` : "Sulcus viewer";
    $("#warning").hidden = !viewer.sides_unknown();
    const channels = viewer.channels();
    $("#channels").hidden = channels < 2;
    $("#channel").max = Math.max(channels - 1, 0);
    showWindow();
    showLabels();
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
  viewer.name_labels(role, Uint16Array.from(labels, (l) => l.value), labels.map((l) => l.name), Uint8Array.from(labels.flatMap((l) => l.color)));
}

function open(bytes, name, role) {
  try {
    const got = viewer.load(bytes, role);
    names[got] = name;
    nameLabels(got);
    if (got === 0) {
      $("#channel").value = 0;
      $("#channel").nextElementSibling.textContent = "1";
    }
  } catch (error) {
    const reason = typeof error === "string" ? error : `the viewer stopped (${error.message ?? error}); reload the page`;
    addError(`${name}: ${reason}.`);
  }
}

async function openFiles(files, role) {
  loadError = "";
  began = performance.now();
  const read = await Promise.all([...files].map(async (file) => [new Uint8Array(await file.arrayBuffer()), file.name]));
  for (const [bytes, name] of read) open(bytes, name, files.length === 1 ? role : undefined);
  refresh();
}

async function fetchFile(role, address, shown) {
  const name = shown ?? decodeURIComponent(address.split(/[?#]/)[0].split("/").pop());
  try {
    const url = new URL(address, location.href);
    if (url.origin !== location.origin) throw new Error("only files served with this page can be opened");
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return { role, name, bytes: new Uint8Array(await answer.arrayBuffer()) };
  } catch (error) {
    return { role, name, error: error.message };
  }
}

async function start() {
  const query = new URLSearchParams(location.search);
  const asked = ROLES.map((role, number) => [number, query.get(role), query.get(`${role}_name`) ?? undefined])
    .filter(([, address]) => address)
    .map((request) => fetchFile(...request));
  await init({ module_or_path: new URL("sulcus_viewer_bg.wasm", import.meta.url) });
  viewer = new Viewer();
  listen();
  for (const file of asked) {
    const { role, name, bytes, error } = await file;
    if (error) addError(`${name}: could not be loaded: ${error}.`);
    else open(bytes, name, role);
    refresh();
  }
  refresh();
}

function listen() {
  addEventListener("resize", redraw);
  zones.forEach((zone, role) => {
    const input = zone.querySelector("input");
    input.onchange = async () => { await openFiles(input.files, role); input.value = ""; };
    zone.querySelector(".close").onclick = () => { loadError = ""; guarded(() => viewer.remove(role)); refresh(); };
  });
  $("#swap").onclick = () => {
    guarded(() => viewer.swap_labels());
    [names[1], names[2]] = [names[2], names[1]];
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
    if (event.dataTransfer?.files.length) openFiles(event.dataTransfer.files, zone ? Number(zone.dataset.role) : undefined);
  });

  const act = (id, event, action) => { $(id)[event] = () => { guarded(() => action($(id))); redraw(); }; };
  const share = (id) => Number($(id).value) / STEPS;
  const span = () => { const [min, max] = viewer.range(); return [min, max > min ? max - min : 1]; };
  act("#level", "oninput", () => { const [min, size] = span(); const [low, high] = viewer.window(); setWindow(min + share("#level") * size, high - low); });
  act("#width", "oninput", () => { const [, size] = span(); const [low, high] = viewer.window(); setWindow((low + high) / 2, share("#width") * size); });
  act("#auto", "onclick", () => { viewer.auto_window(); showWindow(); });
  act("#channel", "oninput", (input) => { viewer.set_channel(Number(input.value)); input.nextElementSibling.textContent = Number(input.value) + 1; showWindow(); });
  act("#smooth", "onchange", (input) => viewer.set_smooth(input.checked));
  act("#crosshair", "onchange", (input) => viewer.set_crosshair(input.checked));
  const opacity = (input) => { viewer.set_opacity(input.value / 100); input.nextElementSibling.textContent = `${input.value} %`; };
  act("#opacity", "oninput", opacity);
  opacity($("#opacity"));
  act("#mask-style", "onchange", (input) => viewer.set_style(1, Number(input.value)));
  act("#truth-style", "onchange", (input) => viewer.set_style(2, Number(input.value)));

  canvases.forEach((canvas, plane) => {
    let drag = null;
    const point = (event) => {
      const box = canvas.getBoundingClientRect();
      const [x, y] = [(event.clientX - box.x) * (canvas.width / box.width), (event.clientY - box.y) * (canvas.height / box.height)];
      guarded(() => viewer.point_at(plane, canvas.width, canvas.height, x, y));
      redraw();
    };
    canvas.oncontextmenu = (event) => event.preventDefault();
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId);
      const [low, high] = viewer.window();
      drag = { grey: event.shiftKey || event.button === 2, x: event.clientX, y: event.clientY, level: (low + high) / 2, width: high - low };
      if (!drag.grey) point(event);
    };
    canvas.onpointermove = (event) => {
      if (!drag) return;
      if (!drag.grey) return point(event);
      const size = span()[1] / 400;
      guarded(() => setWindow(drag.level - (event.clientY - drag.y) * size, drag.width + (event.clientX - drag.x) * size));
    };
    canvas.onpointerup = canvas.onpointercancel = () => { drag = null; };
    let wheel = 0;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      // One notch of a wheel is about 100 pixels; a touchpad sends many smaller steps.
      wheel += event.deltaMode === 0 ? event.deltaY / 100 : event.deltaY / 3;
      const steps = Math.abs(wheel) >= 1 || event.deltaMode !== 0 || Math.abs(event.deltaY) >= 40 ? Math.sign(wheel) * Math.max(1, Math.trunc(Math.abs(wheel))) : 0;
      if (steps) {
        wheel = 0;
        guarded(() => viewer.step(plane, 0, 0, steps));
        redraw();
      }
    }, { passive: false });
    canvas.onkeydown = (event) => {
      const move = { ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, -1, 0], ArrowDown: [0, 1, 0], PageUp: [0, 0, -1], PageDown: [0, 0, 1] }[event.key];
      if (!move || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      guarded(() => viewer.step(plane, ...move));
      redraw();
    };
  });
}

start()
  .catch((error) => {
    loadError = `The viewer could not start: ${error.message ?? error}.`;
    showError();
  })
  .finally(() => requestAnimationFrame(() => { document.body.dataset.ready = "true"; }));
