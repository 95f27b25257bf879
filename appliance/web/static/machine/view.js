/* The machine: memory, models, slots and numbers, looked at again while they are shown.
   Knows no chat. */

import { getJson } from "../api.js";
import { h, replaceKept } from "../dom.js";
import { bytes } from "../format.js";
import { modelCard, slotsOf } from "./model.js";
import { PullCard } from "./pull.js";
import { statsCard } from "./stats.js";

const LOOK_EVERY_MS = 2000;
const WINDOWS = { last_5_minutes: "Last 5 minutes", last_hour: "Last hour" };

export class MachineView {
  constructor() {
    this.timer = 0;
    this.problem = h("p", { class: "note", role: "alert", hidden: true });
    this.budget = h("p", { class: "hint" });
    this.heat = h("p", { class: "hint", hidden: true });
    this.pull = new PullCard(() => this.#look());
    this.models = h("div", { class: "cards" });
    this.numbers = h("div", { class: "cards" });
    this.window = h(
      "select",
      { id: "window", onchange: () => this.#look() },
      ...Object.entries(WINDOWS).map(([value, label]) => h("option", { value }, label)),
    );
    this.element = h(
      "div",
      { class: "page", tabindex: "0", role: "region", "aria-label": "Machine" },
      h(
        "div",
        { class: "page-inner" },
        h("h1", {}, "Machine"),
        this.problem,
        this.budget,
        this.heat,
        this.models,
        h("div", { class: "title-row" }, h("h2", {}, "How requests went"), h("label", { for: "window", class: "for-screen-readers" }, "Window"), this.window),
        this.numbers,
        this.pull.element,
      ),
    );
  }

  show() {
    this.isShown = true;
    this.pull.show();
    this.#again();
  }

  hide() {
    this.isShown = false;
    clearTimeout(this.timer);
  }

  reached() {
    this.pull.show();
  }

  async #again() {
    clearTimeout(this.timer);
    if (!document.hidden) await this.#look();
    if (this.isShown) this.timer = setTimeout(() => this.#again(), LOOK_EVERY_MS);
  }

  async #look() {
    try {
      const [ps, stats] = await Promise.all([getJson("ps"), getJson("stats")]);
      const slots = await Promise.all(ps.models.map(slotsOf));
      this.#showModels(ps, slots);
      this.#showNumbers(stats[this.window.value]);
      if (!this.isTold) this.#say("");
    } catch (error) {
      this.#say(error.message);
    }
  }

  #say(text) {
    this.problem.textContent = text;
    this.problem.hidden = !text;
  }

  /* What somebody opened stays open, and what has the focus keeps it. */
  #showModels(ps, slots) {
    const own = ps.server.memory ? `The server itself takes ${bytes(ps.server.memory.pss_bytes)}.` : "";
    const left = ps.budget_bytes === null ? "" : `${bytes(ps.left_bytes)} of the ${bytes(ps.budget_bytes)} that all may take are left. `;
    this.budget.textContent = left + own;
    this.#showHeat(ps.heat);
    const onChange = (problem) => {
      this.isTold = Boolean(problem);
      this.#say(problem);
      this.#look();
    };
    replaceKept(this.models, ps.models.map((model, at) => modelCard(model, ps.workers[model.id], slots[at], onChange)));
  }

  /* Where the kernel tells nothing of it, nothing is shown. */
  #showHeat(heat) {
    const parts = [];
    if (heat?.celsius) parts.push(`${heat.celsius.toFixed(0)} °C${heat.part ? ` (${heat.part})` : ""}`);
    if (heat?.state) parts.push(heat.state);
    if (heat?.share < 1) parts.push(`models use ${(heat.share * 100).toFixed(0)} % of the power to stay below the limit`);
    this.heat.hidden = !parts.length;
    this.heat.title = heat?.reason ?? "";
    this.heat.textContent = `Heat: ${parts.join(", ")}${heat?.state === "throttling" ? `. ${heat.reason}` : ""}`;
    this.heat.classList.toggle("warm", ["hot", "throttling"].includes(heat?.state));
  }

  #showNumbers({ models, keys }) {
    const found = Object.entries(models);
    const cards = found.length ? found : Object.entries(keys);
    replaceKept(this.numbers, cards.map(([id, numbers]) => statsCard(id, numbers)));
    if (!cards.length) this.numbers.append(h("p", { class: "hint" }, "No requests in this time."));
  }
}
