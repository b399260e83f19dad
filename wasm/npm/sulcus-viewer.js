// The custom element <sulcus-viewer>: the viewer in a frame, and a typed interface to it. See sulcus-viewer.d.ts.

const ROLES = ["image", "mask", "truth", "map"];
const EVENTS = new Set(["location", "window", "frame", "label", "measurement", "edit", "load", "error", "predict-progress"]);
const START_MS = 30000;
// Where the page in one file says what it opens.
const QUERY = 'id="sulcus-start" data-query=""';
const STYLE = ":host { display: block; height: 600px; } :host([hidden]) { display: none; } iframe { display: block; width: 100%; height: 100%; border: 0; }";

/** Why a method failed. */
export class SulcusViewerError extends Error {
  name = "SulcusViewerError";
}

// Servers can render pages with this module, where there are no elements.
const Base = globalThis.HTMLElement ?? class {};

export class SulcusViewerElement extends Base {
  static observedAttributes = [...ROLES, "src", "title"];
  // Where the page in one file comes from.
  page = async () => (await import("./page.js")).default;
  #root = this.attachShadow({ mode: "open" });
  // The frame while the element is in a document: { frame, ready, port, waiting, stop }.
  #session;
  #number = 0;
  #loading;

  constructor() {
    super();
    const style = document.createElement("style");
    style.textContent = STYLE;
    this.#root.append(style);
  }

  connectedCallback() {
    this.#start();
  }

  disconnectedCallback() {
    this.#end("the viewer was removed from the document");
  }

  attributeChangedCallback(name, before, now) {
    if (before === now || !this.#session) return;
    if (name === "src") {
      this.#end("the viewer was started again with another src");
      this.#start();
    } else if (name === "title") {
      this.#session.frame.title = now ?? "Sulcus viewer";
    } else {
      this.#loadAttributes();
    }
  }

  /** Resolves when the viewer takes requests. */
  get ready() {
    return this.#session?.ready ?? Promise.reject(new SulcusViewerError("the viewer is not in a document"));
  }

  async load(files, { fetch: options, signal } = {}) {
    if (typeof files !== "object" || files === null || Object.keys(files).some((role) => !ROLES.includes(role))) {
      throw new SulcusViewerError(`files are given by their roles: ${ROLES.join(", ")}`);
    }
    const given = Object.entries(files).filter(([, source]) => source !== undefined);
    const read = given.map(async ([role, source]) => [role, source === null ? null : await Promise.all([source].flat().map((one) => file(one, role, options, signal)))]);
    return this.#ask("load", Object.fromEntries(await Promise.all(read)));
  }

  setLabels(labels, role = "mask") {
    return this.#ask("setLabels", labels, role);
  }

  getLabels() {
    return this.#ask("getLabels");
  }

  goTo(target) {
    return this.#ask("goTo", target);
  }

  getState() {
    return this.#ask("getState");
  }

  setState(state) {
    return this.#ask("setState", state);
  }

  async predict(model, { allowUnchecked = false, fetch: options, signal } = {}) {
    return this.#ask("predict", await file(model, "model", options, signal), { allowUnchecked });
  }

  screenshot() {
    return this.#ask("screenshot");
  }

  getMask() {
    return this.#ask("getMask");
  }

  discard() {
    return this.#ask("discard");
  }

  async #ask(method, ...parameters) {
    await this.ready;
    const session = this.#session;
    if (!session) throw new SulcusViewerError("the viewer was removed from the document");
    const id = ++this.#number;
    return new Promise((go, fail) => {
      session.waiting.set(id, { go, fail });
      try {
        session.port.postMessage({ id, method, parameters });
      } catch (error) {
        session.waiting.delete(id);
        fail(new SulcusViewerError(`${method}: these arguments cannot be sent to the viewer (${error.message})`));
      }
    });
  }

