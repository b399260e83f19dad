// Lets the page that embeds this one control it (`wasm/npm/sulcus-viewer.js`). It is loaded only if the address says that the page is
// embedded, and answers only the window around it: over a port that this window sends once.

const ROLES = ["image", "mask", "truth", "map"];
const NIFTI = /\.nii(\.gz)?$/i;
let host;
let tools;
let port;
// What was last told, by the type of the event.
const told = new Map();

// Called by the page before anything else.
export async function connect(page) {
  if (host || parent === window) return {};
  host = page;
  tools = await host.tools();
  // A page in one file has the rights of nobody, so it takes any window around it; another page only its own server's.
  const trusted = (event) => event.source === parent && (event.origin === origin || (origin === "null" && globalThis.sulcusFile));
  addEventListener("message", function first(event) {
    if (!trusted(event) || event.data?.sulcus !== "connect" || !event.ports[0]) return;
    removeEventListener("message", first);
    [port] = event.ports;
    port.onmessage = ({ data }) => answer(data);
    watch();
    port.postMessage({ ready: true });
  });
  parent.postMessage({ sulcus: "embedded" }, "*");
  return {};
}

async function answer({ id, method, parameters }) {
  try {
    if (!Object.hasOwn(METHODS, method)) throw `there is no method ${method}`;
    port.postMessage({ id, result: await METHODS[method](...parameters) });
  } catch (error) {
    port.postMessage({ id, error: String(error.message ?? error).replace(/\.$/, "") });
  }
}

const viewer = () => host.viewer();
const problem = () => host.$("#error").textContent;
const names = () => Object.fromEntries(ROLES.map((role, i) => [role, viewer().has(i) ? host.names[i] : null]));

function labels() {
  return host.labelRows().map(({ value, name, color, shown, ...row }) => {
    const numbers = Object.entries(row).filter(([, number]) => Number.isFinite(number));
    return { value, name, color: color.match(/\d+/g).map(Number), visible: Boolean(shown), ...Object.fromEntries(numbers) };
  });
}

// Opens the files of roles; `null` closes one. A new image closes everything else.
async function load(files) {
  const given = ROLES.filter((role) => files[role] !== undefined);
  const before = [...host.files];
  if (host.unsaved?.() && (files.image !== undefined || files.mask !== undefined)) throw "the mask has corrections that are not saved: get them with getMask, or call discard";
  if (files.image !== undefined) host.clear();
  else host.failed(""); // Forgets the last message.
  for (const role of given.filter((role) => files[role] === null)) close(ROLES.indexOf(role));
  for (const role of given.filter((role) => files[role])) {
    const list = files[role].map(({ blob, name }) => ({ file: blob, path: name }));
    const number = ROLES.indexOf(role);
    if (list.length === 1 && NIFTI.test(list[0].path)) await host.open(list[0].file, list[0].path, number);
    else await (await host.load("loading")).openAll(list, number);
  }
  host.refresh();
  // Events of what was done precede the answer.
  drawn();
  // What could not be opened leaves the file that was there.
  const missing = given.filter((role) => files[role] && [undefined, before[ROLES.indexOf(role)]].includes(host.files[ROLES.indexOf(role)]));
  if (missing.length) throw problem() || `${missing.join(", ")}: nothing was opened`;
  return { files: names(), labels: labels(), problem: problem() || null };
}

const close = (role) => host.$(`.zone[data-role="${role}"] .close`).click();

function setLabels(list, role = "mask") {
  const number = { mask: 1, truth: 2 }[role];
  if (!number) throw `labels belong to a mask or a truth, not to ${role}`;
  if (!viewer().has(number)) throw `there is no ${role}`;
  const known = new Map(labels().map((label) => [label.value, label]));
  const made = list.map(({ value, name, color }) => {
    if (!Number.isInteger(value) || value < 1 || value > 65535) throw `the value of a label is a whole number from 1 to 65535, not ${value}`;
    return { value, name: String(name ?? known.get(value)?.name ?? `label ${value}`), color: colorOf(color ?? known.get(value)?.color ?? [230, 159, 0]) };
  });
  // Sentences of the module name what is wrong with values and names.
  host.setNames(number, made);
  for (const { value, visible } of list) if (visible !== undefined) viewer().show_label(value, Boolean(visible));
  host.refresh();
  return labels();
}

function colorOf(color) {
  const hex = /^#([0-9a-f]{6})$/i.exec(color)?.[1];
  const numbers = hex ? [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)) : color;
  if (!Array.isArray(numbers) || numbers.length !== 3 || !numbers.every((n) => Number.isInteger(n) && n >= 0 && n <= 255)) throw `a colour is #rrggbb or three numbers from 0 to 255, not ${color}`;
  return numbers;
}

function goTo(target) {
  if (!viewer().slices(0).length) throw "nothing is open";
  const numbers = (list) => Array.isArray(list) && list.length === 3 && list.every(Number.isFinite);
  if (numbers(target)) {
    if (host.unit()) throw "a picture has no positions in a patient";
    host.act(() => viewer().go_to_ras(...target));
  } else if (Number.isInteger(target?.label)) {
    if (!labels().some(({ value }) => value === target.label)) throw `there is no label ${target.label}`;
    host.act(() => viewer().go_to(target.label));
  } else {
    throw "a target is a position in RAS millimetres, such as [12, -4, 30], or a label, such as { label: 1 }";
  }
  drawn();
  return place();
}

