// Runs a model for the page on a thread of its own. To cancel, the page ends the thread.
import init, { Model } from "./sulcus_viewer_engine.js";
import { answer, bytes } from "./requests.js";

const ready = init({ module_or_path: new URL("sulcus_viewer_engine_bg.wasm", import.meta.url) });
let model;

// The bytes of a scan. The browser inflates them, so that the module need not hold the code for it.
async function inflated(file) {
  const [a, b] = await bytes(file.slice(0, 2));
  if (a !== 0x1f || b !== 0x8b) return bytes(file);
  try {
    return await bytes(new Response(file.stream().pipeThrough(new DecompressionStream("gzip"))));
  } catch (error) {
    throw `the scan cannot be inflated (${error.message ?? error})`;
  }
}

const ACTIONS = {
  async load({ file }) {
    model?.free();
    model = undefined;
    model = new Model(await bytes(file));
    return { description: model.description() };
  },
  async predict({ scan, allowUnchecked }, progress) {
    const found = model.predict(await inflated(scan), allowUnchecked, (done, total) => progress(done / total));
    try {
      return { report: found.report(), mask: found.take_file() };
    } finally {
      found.free();
    }
  },
};

answer(ACTIONS, ready, "the engine");
