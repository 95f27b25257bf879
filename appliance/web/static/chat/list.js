/* The list of chats: open, rename, delete, export, import; which are being answered. Knows no
   message. */

import { confirmed, h, iconButton } from "../dom.js";

/** `actions`: {create, open, rename, remove, removeAll, exportAll, importAll}. */
export class ChatList {
  constructor(actions) {
    this.actions = actions;
    this.isRenaming = false; // what is typed is not taken away by a list that changes
    this.items = h("ul", { class: "chat-items" });
    this.file = h("input", { type: "file", accept: "application/json,.json", hidden: true, "aria-label": "File of chats" });
    this.file.addEventListener("change", async () => {
      const [file] = this.file.files;
      if (file) actions.importAll(await file.text());
      this.file.value = "";
    });
    const small = (label, onclick) => h("button", { type: "button", class: "link-button", onclick }, label);
    this.element = h(
      "nav",
      { class: "chats", id: "chats", "aria-label": "Chats" },
      h("button", { type: "button", class: "button wide", onclick: () => actions.create() }, "New chat"),
      this.items,
      h(
        "div",
        { class: "chats-foot" },
        small("Export", () => actions.exportAll()),
        small("Import", () => this.file.click()),
        small("Delete all", async () => {
          if (await confirmed("Delete all chats of this browser? They are nowhere else.", "Delete all")) actions.removeAll();
        }),
        this.file,
      ),
    );
  }

  /** `isAnswered(chat)`: whether an answer to it is on its way. */
  show(chats, currentId, isAnswered) {
    if (this.isRenaming) return;
    this.items.replaceChildren(...chats.map((chat) => this.#item(chat, chat.id === currentId, isAnswered(chat))));
  }

  #item(chat, isCurrent, isAnswered) {
    const title = chat.title || "New chat";
    const open = h(
      "button",
      { type: "button", class: "chat-title", "aria-current": isCurrent ? "true" : null, onclick: () => this.actions.open(chat) },
      title,
    );
    const item = h(
      "li",
      { class: isCurrent ? "current" : null },
      open,
      isAnswered ? h("span", { class: "answering", role: "img", "aria-label": "Is being answered", title: "Is being answered" }) : null,
      iconButton("edit", `Rename ${title}`, () => this.#rename(item, chat, title)),
      iconButton("trash", `Delete ${title}`, async () => {
        if (await confirmed(`Delete “${title}”?`, "Delete")) this.actions.remove(chat);
      }),
    );
    return item;
  }

  #rename(item, chat, title) {
    const input = h("input", { type: "text", value: title, "aria-label": "Name of the chat", maxlength: "200" });
    let isOver = false;
    const finish = (isKept) => {
      if (isOver) return;
      isOver = true;
      this.isRenaming = false;
      this.actions.rename(chat, isKept && input.value.trim() ? input.value.trim() : chat.title);
    };
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") finish(true);
      if (event.key === "Escape") finish(false);
    });
    input.addEventListener("blur", () => finish(true));
    this.isRenaming = true;
    item.replaceChildren(input);
    input.focus();
    input.select();
  }
}
