/* Keys: whose there are, what each may use and has used; made, changed and ended by
   administrators. Knows no secret but to show it once. */

import { getJson, replaceKey, send, storedKey } from "../api.js";
import { announce, confirmed, h, replaceKept } from "../dom.js";
import { ago, count, day } from "../format.js";
import { askTerms } from "./form.js";
import { showSecret } from "./secret.js";

const PREFIX = "ak-"; // of every key that a server has made, before the part that is no secret
const LIMITS = [
  ["requests_per_minute", "requests a minute"],
  ["tokens_per_minute", "tokens a minute"],
  ["concurrent_requests", "requests at once"],
];

export class KeysSection {
  constructor() {
    this.problem = h("p", { class: "note", role: "alert", hidden: true });
    this.hint = h("p", { class: "hint" });
    this.list = h("div", { class: "cards" });
    this.create = h("button", { type: "button", class: "button primary", hidden: true, onclick: () => this.#create() }, "New key");
    this.element = h(
      "section",
      { "aria-label": "Keys" },
      h("div", { class: "title-row" }, h("h2", {}, "Keys"), this.create),
      this.hint,
      this.problem,
      this.list,
    );
  }

  async look() {
    try {
      const { keys, may_change: mayChange } = await getJson("keys");
      this.keys = keys;
      this.create.hidden = !mayChange;
      this.hint.textContent = explained(keys, mayChange);
      replaceKept(this.list, keys.map((key) => this.#card(key, mayChange)));
      this.#say("");
    } catch (error) {
      this.#say(error.message);
    }
  }

  #say(text) {
    this.problem.textContent = text;
    this.problem.hidden = !text;
  }

  #card(key, mayChange) {
    return h(
      "section",
      { class: "card key-card", "aria-label": `Key ${key.name}` },
      h(
        "div",
        { class: "card-head" },
        h("h3", {}, key.name),
        h("span", { class: `badge ${key.state}` }, key.state),
        key.is_admin ? h("span", { class: "badge" }, "administrator") : null,
        isOfThisPage(key) ? h("span", { class: "badge" }, "this page’s") : null,
        mayChange ? this.#buttons(key) : null,
      ),
      facts(key),
    );
  }

  #buttons(key) {
    const action = (label, onclick, kind = "") =>
      h("button", { type: "button", class: `button small ${kind}`, "aria-label": `${label} ${key.name}`, onclick }, label);
    return h(
      "div",
      { class: "key-buttons" },
      action("Change", () => this.#change(key)),
      action("Rotate", () => this.#rotate(key)),
      key.state === "revoked" ? null : action("Revoke", () => this.#revoke(key), "danger"),
    );
  }

  async #create() {
    const made = await askTerms(null, (terms) => post("keys", terms));
    if (!made) return;
    await this.look();
    await showSecret(made.name, made.key);
  }

  async #change(key) {
    const path = `keys/${encodeURIComponent(key.name)}`;
    const changed = await askTerms(key, async (terms) => (await send(path, { method: "PATCH", body: terms })).json());
    if (!changed) return;
    announce(`${key.name} is changed`);
    await this.look();
  }

  async #rotate(key) {
    const own = isOfThisPage(key) ? " This page goes on with the new one." : "";
    const question = `Give ${key.name} another key? The one in use ends at once.${own}`;
    if (!(await confirmed(question, "Rotate"))) return;
    await this.#act(async () => {
      const made = await post(`keys/${encodeURIComponent(key.name)}/rotate`);
      if (own) replaceKey(made.key);
      await this.look();
      await showSecret(made.name, made.key);
    });
  }

  async #revoke(key) {
    const own = isOfThisPage(key) ? " It is this page’s own: you need another one to go on." : "";
    const last = this.#isLastAdministrator(key) ? " No administrator is left then: the next one is made on the server’s machine, by ‘appliance keys create NAME --admin’." : "";
    const question = `End the key of ${key.name}? Whoever uses it is answered no more.${own}${last}`;
    if (!(await confirmed(question, "Revoke"))) return;
    await this.#act(async () => {
      await post(`keys/${encodeURIComponent(key.name)}/revoke`);
      announce(`The key of ${key.name} is revoked`);
      await this.look();
    });
  }

  #isLastAdministrator(key) {
    const isAdministrator = (each) => each.is_admin && each.state === "active";
    return isAdministrator(key) && this.keys.filter(isAdministrator).length === 1;
  }

  async #act(work) {
    try {
      await work();
    } catch (error) {
      this.#say(error.message);
    }
  }
}

async function post(path, body) {
  return (await send(path, { method: "POST", body })).json();
}

function isOfThisPage(key) {
  return storedKey().startsWith(`${PREFIX}${key.key_id}-`);
}

function explained(keys, mayChange) {
  if (mayChange) return keys.length ? "" : "No keys were made here yet.";
  if (keys.length) return "What your key may use, and has used. Administrators make and change keys.";
  if (storedKey()) return "This key has no terms of its own: it is one of a file of the server’s.";
  return "This server asks nobody for a key. The first one is made on its machine: ‘appliance keys create NAME --admin’. From then on nobody is answered without one, and keys are made here, too.";
}

/* Of limits those that it has. */
function facts(key) {
  const limits = LIMITS.filter(([name]) => key[name] !== null);
  const rows = [
    ["models", key.models === null ? "all" : key.models.join(", ")],
    ...limits.map(([name, label]) => [label, count(key[name])]),
    ["priority", String(key.priority)],
    ["tokens today", today(key)],
    ["requests today", count(key.requests_today)],
    ["last used", key.last_used_s === null ? "never" : ago(key.last_used_s)],
    ["expires", key.expires_s === null ? "never" : day(key.expires_s)],
  ];
  return h("dl", { class: "facts" }, ...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/* Beside a limit also as a bar, how much of it is used. */
function today(key) {
  if (key.tokens_per_day === null) return count(key.tokens_today);
  const text = `${count(key.tokens_today)} of ${count(key.tokens_per_day)}`;
  return h("span", { class: "key-day" }, text, h("progress", { max: key.tokens_per_day, value: key.tokens_today, "aria-label": `Tokens of ${key.name} today` }));
}
