/* Another model: what of the catalog fits, what a name would bring, and fetching it.
   Knows no hub. */

import { getJson, jsonLines, send } from "../api.js";
import { h } from "../dom.js";
import { bytes } from "../format.js";

export class PullCard {
  /** `onDone()` is told when there is another model. */
  constructor(onDone) {
    this.onDone = onDone;
    this.abort = null;
    const names = h("datalist", { id: "pull-names" });
    this.names = names;
    this.name = h("input", { type: "text", id: "pull-name", list: names.id, placeholder: "a name, org/repo or org/repo:Q4_K_M", autocomplete: "off", spellcheck: "false", oninput: () => this.#show(null) });
    this.look = h("button", { type: "submit", class: "button" }, "Look");
    this.plan = h("div", { class: "pull-plan", role: "status" });
    this.fetch = h("button", { type: "button", class: "button primary", hidden: true, onclick: () => this.#pull() }, "Fetch");
    this.cancel = h("button", { type: "button", class: "button", hidden: true, onclick: () => this.abort.abort() }, "Cancel");
    this.progress = h("progress", { "aria-label": "Fetched", hidden: true });
    this.said = h("p", { class: "hint", role: "status" });
    this.form = h(
      "form",
      { class: "row-form", hidden: true, onsubmit: (event) => this.#plan(event) },
      h("label", { for: "pull-name", class: "for-screen-readers" }, "Repository"),
      this.name,
      names,
      this.look,
    );
    this.fitting = h("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Models that fit" });
    this.summary = h("summary", {}, "");
    const hint = h("p", { class: "hint" }, "Estimated: tokens/s is what memory’s bandwidth allows for one answer. ‘Look’ plans exactly.");
    this.known = h("details", { hidden: true }, this.summary, this.fitting, hint);
    this.element = h(
      "section",
      { class: "card", "aria-label": "Another model" },
      h("h2", {}, "Another model"),
      this.form,
      this.plan,
      h("div", { class: "row-form" }, this.fetch, this.cancel),
      this.progress,
      this.said,
      this.known,
    );
  }

  /** Asks what may be fetched, and what fits. */
  async show() {
    try {
      const catalog = await getJson("catalog");
      this.form.hidden = !catalog.may_pull;
      this.#say(catalog.may_pull ? "" : "This server does not change its models while it serves; ‘--model-changes on’ lets it.");
      this.#showKnown(catalog);
    } catch (error) {
      this.#say(error.message);
    }
  }

  #showKnown({ models, usable_bytes: usable, may_pull: mayPull }) {
    const fitting = models.filter((model) => model.fits);
    this.known.hidden = false;
    this.summary.textContent = `${fitting.length} of ${models.length} known models fit in the ${bytes(usable)} that can be used now`;
    this.names.replaceChildren(...fitting.map((model) => h("option", { value: model.name })));
    const heads = ["model", "kind", "quantization", "to fetch", "takes about", "tokens/s", ""];
    this.fitting.replaceChildren(
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, ...heads.map((head) => (head ? h("th", { scope: "col" }, head) : h("td", {}))))),
        h("tbody", {}, ...fitting.map((model) => this.#row(model, mayPull))),
      ),
    );
  }

  #row(model, mayPull) {
    const choose = h("button", { type: "button", class: "button small", "aria-label": `Choose ${model.name}`, onclick: () => this.#choose(model.name) }, "Choose");
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, model.name),
      h("td", {}, model.kind),
      h("td", {}, model.quantization),
      h("td", {}, bytes(model.sizes[model.quantization])),
      h("td", {}, bytes(model.need_bytes)),
      h("td", {}, model.tokens_per_s?.toFixed(1) ?? "–"),
      h("td", {}, model.is_here ? "here" : mayPull ? choose : ""),
    );
  }

  #choose(name) {
    this.name.value = name;
    this.name.focus();
    this.#plan();
  }

  async #plan(event) {
    event?.preventDefault();
    const model = this.name.value.trim();
    if (!model || this.abort) return;
    this.look.disabled = true;
    this.#show(null);
    this.#say("Looking at what there is…");
    try {
      const plan = await getJson(`catalog/plan?model=${encodeURIComponent(model)}`);
      if (model === this.name.value.trim()) this.#show(plan); // else another was typed meanwhile
      this.#say("");
    } catch (error) {
      this.#say(error.message);
    }
    this.look.disabled = false;
  }

  #show(plan) {
    this.planned = plan;
    this.plan.replaceChildren(...(plan ? explained(plan) : []));
    this.fetch.hidden = !plan?.fits;
    this.fetch.textContent = plan?.download_bytes ? `Fetch ${bytes(plan.download_bytes)}` : "Fetch";
  }

  async #pull() {
    if (this.abort) return;
    const { signal } = (this.abort = new AbortController());
    this.fetch.disabled = true;
    this.cancel.hidden = false;
    try {
      const response = await send("api/pull", { method: "POST", body: { model: this.planned.model }, signal });
      for await (const line of jsonLines(response)) {
        if (line.error) throw new Error(line.error);
        this.#showProgress(line);
      }
      this.#show(null);
      await this.show();
      this.#say("It is here, and is served.");
      this.onDone();
    } catch (error) {
      this.#say(signal.aborted ? "Cancelled. What has arrived is kept." : error.message);
    }
    this.progress.hidden = true;
    this.abort = null;
    this.fetch.disabled = false;
    this.cancel.hidden = true;
  }

  #showProgress({ status, total, completed = 0 }) {
    this.progress.hidden = !total;
    if (total) Object.assign(this.progress, { max: total, value: completed });
    this.#say(total ? `${bytes(completed)} of ${bytes(total)}` : status);
  }

  #say(text) {
    this.said.textContent = text;
  }
}

function explained(plan) {
  if (plan.is_here) return [h("p", {}, "It is here already.")];
  const sizes = Object.entries(plan.sizes).map(([name, size]) => `${name} ${bytes(size)}`);
  return [
    plan.fits ? h("p", { class: "choice" }, `${plan.choice}: ${bytes(plan.need_bytes)} of memory, ${plan.download_bytes ? `at most ${bytes(plan.download_bytes)}` : "as much as there is"} to fetch from ${plan.repository}.`) : null,
    h("p", { class: "reason" }, plan.reason),
    sizes.length ? h("p", { class: "hint" }, `There are: ${sizes.join(", ")}.`) : null,
  ].filter(Boolean);
}
