// Reads pictures for the page, and writes masks as pictures, on a thread of its own.
import init, { Picture, mask_picture } from "./sulcus_viewer_pictures.js";
import { answer, bytes } from "./requests.js";

const ready = init({ module_or_path: new URL("sulcus_viewer_pictures_bg.wasm", import.meta.url) });

const ACTIONS = {
  // `asMask` is undefined if the content decides.
  async read({ file, asMask }) {
    const picture = Picture.read(await bytes(file), asMask);
    try {
      return { unit: picture.unit(), isMask: picture.is_mask(), file: picture.take_file() };
    } finally {
      picture.free();
    }
  },
  mask: async ({ mask, unit }) => mask_picture(await bytes(mask), unit),
};

answer(ACTIONS, ready, "the decoder");
