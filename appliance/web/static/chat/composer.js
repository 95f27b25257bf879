/* Where a message is written: text, long pastes and files as attachments, send and stop.
   Knows no chat. */

import { h, iconButton } from "../dom.js";
import { sizeOf } from "./message.js";

/* A paste beyond either becomes an attachment, so that the text around it stays readable. */
const LONG_CHARS = 2_000;
const LONG_LINES = 30;
const LARGEST_FILE_BYTES = 4 << 20;
const STORED_DRAFT = "appliance.draft"; // of this tab, over a reload

/** `onSend({content, attachments})`, `onStop()`, `onEditLast()`; `below` is shown beneath the text. */
export class Composer {
  constructor({ onSend, onStop, onEditLast, below }) {
    this.onSend = onSend;
    this.onStop = onStop;
    this.onEditLast = onEditLast;
    this.attachments = [];
    this.isRunning = false;
    this.text = h("textarea", {
      id: "message",
      rows: "1",
      placeholder: "Write a message",
      "aria-label": "Message",
      onkeydown: (event) => this.#onKey(event),
      value: sessionStorage.getItem(STORED_DRAFT) ?? "",
      oninput: () => this.#onInput(),
      onpaste: (event) => this.#onPaste(event),
    });
    this.chips = h("div", { class: "chips", hidden: true });
    this.note = h("p", { class: "note", role: "alert", hidden: true });
    this.files = h("input", { type: "file", multiple: true, hidden: true, onchange: () => this.#onFiles(this.files.files) });
    this.send = iconButton("send", "Send", () => this.#send(), { class: "icon-button round primary" });
    this.stop = iconButton("stop", "Stop", () => this.onStop(), { class: "icon-button round primary", hidden: true });
    const attach = iconButton("clip", "Attach text files", () => this.files.click());
    this.element = h(
      "div",
      {
        class: "composer",
        ondragover: (event) => event.preventDefault(),
        ondrop: (event) => {
          event.preventDefault();
          this.#onFiles(event.dataTransfer.files);
        },
      },
      this.note,
      this.chips,
      this.text,
      h("div", { class: "composer-row" }, attach, this.files, ...below, h("span", { class: "space" }), this.send, this.stop),
    );
  }

  focus() {
    this.text.focus();
  }

  fill({ content, attachments = [] }) {
    this.text.value = content;
    this.attachments = [...attachments];
    this.#showChips();
    this.#resize();
    this.focus();
  }

  setRunning(isRunning) {
    const hadFocus = this.element.contains(document.activeElement) && document.activeElement !== this.text;
    this.isRunning = isRunning;
    this.send.hidden = isRunning;
    this.stop.hidden = !isRunning;
    if (hadFocus) this.focus();
  }

  #onKey(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#send();
    } else if (event.key === "ArrowUp" && !this.text.value && !this.attachments.length) {
      event.preventDefault();
      this.onEditLast();
    }
  }

  #send() {
    const content = this.text.value.trim();
    if (this.isRunning || (!content && !this.attachments.length)) return;
    const { attachments } = this;
    this.text.value = "";
    sessionStorage.removeItem(STORED_DRAFT);
    this.attachments = [];
    this.#say("");
    this.#showChips();
    this.#resize();
    this.onSend({ content, attachments });
  }

  #onInput() {
    if (this.text.value) sessionStorage.setItem(STORED_DRAFT, this.text.value);
    else sessionStorage.removeItem(STORED_DRAFT);
    this.#resize();
  }

  #onPaste(event) {
    const text = event.clipboardData.getData("text/plain").replaceAll("\r\n", "\n");
    // a table copied from an office program is a picture, too: what is text counts
    if (!text && event.clipboardData.files.length) {
      event.preventDefault();
      this.#onFiles(event.clipboardData.files);
      return;
    }
    if (text.length <= LONG_CHARS && text.split("\n").length <= LONG_LINES) return;
    event.preventDefault();
    this.#attach(`Pasted text ${this.attachments.length + 1}`, text);
  }

  async #onFiles(files) {
    for (const file of files) {
      if (file.type.startsWith("image/")) {
        this.#say(`${file.name} is a picture, and models are not shown pictures here yet: only text can be sent.`);
        continue;
      }
      if (file.size > LARGEST_FILE_BYTES) {
        this.#say(`${file.name} is larger than 4 MiB.`);
        continue;
      }
      const text = utf8(await file.arrayBuffer());
      if (text === null || text.includes("\0")) this.#say(`${file.name} is no text, or not in UTF-8.`);
      else this.#attach(file.name, text.replaceAll("\r\n", "\n"));
    }
    this.files.value = "";
  }

  #attach(name, text) {
    this.attachments.push({ name, text });
    this.#say("");
    this.#showChips();
  }

  #say(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
  }

  #showChips() {
    this.chips.hidden = !this.attachments.length;
    this.chips.replaceChildren(
      ...this.attachments.map((attachment) =>
        h(
          "span",
          { class: "chip" },
          `${attachment.name} (${sizeOf(attachment.text)})`,
          iconButton("close", `Remove ${attachment.name}`, () => {
            this.attachments = this.attachments.filter((each) => each !== attachment);
            this.#showChips();
            this.focus();
          }),
        ),
      ),
    );
  }

  /* Styles set by properties are no inline styles to a content security policy. */
  #resize() {
    this.text.style.height = "auto";
    this.text.style.height = `${Math.min(this.text.scrollHeight, innerHeight * 0.4)}px`;
  }
}

/* Null where it is none: letters that are replaced would be asked about unseen. */
function utf8(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}
