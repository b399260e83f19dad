// Requests of the page to a worker, and the worker's answers. Each request has an action and gets one answer: a result or the reason of a
// failure. Progress may be reported in between.

// A worker, which is started by the first request.
export class Requests {
  #worker;
  #waiting = new Map();
  #number = 0;

  // The script of the worker, what it is called in messages, and what is to be done when it has ended.
  constructor(script, name, ended = () => {}) {
    Object.assign(this, { script, name, ended });
  }

  ask(action, data, { progress, transfer = [] } = {}) {
    const worker = (this.#worker ??= this.#start());
    const id = ++this.#number;
    return new Promise((go, fail) => {
      this.#waiting.set(id, { go, fail, progress });
      worker.then((one) => one.postMessage({ id, action, ...data }, transfer)).catch((error) => this.end(`${this.name} could not start (${error.message ?? error})`));
    });
  }

  async #start() {
    // In a page that is one file (`single.js`), this is a promise of a worker.
    const worker = await new Worker(new URL(this.script, import.meta.url), { type: "module" });
    worker.onmessage = ({ data: { id, result, error, crashed, done } }) => {
      const request = this.#waiting.get(id);
      if (done !== undefined) return request?.progress?.(done);
      if (crashed) return this.end(error);
      this.#waiting.delete(id);
      if (error) request?.fail(error);
      else request?.go(result);
    };
    worker.onerror = (event) => this.end(`${this.name} could not start (${event.message ?? "the browser refused it"})`);
    return worker;
  }

  // Ends the worker with everything that it computes, and frees its memory. What was asked of it fails for this reason.
  end(reason = "it was cancelled") {
    const waiting = [...this.#waiting.values()];
    this.#worker?.then((worker) => worker.terminate(), () => {});
    this.#worker = undefined;
    this.#waiting.clear();
    this.ended();
    for (const { fail } of waiting) fail(reason);
  }
}

// Answers the requests to this worker by functions with the names of the actions, as soon as its module is ready. `name` is what the worker
// is called in messages.
export function answer(actions, ready, name) {
  addEventListener("message", async ({ data: { id, action, ...data } }) => {
    try {
      await ready;
      const result = await actions[action](data, (done) => postMessage({ id, done }));
      const values = ArrayBuffer.isView(result) ? [result] : Object.values(result ?? {});
      postMessage({ id, result }, values.filter(ArrayBuffer.isView).map((array) => array.buffer));
    } catch (error) {
      // A sentence is a refusal. Anything else is a crash, after which the module cannot be used any more.
      postMessage(typeof error === "string" ? { id, error } : { id, error: `${name} stopped (${error.message ?? error})`, crashed: true });
    }
  });
}

// The content of a file.
export const bytes = async (file) => new Uint8Array(await file.arrayBuffer());
