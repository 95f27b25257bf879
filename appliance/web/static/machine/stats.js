/* Percentiles and rates of a window, as /stats has them. Knows no model. */

import { h } from "../dom.js";
import { count, duration, share } from "../format.js";

const ROWS = [
  ["first_token_s", "to the first token"],
  ["between_tokens_s", "between tokens"],
  ["queue_s", "in the queue"],
  ["total_s", "whole answers"],
];

/** `numbers`: of one model in one window. */
export function statsCard(id, numbers) {
  const { engine } = numbers;
  const rows = [
    ["requests", count(numbers.requests)],
    ["tokens written", count(numbers.completion_tokens)],
    ["tokens/s", engine ? engine.tokens_per_s.toFixed(1) : "–"],
    ["rows a step", engine?.rows_per_step?.toFixed(1) ?? "–"],
    ["prompts from the cache", share(numbers.prefix_hit_rate)],
    ["drafts accepted", share(numbers.draft_acceptance)],
  ];
  return h(
    "section",
    { class: "card", "aria-label": `Numbers of ${id}` },
    h("h2", {}, id),
    h("dl", { class: "facts" }, ...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h(
      "div",
      { class: "table", tabindex: "0", role: "group", "aria-label": `Percentiles of ${id}` },
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "time"), ...["p50", "p95", "p99"].map((each) => h("th", { scope: "col" }, each)))),
        h(
          "tbody",
          {},
          ...ROWS.map(([name, label]) =>
            h("tr", {}, h("th", { scope: "row" }, label), ...["p50", "p95", "p99"].map((each) => h("td", {}, duration(numbers[name][each])))),
          ),
        ),
      ),
    ),
  );
}
