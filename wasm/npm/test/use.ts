// Compiled by the test of the package, in a project that has installed it: the types must fit how the element is used.
import { SulcusViewerElement, SulcusViewerError, type Label, type State } from "sulcus-viewer";

const viewer = document.createElement("sulcus-viewer");
const same: SulcusViewerElement = viewer;
document.body.append(same);

viewer.addEventListener("location", (event) => {
  const ras: [number, number, number] | null = event.detail.ras;
  const name: string | undefined = event.detail.mask?.name;
  console.log(ras, name);
});
viewer.addEventListener("load", ({ detail }) => console.log(detail.files.image, detail.labels.length));
viewer.addEventListener("error", ({ detail }) => console.log(detail.message));
viewer.addEventListener("predict-progress", ({ detail }) => console.log(detail.done.toFixed(2)));
viewer.addEventListener("click", () => undefined);
// @ts-expect-error The window has no such detail.
viewer.addEventListener("window", ({ detail }) => detail.middle);

export async function use(file: File): Promise<Label[]> {
  const { problem } = await viewer.load({ image: file, mask: { data: new Uint8Array(4), name: "mask.nii" }, truth: null }, { fetch: { credentials: "include" } });
  if (problem) throw new SulcusViewerError(problem);
  await viewer.load({ image: [file, file] });
  // @ts-expect-error There is no such role.
  await viewer.load({ picture: file });
  await viewer.goTo({ label: 1 });
  await viewer.goTo([1, 2, 3]);
  // @ts-expect-error A position has three numbers.
  await viewer.goTo([1, 2]);
  const state: State = await viewer.getState();
  await viewer.setState({ ...state, opacity: 50 });
  const { warnings, seconds } = await viewer.predict("model.onnx", { allowUnchecked: true });
  console.log(warnings.join(), seconds.toFixed(1));
  const picture: Blob = await viewer.screenshot();
  console.log(picture.size);
  return viewer.setLabels([{ value: 1, name: "Liver", color: "#ff0000" }, { value: 2, color: [1, 2, 3], visible: false }]);
}
