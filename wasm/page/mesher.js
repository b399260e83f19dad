// Makes the surfaces of labels for the page on a thread of its own, draws them where the page has no WebGL, and writes files of them.
import init, { Surfaces } from "./sulcus_viewer_surfaces.js";
import { answer } from "./requests.js";

let surfaces;
const ready = init({ module_or_path: new URL("sulcus_viewer_surfaces_bg.wasm", import.meta.url) }).then(() => { surfaces = new Surfaces(); });

const ACTIONS = {
  voxels: ({ grid, voxels }) => surfaces.set_voxels(grid, voxels),
  change: ({ pairs }) => surfaces.change_voxels(pairs),
  smoothing: ({ passes }) => surfaces.set_smoothing(passes),
  // The mesh is wanted for WebGL, unless the page knows it from before.
  make({ label, wanted, known }) {
    const kept = known && surfaces.has(label);
    const measures = surfaces.make(label);
    if (!measures.length || !wanted || kept) return { measures };
    return { measures, positions: surfaces.positions(label), normals: surfaces.normals(label), triangles: surfaces.triangles(label) };
  },
  ball: ({ labels }) => surfaces.ball(labels),
  draw: ({ width, height, camera, labels, colors }) => surfaces.draw(width, height, camera, labels, colors),
  pick: ({ width, height, camera, labels, x, y }) => surfaces.pick(width, height, camera, labels, x, y),
  stl: ({ label, name }) => surfaces.stl(label, name),
  ply: ({ labels, names, colors }) => surfaces.ply(labels, names, colors),
};

answer(ACTIONS, ready, "making surfaces");
