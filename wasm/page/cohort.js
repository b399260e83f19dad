// The panel for the review of a cohort: its cases, the worst first, with a verdict and a note for each.
import { download, element } from "./elements.js";

const ROLES = ["image", "mask", "truth", "map"];
const POLL_MS = 1000;
const MARKS = { accepted: "✓", rejected: "✗", "": "" };
const COLUMNS = ["case", "verdict", "note", "dice", "confidence"];

let host;
let ui;
// What the server lists, in its order: name, files of each role, scores. `verdict` and `note` are the user's.
let cases = [];
// The numbers of the cases in the order of the list, and the one that is open.
let order = [];
let current;
// The files of the open and of the next case, by number: promises of lists.
const prepared = new Map();
let turn = 0;
// Whether there are verdicts or notes that are in no file.
let unsaved = false;
// Whether the server still scores cases.
let scoring = false;
// The case for which corrections of the open mask may be discarded.
let discard;

// Called by the page before anything else.
export function connect(page) {
  host ??= page;
  host.cohort = { restore };
  return { useAddress };
}

// Takes the list of cases that an address names, and opens the first.
async function useAddress(address) {
  const list = await fetchList(address);
  cases = list.cases.map((item) => ({ ...item, verdict: "", note: "" }));
  if (!cases.length) throw "The list of cases is empty.";
  scoring = list.scoring;
  // Over a mask, a map is shown when the user wants it.
  if (cases.some(({ mask, map }) => mask?.length && map?.length)) host.change("map-opacity", 0);
  build();
  sort();
  await open(order[0]);
  if (scoring) poll(address);
}

async function fetchList(address) {
  const { name, blob, error } = await host.fetchFile(undefined, address);
  if (error) throw `${name}: could not be loaded: ${error}.`;
  let list;
  try {
    list = JSON.parse(await blob.text());
  } catch {
    throw `${name}: this is not JSON.`;
  }
  if (list?.format !== "sulcus.cases" || list.format_version !== 1 || !Array.isArray(list.cases)) throw `${name}: this is no list of cases of version 1.`;
  return list;
}

// Scores are computed while the first cases are shown.
function poll(address) {
  setTimeout(async () => {
    try {
      const list = await fetchList(address);
      list.cases.forEach(({ dice, confidence, problem }, i) => Object.assign(cases[i], { dice, confidence, problem }));
      scoring = list.scoring;
      if (scoring) poll(address);
      else sort();
      show();
    } catch (error) {
      host.failed(error);
    }
  }, POLL_MS);
}

const has = (key) => cases.some((item) => Number.isFinite(item[key]));
// What decides about the order, if anything does.
const measure = () => ["dice", "confidence"].find(has);

// A case that could not be scored comes first, one without a score last.
function sort() {
  const key = ui.order.selectedIndex === 0 && measure();
  const rank = ({ problem, ...item }) => (problem ? -1 : item[key] ?? 2);
  const byName = (a, b) => cases[a].name.localeCompare(cases[b].name, "en", { numeric: true }) || a - b;
  order = cases.map((_, i) => i).sort((a, b) => (key ? rank(cases[a]) - rank(cases[b]) : 0) || byName(a, b));
  show();
}