// What is at the crosshair.
function place() {
  const at = viewer().readout();
  if (!at.length) return null;
  const label = (value) => (!(value >= 0) ? null : { value, name: value === 0 ? "background" : labels().find((row) => row.value === value)?.name ?? `label ${value}` });
  const map = viewer().map_value();
  return {
    voxel: [...at.slice(0, 3)],
    ras: host.unit() ? null : [...at.slice(3, 6)],
    values: [...at.slice(8)],
    mask: label(at[6]),
    truth: label(at[7]),
    map: Number.isFinite(map) ? map : null,
  };
}

// A PNG picture of the planes that are shown, with letters and measurements.
async function screenshot() {
  host.redraw();
  // Browsers draw no pages that nobody sees.
  await new Promise((go) => { requestAnimationFrame(() => requestAnimationFrame(go)); setTimeout(go, 1000); });
  const shown = host.canvases.filter((canvas) => canvas.offsetParent && canvas.width);
  if (!viewer().slices(0).length || !shown.length) throw "nothing is open";
  const boxes = shown.map((canvas) => canvas.getBoundingClientRect());
  const [left, top] = [Math.min(...boxes.map((box) => box.left)), Math.min(...boxes.map((box) => box.top))];
  const scale = devicePixelRatio;
  const made = document.createElement("canvas");
  made.width = Math.round((Math.max(...boxes.map((box) => box.right)) - left) * scale);
  made.height = Math.round((Math.max(...boxes.map((box) => box.bottom)) - top) * scale);
  const context = made.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, made.width, made.height);
  for (const [i, canvas] of shown.entries()) {
    const [x, y] = [Math.round((boxes[i].left - left) * scale), Math.round((boxes[i].top - top) * scale)];
    context.drawImage(canvas, x, y);
    const svg = canvas.parentElement.querySelector("svg");
    if (svg?.children.length) context.drawImage(await drawing(svg, canvas), x, y);
    letters(context, canvas, x, y, scale);
  }
  const blob = await new Promise((go) => made.toBlob(go, "image/png"));
  if (!blob) throw "the browser made no picture";
  return blob;
}

async function drawing(svg, { width, height }) {
  const copy = svg.cloneNode(true);
  for (const [name, value] of Object.entries({ width, height, "font-family": "sans-serif" })) copy.setAttribute(name, value);
  const image = new Image();
  image.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
  await image.decode();
  return image;
}

function letters(context, canvas, x, y, scale) {
  const { width, height } = canvas;
  const space = 10 * scale;
  const places = { l: [space, height / 2], r: [width - space, height / 2], t: [width / 2, space], b: [width / 2, height - space] };
  Object.assign(context, { font: `600 ${13 * scale}px sans-serif`, fillStyle: "#7ddcff", strokeStyle: "#000", lineWidth: 3 * scale, textAlign: "center", textBaseline: "middle" });
  for (const [side, [dx, dy]] of Object.entries(places)) {
    const letter = canvas.parentElement.querySelector(`.edge.${side}`).textContent;
    context.strokeText(letter, x + dx, y + dy);
    context.fillText(letter, x + dx, y + dy);
  }
}

async function predict({ blob, name }, { allowUnchecked = false } = {}) {
  if (!viewer().has(0)) throw "open an image first";
  const panel = await host.load("predict");
  if (!(await panel.useModel(blob, name))) throw host.$("#predict-status").textContent;
  const unchecked = host.$("#predict .banner");
  if (!unchecked.hidden && !allowUnchecked) throw `${unchecked.firstChild.textContent}; allowUnchecked uses it all the same`;
  host.$("#allow-unchecked").checked = allowUnchecked;
  const before = host.files[1];
  host.onProgress = (done) => tell("predict-progress", { done });
  try {
    await panel.predict();
  } finally {
    host.onProgress = undefined;
  }
  const status = host.$("#predict-status");
  if (host.files[1] === before || !host.files[1]) throw status.textContent;
  const warnings = [...host.$("#predict-warnings").children].map((item) => item.textContent);
  return { labels: labels(), warnings, seconds: Number(status.dataset.ms) / 1000 };
}

// A method's arguments and result are what a structured clone can hold.
const METHODS = {
  load,
  setLabels,
  getLabels: labels,
  goTo,
  getState: () => tools.view(),
  setState: (state) => tools.setView(state),
  predict,
  screenshot,
  getMask: () => tools.mask(),
  discard: () => tools.discard(),
};

function tell(type, detail) {
  const text = JSON.stringify(detail);
  if (type !== "edit" && told.get(type) === text) return;
  told.set(type, text);
  port.postMessage({ type, detail });
}

// What the last picture shows that the one before did not.
function drawn() {
  const any = viewer().slices(0).length > 0;
  const files = names();
  if (host.files.some((file, i) => file !== opened[i]) || ROLES.some((role) => Boolean(files[role]) !== Boolean(opened.names?.[role]))) {
    opened = [...host.files];
    opened.names = files;
    told.delete("load");
    tell("load", { files, labels: labels() });
  }
  if (!any) return;
  const at = place();
  tell("location", at);
  tell("label", { mask: at.mask, truth: at.truth });
  const [low, high] = viewer().window();
  if (viewer().has(0)) tell("window", { low, high, level: (low + high) / 2, width: high - low });
  if (viewer().channels() > 1) tell("frame", { frame: Number(host.$("#channel").value), frames: viewer().channels() });
}
let opened = [];

function watch() {
  host.afterDraw.push(drawn);
  host.onMeasures = (measures) => tell("measurement", { measurements: measures });
  host.onEdit = () => tell("edit", { labels: labels() });
  new MutationObserver(() => { if (!host.$("#error").hidden) tell("error", { message: problem() }); else told.delete("error"); })
    .observe(host.$("#error"), { childList: true, attributes: true, characterData: true, subtree: true });
  host.redraw();
}
