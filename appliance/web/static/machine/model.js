/* One model: its state, why it is served as it is, memory, slots, load and unload.
   Knows no other model. */

import { ApiError, getJson, send } from "../api.js";
import { confirmed, h } from "../dom.js";
import { count, duration } from "../format.js";
import { memoryPicture } from "./memory.js";

/* In these states the model is on its way somewhere already. */
const ON_ITS_WAY = new Set(["starting", "loading", "unloading"]);

/** Elements of it; `worker` is its process as /ps tells of it, `slots` of /slots. */
export function modelCard(model, worker, slots, onChange) {
  const memory = worker?.memory;
  const actual = memory ? { anonymous: memory.anonymous_bytes, file: memory.file_bytes } : null;
  const parts = model.predicted_parts ?? { everything: model.predicted_bytes ?? 0 };
  return h(
    "section",
    { class: "card", "aria-label": model.id },
    h("div", { class: "card-head" }, h("h2", {}, model.id), h("span", { class: `badge ${model.state}` }, model.state), buttons(model, onChange)),
    h("p", { class: "choice" }, model.choice ?? inShort(model)),
    model.progress ? h("p", { class: "hint" }, model.progress) : null,
    model.last_error ? h("p", { class: "note" }, model.last_error) : null,
    model.reason ? h("details", {}, h("summary", {}, "Why it is served like this"), h("p", { class: "reason" }, model.reason)) : null,
    model.is_loaded && model.predicted_bytes ? memoryPicture(parts, model.predicted_bytes, actual) : null,
    slots.length ? slotTable(slots) : null,
    model.is_loaded ? facts(model) : null,
  );
}

function inShort(model) {
  if (!model.is_loaded) return "Not loaded.";
  return [model.quantization, `context ${count(model.ctx)}`, `KV cache ${model.kv_type}`].filter(Boolean).join(", ");
}

function facts(model) {
  const rows = [
    ["computing", model.num_running],
    ["waiting for a slot", model.num_queued],
    ["tokens/s", model.tokens_per_s?.toFixed(1)],
    ["drafts", model.speculation],
    ["restarts", model.num_restarts],
    ["idle for", model.idle_s === null ? null : duration(model.idle_s)],
    ["unloaded in", model.unload_in_s === null ? null : duration(model.unload_in_s)],
  ];
  const known = rows.filter(([, value]) => value !== null && value !== undefined);
  return h("dl", { class: "facts" }, ...known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)))));
}

function slotTable(slots) {
  return h(
    "ul",
    { class: "slots", "aria-label": "Slots" },
    ...slots.map((slot) => {
      const { text, done, total } = progressOf(slot);
      return h(
        "li",
        { class: slot.is_processing ? "busy" : null },
        h("span", {}, `Slot ${slot.id}`),
        slot.is_processing ? h("progress", { max: total, value: done, "aria-label": `Slot ${slot.id}` }) : null,
        h("span", { class: "hint" }, text),
      );
    }),
  );
}

/* A prompt that is read, then an answer that grows towards its limit. */
function progressOf(slot) {
  if (!slot.is_processing) return { text: slot.state, done: 0, total: 1 };
  const read = slot.n_prompt_tokens_cache + slot.n_prompt_tokens_processed;
  if (read < slot.n_prompt_tokens) {
    return { text: `reads ${count(read)} of ${count(slot.n_prompt_tokens)}`, done: read, total: slot.n_prompt_tokens };
  }
  const { n_decoded: done, n_remain: left } = slot.next_token;
  return { text: `${count(done)} ${done === 1 ? "token" : "tokens"} written`, done, total: Math.max(1, done + left) };
}

function buttons(model, onChange) {
  if (ON_ITS_WAY.has(model.state)) return null;
  const keepAlive = model.is_loaded ? 0 : undefined;
  const label = model.is_loaded ? "Unload" : "Load";
  const button = h("button", { type: "button", class: "button small", "aria-label": `${label} ${model.id}` }, label);
  button.addEventListener("click", async () => {
    if (model.is_loaded && !(await confirmed(`Unload ${model.id}? The next request loads it again.`, "Unload"))) return;
    button.disabled = true;
    try {
      // Ollama's way: a request without a prompt that says how long the model stays
      await send("api/generate", { method: "POST", body: { model: model.id, stream: false, keep_alive: keepAlive } });
      onChange("");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      onChange(error.message);
    }
  });
  return button;
}

export async function slotsOf(model) {
  if (!model.is_loaded || model.pooling) return [];
  return getJson(`slots?model=${encodeURIComponent(model.id)}`);
}
