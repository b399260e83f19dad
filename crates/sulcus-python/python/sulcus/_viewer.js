// The view of a `sulcus.Viewer` in a notebook (anywidget). The script of the custom element stands before this one.

const PAGE = Symbol.for("sulcus.viewer.page");
const LIMIT_MS = 30000;
// Between an event of a kind and the next that Python gets.
const PAUSE_MS = 150;
const HEARD = ["location", "window", "frame", "label", "measurement", "edit", "load", "error", "predict-progress"];

function render({ model, el }) {
  const viewer = document.createElement("sulcus-viewer");
  const waiting = new Map();
  // The number of this view and of its questions.
  const own = `${Date.now()}-${Math.random()}`;
  let number = 0;
  let loading = 0;

  // Asks Python, which answers with buffers.
  function ask(kind, id = `${own}-${++number}`) {
    return new Promise((go, fail) => {
      waiting.set(id, go);
      setTimeout(() => {
        waiting.delete(id);
        fail(new Error("Python does not answer: run the cell again"));
      }, LIMIT_MS);
      model.send({ kind, id });
    });
  }

  // The page is the same for all viewers of the document.
  viewer.page = async () => {
    globalThis[PAGE] ??= ask("page").then(({ buffers }) => new TextDecoder().decode(buffers[0]));
    try {
      return await globalThis[PAGE];
    } catch (error) {
      delete globalThis[PAGE];
      throw error;
    }
  };

  // Files are buffers with names.
  const filled = (value, buffers) => {
    if (Array.isArray(value)) return value.map((one) => filled(one, buffers));
    if (value === null || typeof value !== "object") return value;
    if ("buffer" in value) return { data: new Blob([buffers[value.buffer]]), name: value.name };
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, filled(one, buffers)]));
  };

  async function call({ id, method, parameters }, buffers) {
    if (method === "load") loading++;
    try {
      const result = await viewer[method](...filled(parameters, buffers));
      if (result instanceof Blob) model.send({ kind: "answer", id }, undefined, [await result.arrayBuffer()]);
      else model.send({ kind: "answer", id, result: result ?? null });
    } catch (error) {
      model.send({ kind: "answer", id, error: error.message });
    } finally {
      if (method === "load") loading--;
    }
  }

  // Methods run one after the other, in the order of Python.
  let last = Promise.resolve();
  const queue = (one, buffers) => { last = last.then(() => call(one, buffers)); };
  const hear = (message, buffers) => {
    if (message.kind === "call" && (message.view ?? own) === own) queue(message, buffers);
    if (message.kind === "reply") {
      waiting.get(message.id)?.({ message, buffers });
      waiting.delete(message.id);
    }
  };
  model.on("msg:custom", hear);

  const timers = new Map();
  const later = (type, action) => {
    if (!timers.has(type)) timers.set(type, setTimeout(() => { timers.delete(type); action(); }, PAUSE_MS));
  };
  const latest = new Map();
  for (const type of HEARD) {
    viewer.addEventListener(type, ({ detail }) => {
      latest.set(type, detail);
      later(type, () => model.send({ kind: "event", type, detail: latest.get(type) }));
      // Python gets masks that were corrected, predicted or opened here.
      if (type === "edit" || (type === "load" && !loading)) later("mask", sendMask);
    });
  }
  async function sendMask() {
    const bytes = await viewer.getMask().then((blob) => blob.arrayBuffer()).catch(() => undefined);
    if (bytes) model.send({ kind: "mask" }, undefined, [bytes]);
  }

  const size = () => { viewer.style.height = `${model.get("height")}px`; };
  size();
  model.on("change:height", size);
  el.append(viewer);
  ask("begin", own).catch((error) => { el.prepend(document.createTextNode(error.message)); });
  return () => {
    model.off("msg:custom", hear);
    model.off("change:height", size);
    viewer.remove();
  };
}

export default { render };
