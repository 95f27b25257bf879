/* Shows a new key, this once. Keeps it nowhere. */

import { copyText, h } from "../dom.js";

/** Resolves when the user has closed it. */
export function showSecret(name, key) {
  return new Promise((resolve) => {
    const field = h("input", { type: "text", id: "new-key", readonly: true, class: "secret", value: key, onfocus: () => field.select() });
    const copy = h("button", { type: "button", class: "button primary" }, "Copy");
    const said = h("p", { class: "hint", role: "status" });
    let isCopied = false;
    const oncancel = (event) => {
      if (isCopied || said.textContent) return;
      event.preventDefault();
      said.textContent = "It is not copied yet. Escape once more closes this.";
    };
    const onclose = () => {
      dialog.remove();
      resolve();
    };
    const dialog = h(
      "dialog",
      { class: "dialog", "aria-labelledby": "secret-title", oncancel, onclose },
      h("h2", { id: "secret-title" }, `The key of ${name}`),
      h("p", {}, "It is shown this once: only its hash is kept. Whoever loses it gets another one by ‘Rotate’."),
      h("label", { for: "new-key" }, "Key"),
      field,
      said,
      h("div", { class: "dialog-buttons" }, copy, h("button", { type: "button", class: "button", onclick: () => dialog.close() }, "Done")),
    );
    copy.addEventListener("click", async () => {
      try {
        await copyText(key, dialog);
        isCopied = true;
        said.textContent = "Copied";
      } catch {
        said.textContent = "This browser does not let the page copy. It is marked above.";
        field.focus();
      }
    });
    document.body.append(dialog);
    dialog.showModal();
    copy.focus();
  });
}