  #start() {
    const frame = document.createElement("iframe");
    frame.title = this.getAttribute("title") ?? "Sulcus viewer";
    const session = { frame, waiting: new Map() };
    const src = this.getAttribute("src");
    this.#session = session;
    session.ready = new Promise((go, fail) => {
      session.fail = (reason) => fail(new SulcusViewerError(reason));
      const late = setTimeout(() => session.fail(src === null ? "the page of the viewer did not start: the content security policy of this document must permit blob: scripts and 'wasm-unsafe-eval', or give the element a src" : `the page of the viewer did not start: ${src}`), START_MS);
      // Only the frame's own window, and only of the origin that it was opened from, gets the port.
      const expected = src === null ? "null" : new URL(src, document.baseURI).origin;
      const hear = (event) => {
        if (event.source !== frame.contentWindow || event.origin !== expected || event.data?.sulcus !== "embedded") return;
        const { port1, port2 } = new MessageChannel();
        session.port = port1;
        port1.onmessage = ({ data }) => {
          if (data.ready) {
            session.stop();
            go();
          } else this.#receive(session, data);
        };
        frame.contentWindow.postMessage({ sulcus: "connect" }, expected === "null" ? "*" : expected, [port2]);
      };
      session.stop = () => {
        clearTimeout(late);
        removeEventListener("message", hear);
      };
      addEventListener("message", hear);
    });
    // Without a request, nobody need know that the page did not start.
    session.ready.catch(() => {});
    if (src !== null) this.#openAddress(session, src);
    else this.#openPage(session);
    this.#root.append(frame);
    if (ROLES.some((role) => this.hasAttribute(role))) this.#loadAttributes();
  }

  #openAddress({ frame, fail }, src) {
    const address = new URL(src, document.baseURI);
    if (address.origin !== location.origin) fail(`the page of the viewer must come from the server of this document (${location.origin}): ${src}`);
    address.searchParams.set("embedded", "1");
    frame.src = address.href;
  }

  // A page in one file has no origin: it can neither read this document nor anything of its server.
  async #openPage({ frame, fail }) {
    frame.setAttribute("sandbox", "allow-scripts allow-downloads allow-modals");
    try {
      const html = typeof this.page === "function" ? await this.page() : this.page;
      if (!html.includes(QUERY)) throw new Error("this is not the viewer in one file");
      frame.srcdoc = html.replace(QUERY, 'id="sulcus-start" data-query="?embedded=1"');
    } catch (error) {
      fail(`the page of the viewer could not be loaded: ${error.message ?? error}`);
    }
  }

  #receive(session, { id, result, error, type, detail }) {
    if (type !== undefined) {
      if (EVENTS.has(type)) this.dispatchEvent(new CustomEvent(type, { detail }));
      return;
    }
    const request = session.waiting.get(id);
    session.waiting.delete(id);
    if (error !== undefined) request?.fail(new SulcusViewerError(error));
    else request?.go(result);
  }

  #end(reason) {
    const session = this.#session;
    if (!session) return;
    this.#session = undefined;
    session.stop();
    session.fail(reason);
    session.port?.close();
    for (const { fail } of session.waiting.values()) fail(new SulcusViewerError(reason));
    session.frame.remove();
  }

  // The attributes that name files, once for all that change together.
  #loadAttributes() {
    const loading = (this.#loading ??= Promise.resolve().then(() => {
      this.#loading = undefined;
      return this.load(Object.fromEntries(ROLES.map((role) => [role, this.getAttribute(role)])));
    }));
    loading.catch((error) => this.dispatchEvent(new CustomEvent("error", { detail: { message: error.message } })));
  }
}

// A file as the page takes it.
async function file(source, role, options, signal) {
  const { data = source, name } = source instanceof Object && "data" in source ? source : {};
  if (data instanceof Blob) return { blob: data, name: name ?? data.name ?? `${role}.nii.gz` };
  if (data instanceof ArrayBuffer || ArrayBuffer.isView(data)) return { blob: new Blob([data]), name: name ?? `${role}${role === "model" ? ".onnx" : ".nii.gz"}` };
  if (typeof data !== "string" && !(data instanceof URL)) throw new SulcusViewerError(`${role}: expected an address, a File, a Blob or bytes`);
  const address = new URL(data, document.baseURI);
  const own = name ?? decodeURIComponent(address.pathname.split("/").pop());
  try {
    const answer = await fetch(address, { ...options, signal });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return { blob: await answer.blob(), name: own };
  } catch (error) {
    throw new SulcusViewerError(`${own}: could not be loaded: ${error.message ?? error}`);
  }
}

if (globalThis.customElements && !customElements.get("sulcus-viewer")) customElements.define("sulcus-viewer", SulcusViewerElement);
