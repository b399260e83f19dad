// <SulcusViewer>: the custom element as a component of React. See react.d.ts.
import { createElement, forwardRef, useEffect, useImperativeHandle, useRef } from "react";
import "./sulcus-viewer.js";

const ROLES = ["image", "mask", "truth", "map"];
// The events by the properties with their handlers.
const HANDLERS = {
  onLocation: "location",
  onWindow: "window",
  onFrame: "frame",
  onLabel: "label",
  onMeasurement: "measurement",
  onEdit: "edit",
  onLoad: "load",
  onError: "error",
  onPredictProgress: "predict-progress",
};

export const SulcusViewer = forwardRef(function SulcusViewer(properties, ref) {
  const { image, mask, truth, map, fetchOptions, ...others } = properties;
  const files = { image, mask, truth, map };
  const element = useRef(null);
  // The files that the element was given last, and the handlers of the last rendering.
  const given = useRef({});
  const handlers = useRef({});
  // What the page showed last; a file that it cannot open is reported by an event already.
  const shown = useRef("");
  handlers.current = properties;
  useImperativeHandle(ref, () => element.current, []);

  useEffect(() => {
    const listeners = Object.entries(HANDLERS).map(([property, type]) => [type, ({ detail }) => {
      if (type === "error") shown.current = detail.message;
      handlers.current[property]?.(detail);
    }]);
    for (const [type, listener] of listeners) element.current.addEventListener(type, listener);
    // An element that was taken out of the document begins without files.
    given.current = {};
    return () => {
      for (const [type, listener] of listeners) element.current?.removeEventListener(type, listener);
    };
  }, []);

  useEffect(() => {
    const before = given.current;
    given.current = files;
    const changed = ROLES.filter((role) => files[role] !== before[role]);
    if (!changed.length) return;
    shown.current = "";
    // A new image closes the others, so all of them are opened again.
    const wanted = changed.includes("image") ? ROLES : changed;
    element.current
      .load(Object.fromEntries(wanted.map((role) => [role, files[role] ?? null])), { fetch: fetchOptions })
      .catch(({ message }) => shown.current.startsWith(message) || handlers.current.onError?.({ message }));
  }, ROLES.map((role) => files[role]));

  const attributes = Object.fromEntries(Object.entries(others).filter(([name]) => !(name in HANDLERS)));
  return createElement("sulcus-viewer", { ...attributes, ref: element });
});
