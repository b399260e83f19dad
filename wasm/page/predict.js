// Predicts the mask of the open image with a model file, in a worker.
import { element } from "./elements.js";
import { Requests } from "./requests.js";

const MAX_MODEL_BYTES = 2 ** 30;

let host;
// The chosen file with its description, and whether the worker has it.
let model;
let loaded = false;
const engine = new Requests("engine.js", "the engine", () => { loaded = false; });
// Numbers choices of models and predictions.
let number = 0;
// Counts predictions, so that one that was cancelled is forgotten.
let running = 0;
// The number of the last choice of a model.
let chosen = 0;
let ui;

// Called by the page before anything else.
export function connect(page) {
  host ??= page;
  return { show, useModel, useAddress, predict };
}

// Builds the panel once.
function show() {
  const box = host.$("#predict");
  if (ui) return;
  const input = element("input", { type: "file", accept: ".onnx", ariaLabel: "Open a model" });
  input.onchange = () => { if (input.files.length) useModel(input.files[0], input.files[0].name); input.value = ""; };
  ui = {
    about: element("dl", { id: "model" }),
    unchecked: element("div", { className: "banner", hidden: true }),
    allow: element("input", { type: "checkbox", id: "allow-unchecked" }),
    go: element("button", { id: "predict-go", textContent: "Predict", disabled: true, onclick: predict }),
    cancel: element("button", { id: "predict-cancel", textContent: "Cancel", hidden: true, onclick: cancel }),
    bar: element("progress", { id: "predict-bar", hidden: true, ariaLabel: "Progress of the prediction" }),
    status: element("p", { id: "predict-status", className: "hint", role: "status", textContent: "Drop a model (.onnx) of Sulcus on the page, or open one." }),
    warnings: element("ul", { id: "predict-warnings", hidden: true, ariaLabel: "Reasons why the mask may be wrong" }),
  };
  ui.allow.oninput = enable;
  ui.warnings.style.color = "var(--warn)";
  box.append(
    element("div", { className: "checks" }, element("label", { className: "pick" }, "Open a model", input), ui.go, ui.cancel, ui.bar),
    ui.about,
    ui.unchecked,
    ui.status,
    ui.warnings,
  );
}

const say = (text) => { ui.status.textContent = text; };

function fail(text) {
  say(text.replace(/\.?$/, "."));
  ui.status.style.color = "var(--bad)";
}

function enable() {
  ui.go.disabled = running > 0 || !model || (model.unchecked !== null && !ui.allow.checked);
}

// Takes a model file: the panel then describes it. Resolves to whether it can be used.
async function useModel(file, name) {
  show();
  host.$("#predict").open = true;
  if (running) cancel();
  const turn = ++number;
  chosen = turn;
  engine.end();
  model = undefined;
  enable();
  ui.status.style.color = "";
  ui.about.replaceChildren();
  ui.unchecked.hidden = ui.warnings.hidden = true;
  say(`Loading ${name}`);
  try {
    if (file.size > MAX_MODEL_BYTES) throw `${name} has more than 1 GiB, which a browser cannot run`;
    const { description } = await engine.ask("load", { file });
    model = { ...JSON.parse(description), file };
    loaded = true;
  } catch (error) {
    // Another model may have been chosen in the meantime.
    if (chosen === turn) fail(`${name}: ${error.message ?? error}`);
    return false;
  }
  describe(name);
  enable();
  return true;
}

// Texts of the file stay texts.
function describe(name) {
  const row = (title, ...content) => ui.about.append(element("dt", { textContent: title }), element("dd", {}, ...content));
  row("Model", model.name);
  row("File", name);
  row("Network", `${model.dimensions}-D, ${model.precision}${model.networks > 1 ? `, ${model.networks} networks` : ""}`);
  row("Input", model.channels.join(", "));
  row("Labels", ...model.labels.map(({ value, name, color }) => {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = `rgb(${color.join(", ")})`;
    return element("div", {}, swatch, `${value} ${name}`);
  }));
  ui.allow.checked = false;
  ui.unchecked.hidden = model.unchecked === null;
  ui.unchecked.replaceChildren(
    `This model did not pass its check when it was exported, so its masks may be wrong: ${model.unchecked}`,
    element("div", { className: "checks" }, element("label", {}, ui.allow, "Use it all the same")),
  );
  say(model.unchecked === null ? "The prediction replaces the mask. Nothing leaves this computer." : "");
}

// Tells which stage the work is in: nothing is known before the first tile is done.
function progress(done) {
  ui.bar.value = done;
  host.onProgress?.(done);
  say(`Predicting: ${Math.round(done * 100)} %`);
}

async function predict() {
  const scan = host.files[0];
  ui.status.style.color = "";
  if (!scan || !host.viewer().has(0)) return fail("Open a scan first.");
  if (host.unit()) return fail("This page does not predict pictures: `sulcus predict` does");
  if (host.unsaved?.()) return fail("The mask has corrections that are not saved: save or close it, and predict again.");
  const run = ++number;
  running = run;
  const focused = document.activeElement === ui.go;
  enable();
  ui.go.hidden = true;
  ui.cancel.hidden = ui.bar.hidden = false;
  if (focused) ui.cancel.focus();
  ui.bar.removeAttribute("value");
  ui.warnings.hidden = true;
  say("Predicting");
  try {
    const start = performance.now();
    if (!loaded) {
      await engine.ask("load", { file: model.file });
      loaded = true;
    }
    const { mask, report } = await engine.ask("predict", { scan, allowUnchecked: ui.allow.checked }, { progress });
    if (running !== run) return undefined;
    if (host.files[0] !== scan) throw "another image was opened in the meantime: predict again";
    const name = `${model.name.replaceAll("/", "∕")} (predicted)`;
    // The errors of opening it are shown by the page.
    await host.open(new Blob([mask]), "mask.nii", 1, name);
    host.refresh();
    tell(JSON.parse(report), performance.now() - start);
  } catch (error) {
    if (running === run) fail(`${host.names[0]}: ${error.message ?? error}`);
  } finally {
    if (running === run) rest();
  }
  return undefined;
}

function tell({ tiles, warnings = [], seconds }, ms) {
  say(`Predicted in ${(ms / 1000).toFixed(2)} s (${tiles} ${tiles === 1 ? "tile" : "tiles"}).`);
  ui.status.dataset.ms = Math.round(ms);
  ui.status.dataset.seconds = JSON.stringify(seconds);
  ui.warnings.hidden = !warnings.length;
  ui.warnings.replaceChildren(...warnings.map(({ message }) => element("li", { textContent: message })));
}

function rest() {
  const focused = document.activeElement === ui.cancel;
  running = 0;
  ui.go.hidden = false;
  ui.cancel.hidden = ui.bar.hidden = true;
  enable();
  if (focused) ui.go.focus();
}

function cancel() {
  engine.end();
  say("Cancelled.");
  rest();
}

// The model that the address names is loaded, and used at once if there is an image without a mask.
async function useAddress(address, shown) {
  const { name, blob, error } = await host.fetchFile(undefined, address, shown);
  show();
  host.$("#predict").open = true;
  if (error) return fail(`${name}: could not be loaded: ${error}`);
  if ((await useModel(blob, name)) && model.unchecked === null && host.viewer().has(0) && !host.viewer().has(1)) await predict();
  return undefined;
}
