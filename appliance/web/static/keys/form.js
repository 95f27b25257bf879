/* The dialog in which a key's terms are written. Knows no request but by what it is given. */

import { getJson } from "../api.js";
import { h } from "../dom.js";
import { day } from "../format.js";

const NONE = "none"; // takes a limit away, as in ‘appliance keys set’
const LIMITS = [
  ["requests_per_minute", "Requests a minute"],
  ["tokens_per_minute", "Tokens a minute"],
  ["tokens_per_day", "Tokens a day"],
  ["concurrent_requests", "Requests at once"],
];
const DEFAULT_PRIORITY = 10;

/** For a new key or, of `key`, for what is to change. `submit(terms)` may throw what is then
    shown. Resolves to what it returned, or null where the user thought better of it. */
export async function askTerms(key, submit) {
  const models = await servedModels();
  return new Promise((resolve) => new TermsDialog(key, models, submit, resolve));
}

async function servedModels() {
  try {
    return (await getJson("v1/models")).data
      .filter((model) => !model.tiers) // `auto` is whichever of the others a key may use
      .map((model) => model.id);
  } catch {
    return []; // those that a key has can still be taken away
  }
}

class TermsDialog {
  constructor(key, models, submit, done) {
    this.key = key;
    this.submit = submit;
    this.result = null;
    this.fields = this.#fields();
    this.models = modelBoxes([...new Set([...models, ...(key?.models ?? [])])], key?.models ?? []);
    this.problem = h("p", { class: "note", role: "alert", hidden: true });
    this.send = h("button", { type: "submit", class: "button primary" }, key ? "Change" : "Make the key");
    const cancel = h("button", { type: "button", class: "button", onclick: () => this.dialog.close() }, "Cancel");
    const onclose = () => {
      this.dialog.remove();
      done(this.result);
    };
    this.dialog = h(
      "dialog",
      { class: "dialog", "aria-labelledby": "terms-title", onclose },
      h(
        "form",
        { novalidate: true, onsubmit: (event) => this.#submit(event) },
        h("h2", { id: "terms-title" }, key ? `Terms of ${key.name}` : "New key"),
        h("p", { class: "hint" }, "What is empty has no limit."),
        h("div", { class: "numbers" }, ...Object.values(this.fields).map(({ label, input }) => h("div", { class: "number" }, h("label", { for: input.id }, label), input))),
        this.#admin(),
        this.models.element,
        this.problem,
        h("div", { class: "dialog-buttons" }, cancel, this.send),
      ),
    );
    document.body.append(this.dialog);
    this.dialog.showModal();
    Object.values(this.fields)[0].input.focus();
  }

  #fields() {
    const { key } = this;
    const fields = {};
    const add = (name, label, attributes) => {
      const input = h("input", { id: `term-${name}`, ...attributes });
      fields[name] = { label, input, before: input.value };
    };
    if (!key) add("name", "Name", { type: "text", autocomplete: "off", spellcheck: "false", required: true });
    for (const [name, label] of LIMITS) add(name, label, { type: "number", min: 1, step: 1, value: key?.[name] ?? "" });
    add("priority", "Priority, 1 to 100", { type: "number", min: 1, max: 100, step: 1, required: true, value: key?.priority ?? DEFAULT_PRIORITY });
    const expires = key?.expires_s ? day(key.expires_s) : "";
    add("expires_s", "Expires on (UTC)", { type: "date", min: new Date().toISOString().slice(0, 10), value: expires });
    return fields;
  }

  #admin() {
    this.admin = h("input", { type: "checkbox", id: "term-is_admin" });
    this.admin.checked = this.key?.is_admin ?? false;
    return h("label", { class: "check", for: "term-is_admin" }, this.admin, "Administrator: sees what everybody uses, makes and ends keys");
  }

  /* Of a key that is there, only what differs: somebody else may change the rest meanwhile. */
  #terms() {
    const terms = {};
    const set = (name, value, before) => {
      if (value !== before) terms[name] = value;
    };
    const { key, fields } = this;
    if (fields.name) terms.name = fields.name.input.value.trim();
    for (const [name] of LIMITS) set(name, numberOf(fields[name].input), key?.[name] ?? NONE);
    set("priority", numberOf(fields.priority.input), key ? key.priority : DEFAULT_PRIORITY);
    const { input: expires, before } = fields.expires_s;
    if (expires.value !== before) {
      terms.expires_s = expires.value ? Date.parse(`${expires.value}T00:00Z`) / 1000 : NONE;
    }
    set("is_admin", this.admin.checked, key?.is_admin ?? false);
    const chosen = this.models.chosen();
    if (String(chosen) !== String(key?.models ?? NONE)) terms.models = chosen;
    return terms;
  }

  async #submit(event) {
    event.preventDefault();
    const bad = Object.values(this.fields).find(isBad);
    if (bad) return this.#say(`${bad.label}: ${bad.input.validationMessage}`, bad.input);
    const terms = this.#terms();
    if (!Object.keys(terms).length) return this.dialog.close();
    this.send.disabled = true;
    try {
      this.result = await this.submit(terms);
      this.dialog.close();
    } catch (error) {
      this.#say(error.message, this.fields[error.param]?.input);
    }
    this.send.disabled = false;
  }

  #say(text, input) {
    for (const each of Object.values(this.fields)) each.input.removeAttribute("aria-invalid");
    this.problem.textContent = text;
    this.problem.hidden = false;
    input?.setAttribute("aria-invalid", "true");
    input?.focus();
  }
}

/* What was there before, such as a day that is past, may stay. */
function isBad({ input, before }) {
  return !input.validity.valid && (input.value !== before || !before);
}

function numberOf(input) {
  return input.value === "" ? NONE : Number(input.value);
}

/* None ticked is all of them: what a key may use is taken away by ticking the others. */
function modelBoxes(names, chosen) {
  const boxes = names.map((name, at) => {
    const box = h("input", { type: "checkbox", id: `term-model-${at}`, value: name });
    box.checked = chosen.includes(name);
    return { name, box };
  });
  const element = h(
    "fieldset",
    { class: "models" },
    h("legend", {}, "Models"),
    h("p", { class: "hint" }, "None ticked: all, and those to come."),
    ...boxes.map(({ name, box }) => h("label", { class: "check", for: box.id }, box, name)),
  );
  const ticked = () => boxes.filter(({ box }) => box.checked).map(({ name }) => name);
  return { element, chosen: () => (ticked().length ? ticked() : NONE) };
}
