/* The drawer: what goes with every message of a chat. Knows no request. */

import { h, iconButton } from "../dom.js";

const NUMBER_FIELDS = [
  ["temperature", "Temperature", { min: 0, max: 2, step: 0.05 }],
  ["top_p", "Top-p", { min: 0, max: 1, step: 0.05 }],
  ["top_k", "Top-k", { min: 0, step: 1 }],
  ["min_p", "Min-p", { min: 0, max: 1, step: 0.01 }],
  ["repeat_penalty", "Repeat penalty", { min: 0, step: 0.05 }],
  ["max_tokens", "Most tokens", { min: 1, step: 1 }],
  ["seed", "Seed", { step: 1 }],
];
const SCHEMA_EXAMPLE = '{"type": "object", "properties": {"answer": {"type": "string"}}}';

/** `onChange(settings)` is given all of them; `onClose()` is told when the drawer closes. */
export class SettingsDrawer {
  constructor(onChange, onClose) {
    this.onChange = onChange;
    this.settings = {};
    this.fields = {};
    const close = () => onClose();
    this.element = h(
      "aside",
      { class: "drawer", id: "settings", "aria-label": "Settings of this chat", hidden: true },
      h("div", { class: "drawer-head" }, h("h2", {}, "Settings of this chat"), iconButton("close", "Close the settings", close)),
      this.#text("system", "System prompt", 5, "What the model should know and how it should answer"),
      h("fieldset", {}, h("legend", {}, "Sampling"), h("p", { class: "hint" }, "What is empty is up to the model."), this.#numbers()),
      this.#effort(),
      this.#text("schema", "Answer as JSON of this schema", 5, SCHEMA_EXAMPLE, true),
      this.#text("tools", "Functions the model may call", 4, '[{"type": "function", "function": {…}}]', true),
    );
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
    });
  }

  show(settings) {
    this.settings = { ...settings };
    for (const [name, field] of Object.entries(this.fields)) field.value = settings[name] ?? "";
    for (const name of ["schema", "tools"]) this.#check(name);
  }

  focus() {
    this.fields.system.focus();
  }

  #changed(name, value) {
    if (value === "") delete this.settings[name];
    else this.settings[name] = value;
    this.onChange({ ...this.settings });
  }

  #field(name, element) {
    element.id = `setting-${name}`;
    element.addEventListener("input", () => this.#changed(name, element.value));
    this.fields[name] = element;
    return element;
  }

  #text(name, label, rows, placeholder, isJson = false) {
    const area = this.#field(name, h("textarea", { rows, placeholder, spellcheck: isJson ? "false" : null, class: isJson ? "json" : null }));
    const problem = h("p", { class: "note", id: `problem-${name}`, hidden: true });
    if (isJson) {
      area.setAttribute("aria-describedby", problem.id);
      area.problem = problem;
      area.addEventListener("input", () => this.#check(name));
    }
    return h("div", { class: "field" }, h("label", { for: area.id }, label), area, problem);
  }

  #check(name) {
    const area = this.fields[name];
    let said = "";
    try {
      if (area.value) JSON.parse(area.value);
    } catch (error) {
      said = `No JSON: ${error.message}`;
    }
    area.problem.textContent = said;
    area.problem.hidden = !said;
    area.setAttribute("aria-invalid", String(Boolean(said)));
  }

  #numbers() {
    const rows = NUMBER_FIELDS.map(([name, label, limits]) => {
      const input = this.#field(name, h("input", { type: "number", inputmode: "decimal", ...limits }));
      return h("div", { class: "number" }, h("label", { for: input.id }, label), input);
    });
    return h("div", { class: "numbers" }, ...rows);
  }

  #effort() {
    const choices = ["", "none", "low", "medium", "high"];
    const select = this.#field(
      "reasoning_effort",
      h("select", {}, ...choices.map((each) => h("option", { value: each }, each || "as the model has it"))),
    );
    return h("div", { class: "field" }, h("label", { for: select.id }, "Reasoning"), select);
  }
}
