/** The custom element `<sulcus-viewer>` of the Sulcus viewer. Nothing that it opens leaves the browser. */

/** What a file is shown as. */
export type Role = "image" | "mask" | "truth" | "map";

/** A file: an address, or its content. Without a name, an address has that of its last part, and bytes are a NIfTI file (a model: ONNX). */
export type Source =
  | string
  | URL
  | Blob
  | ArrayBuffer
  | ArrayBufferView
  | { data: string | URL | Blob | ArrayBuffer | ArrayBufferView; name?: string };

/** Files by their roles. A list is one volume in several files, such as the slices of a DICOM series. `null` closes a file. */
export type Files = { [role in Role]?: Source | Source[] | null };

/** How addresses are fetched, by the document that has the element. */
export interface FetchOptions {
  /** Headers, credentials and the rest of what `fetch` takes. */
  fetch?: Omit<RequestInit, "signal">;
  signal?: AbortSignal;
}

export interface PredictOptions extends FetchOptions {
  /** Whether a model is used that failed its check when it was exported. */
  allowUnchecked?: boolean;
}

/** The colour of a label: red, green and blue from 0 to 255. */
export type Color = [red: number, green: number, blue: number];

/** A label of a mask or a truth. Numbers that are not known are absent. */
export interface Label {
  value: number;
  name: string;
  color: Color;
  visible: boolean;
  /** Voxels (of pictures: pixels) and millilitres in the mask and in the truth. */
  mask?: number;
  maskMl?: number;
  truth?: number;
  truthMl?: number;
  dice?: number;
  iou?: number;
  /** Of the image, over the voxels of the mask. */
  mean?: number;
  sd?: number;
  /** In millimetres (of pictures without a size of the pixels: in pixels), once they were asked for in the page. */
  hd95?: number;
  nsd?: number;
}

/** What is changed of a label. */
export interface LabelChange {
  /** From 1 to 65535. */
  value: number;
  name?: string;
  /** Also as `#rrggbb`. */
  color?: Color | string;
  visible?: boolean;
}

/** A position in RAS+ millimetres, or the centre of a label. */
export type Target = [x: number, y: number, z: number] | { label: number };

/** What is at the crosshair. */
export interface Location {
  /** Indices on the axes of the file. */
  voxel: [number, number, number];
  /** RAS+ millimetres; of pictures `null`. */
  ras: [number, number, number] | null;
  /** The value of the image, of colours three. */
  values: number[];
  /** `null` without a mask. Background has the value 0. */
  mask: { value: number; name: string } | null;
  truth: { value: number; name: string } | null;
  map: number | null;
}

export interface Measurement {
  kind: "distance" | "angle" | "ellipse" | "polygon";
  /** 0 axial, 1 coronal, 2 sagittal. */
  plane: 0 | 1 | 2;
  /** RAS+ millimetres. */
  points: [number, number, number][];
  /** Millimetres (of pictures without a size of the pixels: pixels) or degrees. */
  value?: number;
  text?: string;
  /** Of areas: voxels, area, mean, standard deviation, minimum, maximum. */
  region?: number[];
}

/** The settings of a view, its position and its measurements: the content of a file of *Save view*. */
export interface State {
  format: "sulcus.view";
  format_version: 1;
  /** RAS+ millimetres. */
  at: [number, number, number];
  window: [low: number, high: number];
  camera: number[];
  /** The only plane that is shown: 0 axial, 1 coronal, 2 sagittal. */
  plane?: 0 | 1 | 2;
  /** Values of labels that are not shown. */
  hidden: number[];
  measures: Measurement[];
  /** Percent. */
  opacity: number;
  smooth: boolean;
  crosshair: boolean;
  neurological: boolean;
  [setting: string]: unknown;
}

export interface LoadResult {
  /** The names of the files that are open. */
  files: { [role in Role]: string | null };
  labels: Label[];
  /** What is open but not drawn, and why, such as a mask on another grid. */
  problem: string | null;
}

export interface PredictResult {
  labels: Label[];
  /** Why the mask may be wrong. */
  warnings: string[];
  seconds: number;
}

/** The details of the events by their types. */
export interface SulcusViewerEvents {
  /** The crosshair moved. */
  location: Location;
  /** The window of the image changed. */
  window: { low: number; high: number; level: number; width: number };
  /** Another volume of a 4-D image is shown; the first is 0. */
  frame: { frame: number; frames: number };
  /** Another label is at the crosshair. */
  label: Pick<Location, "mask" | "truth">;
  /** The list of measurements changed. */
  measurement: { measurements: Measurement[] };
  /** The mask was corrected. */
  edit: { labels: Label[] };
  /** Files were opened or closed, by a method or by the user. */
  load: { files: LoadResult["files"]; labels: Label[] };
  /** A message is shown to the user. */
  error: { message: string };
  /** From 0 to 1. */
  "predict-progress": { done: number };
}

type Listener<K extends keyof SulcusViewerEvents> = (this: SulcusViewerElement, event: CustomEvent<SulcusViewerEvents[K]>) => unknown;

/** Why a method failed. */
export class SulcusViewerError extends Error {}

/**
 * The viewer. Attributes: `image`, `mask`, `truth` and `map` are addresses of files; `src` is the address of the page of the viewer on the server of
 * the document (the package has it in `page/index.html`), without which the page in one file of this package is used.
 *
 * Methods wait until the page has started, and reject with a `SulcusViewerError`.
 */
export class SulcusViewerElement extends HTMLElement {
  /** The page in one file (`sulcus view --save`) that an element without `src` uses, to be set before it is in the document. */
  page: string | (() => string | Promise<string>);
  /** Resolves when the page has started. */
  readonly ready: Promise<void>;
  /** Opens files. A new image closes all other files; without an image, only the roles that are named change. */
  load(files: Files, options?: FetchOptions): Promise<LoadResult>;
  /** Sets names, colours and visibility of labels; what is not named stays. */
  setLabels(labels: LabelChange[], role?: "mask" | "truth"): Promise<Label[]>;
  getLabels(): Promise<Label[]>;
  /** Moves the crosshair. */
  goTo(target: Target): Promise<Location>;
  getState(): Promise<State>;
  /** Restores a state, or sets only some of its settings. */
  setState(state: Partial<State>): Promise<void>;
  /** Segments the image with a model of Sulcus (`.onnx`); the result is the mask. */
  predict(model: Source, options?: PredictOptions): Promise<PredictResult>;
  /** The planes that are shown with measurements, as a PNG picture. */
  screenshot(): Promise<Blob>;
  /** The mask as it is shown, as a NIfTI file. Corrections count as saved after that. */
  getMask(): Promise<Blob>;
  /** Corrections need not be saved: `load` refuses to replace a mask whose corrections are not. */
  discard(): Promise<void>;

  addEventListener<K extends keyof SulcusViewerEvents>(type: K, listener: Listener<K>, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends keyof SulcusViewerEvents>(type: K, listener: Listener<K>, options?: boolean | EventListenerOptions): void;
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | EventListenerOptions): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "sulcus-viewer": SulcusViewerElement;
  }
}
