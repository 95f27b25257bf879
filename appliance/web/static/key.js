/* Asks for the key, once for all requests that wait for it. Knows no endpoint. */

import { isSendable, onKeyNeeded, storedKey, storeKey } from "./api.js";
import { h } from "./dom.js";

let asking = null;

export function installKeyDialog() {
  onKeyNeeded((reason) => askOnce(reason));
}

/** Resolves to whether the user gave one, or took the one there was away. */
export function askOnce(reason = "") {
  asking ??= ask(reason).finally(() => (asking = null));
  return asking;
}

function ask(reason) {
  return new Promise((resolve) => {
    const input = h("input", { type: "password", id: "key", autocomplete: "off", spellcheck: "false" });
    const wrong = h("p", { class: "note problem", role: "alert", hidden: true }, "This is no key: it has a letter or a dash that keys do not have.");
    const kept = h("input", { type: "checkbox", id: "key-kept" });
    const finish = (isGiven) => {
      if (isGiven) storeKey(input.value.trim(), kept.checked);
      dialog.close();
      resolve(isGiven);
    };
    const forget = () => {
      storeKey("", false);
      dialog.close();
      resolve(true);
    };
    const use = (event) => {
      event.preventDefault();
      const key = input.value.trim();
      wrong.hidden = isSendable(key);
      if (key && isSendable(key)) finish(true);
      else input.focus();
    };
    const dialog = h(
      "dialog",
      { class: "dialog", "aria-labelledby": "key-title", onclose: () => dialog.remove(), oncancel: () => resolve(false) },
      h(
        "form",
        { onsubmit: use },
        h("h2", { id: "key-title" }, "API key"),
        h("p", {}, reason || "This server needs a key. Whoever runs it makes one with ‘appliance keys create’."),
        h("label", { for: "key" }, "Key"),
        input,
        wrong,
        h("label", { class: "check", for: "key-kept" }, kept, "Keep it in this browser; else it goes with this tab"),
        h(
          "div",
          { class: "dialog-buttons" },
          storedKey() ? h("button", { type: "button", class: "button", onclick: forget }, "Forget it") : null,
          h("button", { type: "button", class: "button", onclick: () => finish(false) }, "Cancel"),
          h("button", { type: "submit", class: "button primary" }, "Use this key"),
        ),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
    input.focus();
  });
}
