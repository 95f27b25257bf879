/* Fetches a model while serving, and tells how far it has come. Knows no hub. */

import { jsonLines, send } from "../api.js";
import { h } from "../dom.js";
import { bytes } from "../format.js";

/** `onDone()` is told when there is another model. */
export function pullForm(onDone) {
  let abort = null;
  const name = h("input", { type: "text", id: "pull-name", placeholder: "org/repo or org/repo:Q4_K_M", autocomplete: "off", spellcheck: "false" });
  const progress = h("progress", { "aria-label": "Fetched", hidden: true });
  const said = h("p", { class: "hint", role: "status" });
  const start = h("button", { type: "submit", class: "button primary" }, "Fetch");
  const cancel = h("button", { type: "button", class: "button", hidden: true, onclick: () => abort.abort() }, "Cancel");

  function show({ status, total, completed }) {
    progress.hidden = !total;
    if (total) {
      progress.max = total;
      progress.value = completed ?? 0;
    }
    said.textContent = total ? `${bytes(completed ?? 0)} of ${bytes(total)}` : status;
  }

  async function pull(event) {
    event.preventDefault();
    if (!name.value.trim() || abort) return;
    abort = new AbortController();
    start.disabled = true;
    cancel.hidden = false;
    try {
      const response = await send("api/pull", { method: "POST", body: { model: name.value.trim() }, signal: abort.signal });
      for await (const line of jsonLines(response)) {
        if (line.error) throw new Error(line.error);
        show(line);
      }
      onDone();
    } catch (error) {
      show({ status: abort.signal.aborted ? "Cancelled. What has arrived is kept." : error.message });
    }
    abort = null;
    start.disabled = false;
    cancel.hidden = true;
  }

  return h(
    "section",
    { class: "card", "aria-label": "Another model" },
    h("h2", {}, "Another model"),
    h("p", { class: "hint" }, "From the hub, where this server may change its models. The largest quantization that fits is chosen unless you name one."),
    h("form", { class: "row-form", onsubmit: pull }, h("label", { for: "pull-name", class: "for-screen-readers" }, "Repository"), name, start, cancel),
    progress,
    said,
  );
}
