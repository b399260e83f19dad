// Starts a page that is one file. The other files are elements of the document, in base64. A script becomes the address of a blob when it
// is needed, in which the names of other files are replaced by their addresses.
globalThis.sulcusFile = (() => {
  // Gives files addresses; `content` resolves to a blob with the content of a file. Workers of a page that was opened from disk can read
  // neither the page nor its blobs, so they get the source of this function, which therefore uses nothing outside of it.
  function library(content) {
    // `import … from "./name.js"`, and `new URL("name.wasm", import.meta.url)`.
    const names = [/(?<=\bfrom ?)(["'])\.\/([\w-]+\.js)\1/g, /new URL\((["'])([\w-]+\.wasm)\1, ?import\.meta\.url\)/g];
    const types = { js: "text/javascript", wasm: "application/wasm" };
    const known = new Map();
    const references = (text) => names.flatMap((pattern) => [...text.matchAll(pattern)].map(([, , name]) => name));

    async function script(name) {
      const text = await (await content(name)).text();
      const found = new Map(await Promise.all(references(text).map(async (file) => [file, JSON.stringify(await address(file))])));
      const made = names
        .reduce((before, pattern) => before.replace(pattern, (_, quote, file) => found.get(file)), text)
        // Files with names that are not known before.
        .replace(/\bimport\(`\.\/\$\{(\w+)\}\.js`\)/g, "sulcusFile.module($1)")
        .replace(/new Worker\(new URL\(([\w.]+), ?import\.meta\.url\), ?\{ ?type: ?"module" ?\}\)/g, "sulcusFile.worker($1)");
      if (/\bimport\.meta|\b(from|import) ?\(?["'`]\.\//.test(made)) throw new Error(`${name} refers to a file in a way that is not known`);
      // What the address of the page is for a page that is served.
      return name === "viewer.js" ? `const{location,fetch}=sulcusFile;${made}` : made;
    }

    function address(name) {
      if (!known.has(name)) {
        const type = types[name.split(".").pop()];
        const part = type === types.js ? script(name) : content(name);
        known.set(name, part.then((data) => URL.createObjectURL(new Blob([data], { type }))));
      }
      return known.get(name);
    }

    // The names of a script and of all files that it needs.
    async function needed(name, found = new Set()) {
      if (found.has(name)) return found;
      found.add(name);
      if (name.endsWith(".js")) for (const file of references(await (await content(name)).text())) await needed(file, found);
      return found;
    }
    return { address, needed };
  }

  // What a worker begins with: the first message has the files. Others wait until the script of the worker listens.
  function begin(make) {
    const early = [];
    let files;
    const keep = ({ data }) => {
      if (files) return early.push(data);
      files = data.files;
      return make(async (name) => files.get(name)).address(data.name)
        .then((address) => import(address))
        .then(() => {
          removeEventListener("message", keep);
          early.forEach((data) => dispatchEvent(new MessageEvent("message", { data })));
        })
        .catch((error) => postMessage({ crashed: true, error: `a worker could not start (${error.message ?? error})` }));
    };
    addEventListener("message", keep);
  }

  async function worker(name) {
    const files = new Map();
    for (const file of await needed(name)) files.set(file, await content(file));
    const address = URL.createObjectURL(new Blob([`(${begin})(${library})`], { type: "text/javascript" }));
    const made = new Worker(address);
    made.postMessage({ name, files });
    return made;
  }

  const holder = (name) => [...document.querySelectorAll("script[data-file]")].find((element) => element.dataset.file === name);

  function decoded(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
    return bytes;
  }

  async function content(name) {
    const element = holder(name);
    if (!element) throw new Error(`this page does not contain ${name}`);
    const stored = new Blob([decoded(element.textContent)]);
    return "deflate" in element.dataset ? new Response(stored.stream().pipeThrough(new DecompressionStream("deflate"))).blob() : stored;
  }

  // Data that the page carries are addressed as if a server had them. They are read once; then the document need not hold them any more.
  const BASE = "https://sulcus.invalid/";
  async function fetched(url) {
    const name = String(url).slice(BASE.length);
    const data = await content(name);
    holder(name).remove();
    return new Response(data);
  }

  const { address, needed } = library(content);
  const module = async (name) => import(await address(`${name}.js`));
  const location = { href: BASE, origin: new URL(BASE).origin, search: document.getElementById("sulcus-start").dataset.query };
  // The scripts of the page see this object.
  setTimeout(() => module("viewer").catch((error) => {
    const box = document.getElementById("error");
    box.textContent = `The viewer could not start: ${error.message ?? error}.`;
    box.hidden = false;
  }));
  return { module, worker, location, fetch: fetched };
})();