function build() {
  const button = (text, key, action, properties = {}) => element("button", { textContent: text, title: `${text} (${key})`, onclick: action, ...properties });
  const input = element("input", { type: "file", accept: ".csv", ariaLabel: "Open a review" });
  input.onchange = async () => { await input.files[0].text().then(restore).catch(host.failed); input.value = ""; };
  ui = {
    progress: element("p", { id: "cohort-progress", className: "hint", role: "status" }),
    order: element("select", { id: "cohort-order", ariaLabel: "Order of the cases" }, new Option("worst first"), new Option("by name")),
    accept: button("Accept", "Y", () => judge("accepted"), { id: "cohort-accept" }),
    reject: button("Reject", "R", () => judge("rejected"), { id: "cohort-reject" }),
    go: element("input", { type: "checkbox", id: "cohort-go", checked: true }),
    note: element("textarea", { id: "cohort-note", rows: 2, maxLength: 2000, placeholder: "Note (E)", ariaLabel: "Note about the case" }),
    list: element("tbody"),
    head: element("tr"),
  };
  ui.order.oninput = sort;
  ui.note.oninput = () => { cases[current].note = ui.note.value; changed(); };
  ui.note.onkeydown = (event) => { if (event.key === "Escape" || (event.key === "Enter" && !event.shiftKey)) { event.preventDefault(); host.canvases[host.current()].focus(); } };
  const row = (...children) => element("div", { className: "checks" }, ...children);
  const table = element("div", { role: "region", ariaLabel: "Cases", tabIndex: 0 }, element("table", { id: "cohort-list" }, element("thead", {}, ui.head), ui.list));
  table.style.cssText = "max-height:240px;overflow:auto";
  ui.note.style.cssText = "width:100%;font:inherit;color:inherit;background:var(--raised);border:1px solid var(--line);border-radius:6px";
  const box = element("section", { id: "cohort" }, element("h2", { id: "h-cohort", textContent: "Cases" }), row(ui.progress, ui.order), table,
    row(button("Previous", "K", () => step(-1)), button("Next", "J", () => step(1)), ui.accept, ui.reject),
    ui.note,
    row(element("label", {}, ui.go, "Next case after a verdict")),
    row(element("button", { id: "cohort-save", textContent: "Save review", title: "As a CSV file", onclick: save }), element("label", { className: "pick" }, "Open a review", input)));
  box.setAttribute("aria-labelledby", "h-cohort");
  host.$("aside").prepend(box);
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || host.$("dialog[open]") || event.target.closest?.("input, select, textarea")) return;
    const action = { j: () => step(1), k: () => step(-1), y: () => judge("accepted"), r: () => judge("rejected"), u: () => judge(""), e: () => ui.note.focus() }[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  });
  addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
}

const scoreText = (value) => (Number.isFinite(value) ? value.toFixed(3) : "–");

function show() {
  const keys = ["dice", "confidence"].filter(has);
  const titles = ["Case", ...keys.map((key) => key[0].toUpperCase() + key.slice(1)), "Verdict"];
  ui.head.replaceChildren(...titles.map((title) => element("th", { textContent: title, scope: "col" })));
  ui.list.replaceChildren(...order.map((i) => {
    const item = cases[i];
    const go = element("button", { textContent: item.name, title: item.problem ?? item.note, onclick: () => open(i).catch(host.failed) });
    if (i === current) go.setAttribute("aria-current", "true");
    const row = element("tr", {}, element("td", {}, go), ...keys.map((key) => element("td", { textContent: scoreText(item[key]) })));
    if (item.problem) row.firstChild.append(element("span", { textContent: "not scored", title: item.problem, className: "hint" }));
    row.append(element("td", { textContent: `${MARKS[item.verdict]}${item.note ? " ✎" : ""}`, ariaLabel: [item.verdict, item.note && "with a note"].filter(Boolean).join(", ") || "open" }));
    if (i === current) row.style.background = "var(--raised)";
    return row;
  }));
  const judged = cases.filter((item) => item.verdict).length;
  ui.order.hidden = !measure();
  ui.progress.textContent = `${judged} of ${cases.length} reviewed${scoring ? "; the cases are being scored" : ""}`;
  const item = cases[current];
  if (!item) return;
  ui.accept.setAttribute("aria-pressed", item.verdict === "accepted");
  ui.reject.setAttribute("aria-pressed", item.verdict === "rejected");
  if (ui.note.value !== item.note) ui.note.value = item.note;
}

function changed() {
  unsaved = true;
  show();
}

// A second press of the same verdict takes it back.
function judge(verdict) {
  const item = cases[current];
  if (!item) return;
  item.verdict = item.verdict === verdict ? "" : verdict;
  changed();
  if (item.verdict && ui.go.checked) step(1);
  else tell();
}

function step(by) {
  const next = order[order.indexOf(current) + by];
  if (next === undefined) return tell(by > 0 ? "This is the last case" : "This is the first case");
  open(next).catch(host.failed);
  return undefined;
}

function tell(text) {
  const item = cases[current];
  const score = measure();
  const parts = [`Case ${order.indexOf(current) + 1} of ${cases.length}: ${item.name}`, score && `${score} ${scoreText(item[score])}`, item.verdict || "open"];
  host.$("#live").textContent = [text, ...parts].filter(Boolean).join("; ");
}

