// What the files state about their grid and their values.
import { element } from "./elements.js";

const ROLES = ["image", "mask", "truth", "map"];
let host;

// Called by the page before anything else.
export function connect(page) {
  host ??= page;
  return { show };
}

function show() {
  const picture = host.unit() > 0;
  host.$("#header").replaceChildren(...ROLES.flatMap((role, i) => {
    // A picture has a shape and a type of its values, and no place in a patient.
    const lines = host.viewer().header(i).split("\n").filter((line) => (picture ? /^[ST]/ : /./).test(line));
    if (!lines.length) return [];
    const pairs = lines.map((line) => line.split("\t"));
    return [element("b", { textContent: role }), element("dl", {}, ...pairs.flatMap(([name, value]) => [element("dt", { textContent: name }), element("dd", { textContent: value })]))];
  }));
}
