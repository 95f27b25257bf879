/* A message that is written anew in its own place. Knows no chat. */

import { h } from "../dom.js";

/** The field with its buttons, and a `focus()` that leads into it; `onSend(text)`, `onClose()`. */
export function editor(content, { onSend, onClose }) {
  const text = h("textarea", { "aria-label": "Edited message", rows: Math.min(12, content.split("\n").length + 1) });
  text.value = content;
  const send = () => {
    onClose();
    onSend(text.value.trim());
  };
  text.addEventListener("keydown", (event) => {
    if (event.key === "Escape") onClose();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  const cancel = h("button", { type: "button", class: "button", onclick: onClose }, "Cancel");
  const again = h("button", { type: "button", class: "button primary", onclick: send }, "Send as a branch");
  const element = h("div", { class: "editor" }, text, h("div", { class: "dialog-buttons" }, cancel, again));
  return { element, focus: () => text.focus() };
}
