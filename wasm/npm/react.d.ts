/** The custom element `<sulcus-viewer>` as a component of React. */
import type { ForwardRefExoticComponent, HTMLAttributes, RefAttributes } from "react";
import type { Files, SulcusViewerElement, SulcusViewerEvents } from "./sulcus-viewer.js";

export * from "./sulcus-viewer.js";

type Details = SulcusViewerEvents;

/** Files that change are opened; handlers get the details of the events. */
export interface SulcusViewerProperties extends Files, Omit<HTMLAttributes<SulcusViewerElement>, "onLoad" | "onError"> {
  /** The address of the page of the viewer on the server of the document. */
  src?: string;
  /** Headers, credentials and the rest of what `fetch` takes, for files that are addresses. */
  fetchOptions?: RequestInit;
  onLocation?: (detail: Details["location"]) => void;
  onWindow?: (detail: Details["window"]) => void;
  onFrame?: (detail: Details["frame"]) => void;
  onLabel?: (detail: Details["label"]) => void;
  onMeasurement?: (detail: Details["measurement"]) => void;
  onEdit?: (detail: Details["edit"]) => void;
  onLoad?: (detail: Details["load"]) => void;
  onError?: (detail: Details["error"]) => void;
  onPredictProgress?: (detail: Details["predict-progress"]) => void;
}

/** The reference is to the element, which has the methods. */
export const SulcusViewer: ForwardRefExoticComponent<SulcusViewerProperties & RefAttributes<SulcusViewerElement>>;