// The files of a case, inflated, as they are opened.
function prepare(i) {
  if (!prepared.has(i)) prepared.set(i, Promise.all(ROLES.flatMap((what, role) => (cases[i][what] ?? []).map((file) => fetched(file, role)))));
  return prepared.get(i);
}

async function fetched({ address, name }, role) {
  const got = await host.fetchFile(role, address, name);
  if (got.error || !/\.nii\.gz$/i.test(name)) return got;
  try {
    return { ...got, blob: await new Response(got.blob.stream().pipeThrough(new DecompressionStream("gzip"))).blob() };
  } catch {
    // Opening the file says what is wrong with it.
    return got;
  }
}

async function open(i) {
  if (host.unsaved?.() && discard !== i) {
    discard = i;
    throw "The mask has corrections that are not saved: save it, or choose the case again to discard them.";
  }
  discard = undefined;
  const mine = ++turn;
  current = i;
  show();
  host.busy(`Opening ${cases[i].name}`);
  const files = await prepare(i);
  if (mine !== turn) return;
  host.clear();
  for (const [role] of ROLES.entries()) {
    const own = files.filter((file) => file.role === role);
    for (const { name, error } of own) if (error) host.addError(`${name}: could not be loaded: ${error}.`);
    const got = own.filter(({ error }) => !error).map(({ name, blob }) => ({ file: blob, path: name }));
    if (got.length === 1 && /\.nii(\.gz)?$/i.test(got[0].path)) await host.open(got[0].file, got[0].path, role);
    else if (got.length) await (await host.load("loading")).openAll(got, role);
  }
  host.busy();
  host.refresh();
  if (mine !== turn) return;
  ui.list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  document.body.dataset.openCase = cases[i].name;
  tell();
  const next = order[order.indexOf(i) + 1];
  for (const kept of prepared.keys()) if (kept !== i && kept !== next) prepared.delete(kept);
  if (next !== undefined) prepare(next);
}

// A field of a CSV file; quoted where it has to be.
const field = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

function save() {
  const line = (item) => [item.name, item.verdict, item.note, item.dice ?? "", item.confidence ?? ""].map((value) => field(String(value))).join(",");
  download("review.csv", "text/csv", [COLUMNS.join(","), ...order.map((i) => line(cases[i]))].join("\r\n") + "\r\n");
  unsaved = false;
}

// The rows of a CSV file.
function parse(text) {
  const rows = [[]];
  const pattern = /("(?:[^"]|"")*"|[^",\r\n]*)(,|\r\n|\n|\r|$)/gy;
  for (let found; pattern.lastIndex < text.length && (found = pattern.exec(text));) {
    const [, value, end] = found;
    rows.at(-1).push(value.startsWith('"') ? value.slice(1, -1).replaceAll('""', '"') : value);
    if (end !== ",") rows.push([]);
  }
  if (pattern.lastIndex < text.length) throw "this is no CSV file: a quotation mark is missing";
  return rows.filter((row) => row.length > 1 || row[0]);
}

// Restores verdicts and notes from a saved review.
function restore(text) {
  const [head = [], ...rows] = parse(text.replace(/^\ufeff/, ""));
  const [name, verdict, note] = COLUMNS.slice(0, 3).map((column) => head.indexOf(column));
  if (Math.min(name, verdict, note) < 0) throw "this is no review: its columns are not case, verdict and note";
  const wrong = rows.find((row) => !Object.hasOwn(MARKS, row[verdict]));
  if (wrong) throw `the verdict of ${wrong[name]} is ${wrong[verdict]}, not accepted or rejected`;
  const known = new Map(cases.map((item) => [item.name, item]));
  const unknown = rows.map((row) => row[name]).filter((own) => !known.has(own));
  for (const row of rows) Object.assign(known.get(row[name]) ?? {}, { verdict: row[verdict], note: row[note] ?? "" });
  show();
  if (unknown.length) throw `the review was restored, but it has cases that are not here: ${unknown.slice(0, 5).join(", ")}${unknown.length > 5 ? ", …" : ""}`;
}
