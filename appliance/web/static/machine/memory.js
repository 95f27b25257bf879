/* The memory plan as a picture: what was predicted for each part, above what is taken.
   Knows no request. */

import { h, svg } from "../dom.js";
import { bytes } from "../format.js";

const WIDTH = 1000;
const BAR = 26;

/** `parts`: bytes by name. `actual`: {anonymous, file} in bytes, or null. */
export function memoryPicture(parts, predicted, actual) {
  const taken = actual ? actual.anonymous + actual.file : 0;
  const scale = WIDTH / Math.max(predicted, taken, 1);
  const names = Object.keys(parts);
  const planned = stacked(names.map((name, at) => [parts[name], `part-${at % 8}`]), 0, scale);
  const real = actual ? stacked([[actual.file, "file"], [actual.anonymous, "own"]], BAR + 8, scale) : [];
  const said = `Predicted ${bytes(predicted)}${actual ? `, taken ${bytes(taken)}` : ""}`;
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${BAR * 2 + 8}`, class: "memory", role: "img", "aria-label": said, preserveAspectRatio: "none" },
    ...planned,
    ...real,
  );
  return h(
    "figure",
    { class: "memory-figure" },
    h("div", { class: "memory-rows" }, h("div", { class: "memory-names", "aria-hidden": "true" }, h("span", {}, "plan"), h("span", {}, "now")), picture),
    legend(names.map((name, at) => [`part-${at % 8}`, name, parts[name]])),
    actual ? legend([["file", "now, mapped from files", actual.file], ["own", "now, its own", actual.anonymous]]) : null,
    h("figcaption", {}, said),
  );
}

function stacked(rows, y, scale) {
  let x = 0;
  return rows.map(([amount, kind]) => {
    const rect = svg("rect", { x, y, width: amount * scale, height: BAR, class: kind });
    x += amount * scale;
    return rect;
  });
}

function legend(rows) {
  return h(
    "ul",
    { class: "legend" },
    ...rows.map(([kind, name, amount]) =>
      h("li", {}, svg("svg", { viewBox: "0 0 10 10", class: "swatch", "aria-hidden": "true" }, svg("rect", { width: 10, height: 10, rx: 2, class: kind })), `${name} ${bytes(amount)}`),
    ),
  );
}
