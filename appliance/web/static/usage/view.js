/* Who used what: of everybody for administrators, of their own key for others; above it the
   keys. Knows no price. */

import { getJson } from "../api.js";
import { h, svg } from "../dom.js";
import { count, duration } from "../format.js";
import { KeysSection } from "../keys/section.js";

const GROUPS = { key: "By key", model: "By model", day: "By day", "key,model": "By key and model" };
const TIMES = { "1d": "Last day", "7d": "Last week", "30d": "Last month", "": "Ever" };

export class UsageView {
  constructor() {
    this.keys = new KeysSection();
    this.problem = h("p", { class: "note", role: "alert", hidden: true });
    this.by = choices("by", "Grouped", GROUPS, () => this.#look());
    this.since = choices("since", "Time", TIMES, () => this.#look());
    this.table = h("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Usage" });
    this.element = h(
      "div",
      { class: "page", tabindex: "0", role: "region", "aria-label": "Keys and usage" },
      h(
        "div",
        { class: "page-inner" },
        h("h1", {}, "Keys and usage"),
        this.keys.element,
        h("div", { class: "title-row" }, h("h2", {}, "Usage"), h("div", { class: "choice-row" }, this.by.element, this.since.element)),
        this.problem,
        h("section", { class: "card", "aria-label": "Usage" }, this.table),
      ),
    );
  }

  show() {
    this.keys.look();
    this.#look();
  }

  hide() {}

  reached() {
    this.show();
  }

  async #look() {
    const asked = new URLSearchParams({ by: this.by.select.value });
    if (this.since.select.value) asked.set("since", this.since.select.value);
    try {
      this.#show(await getJson(`usage?${asked}`));
      this.problem.hidden = true;
    } catch (error) {
      this.table.replaceChildren();
      this.problem.textContent = error.message;
      this.problem.hidden = false;
    }
  }

  #show({ rows, total }) {
    const names = this.by.select.value.split(",");
    const hasCost = total.cost !== null;
    const hasEnergy = total.energy_j !== null;
    const most = Math.max(1, ...rows.map((row) => row.machine_s));
    const heads = [...names, "requests", "failed", "prompt tokens", "cached", "answer tokens", "time", "", hasCost && "cost", hasEnergy && "energy"];
    const line = (row, cells, bar) => [
      ...cells,
      h("td", {}, count(row.requests)),
      h("td", {}, count(row.failed)),
      h("td", {}, count(row.prompt_tokens)),
      h("td", {}, count(row.cached_prompt_tokens)),
      h("td", {}, count(row.completion_tokens)),
      h("td", {}, duration(row.machine_s)),
      h("td", {}, bar),
      hasCost ? h("td", {}, row.cost.toFixed(4)) : null,
      hasEnergy ? h("td", {}, `${(row.energy_j / 3600).toFixed(2)} Wh`) : null,
    ];
    const named = (row) => names.map((name) => h("th", { scope: "row" }, row[name]));
    const all = names.map((_, at) => h("th", { scope: "row" }, at ? "" : "all"));
    this.table.replaceChildren(
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, ...heads.filter((head) => head !== false).map((head) => h("th", { scope: "col" }, head || "share of the time")))),
        h("tbody", {}, ...rows.map((row) => h("tr", {}, line(row, named(row), bar(row.machine_s / most))))),
        h("tfoot", {}, h("tr", {}, line(total, all, null))),
      ),
    );
  }
}

function bar(part) {
  const picture = svg("svg", { viewBox: "0 0 100 10", class: "use-bar", preserveAspectRatio: "none", "aria-hidden": "true" });
  picture.append(svg("rect", { width: Math.max(0.5, part * 100), height: 10, rx: 2 }));
  return picture;
}

function choices(id, label, options, onchange) {
  const select = h("select", { id, onchange }, ...Object.entries(options).map(([value, text]) => h("option", { value }, text)));
  const element = h("div", { class: "choices" }, h("label", { for: id, class: "for-screen-readers" }, label), select);
  return { select, element };
}
