/* The chat: list, messages, composer and drawer, and what happens between them.
   Knows requests only by `complete`. */

import { getJson } from "../api.js";
import { announce, copyText, h, icon, iconButton } from "../dom.js";
import { canContinue, complete, requestBody, resume } from "./completion.js";
import { Composer } from "./composer.js";
import { allChats, deleteAllChats, deleteChat, exported, imported, saveChat, watchChats } from "./database.js";
import { editor } from "./editor.js";
import { ChatList } from "./list.js";
import { MessageView, showDone } from "./message.js";
import { Running, whatWasLeft } from "./running.js";
import { SettingsDrawer } from "./settings.js";
import { absorb, addMessage, choose, isGrowing, newChat, pathTo, siblings } from "./tree.js";

const NEAR_END_PX = 80;
const SAVE_EVERY_MS = 1000;
const MAX_TITLE_CHARS = 60;

export class ChatView {
  constructor() {
    this.chats = [];
    this.chat = newChat();
    this.views = new Map(); // of the messages shown, by id
    this.running = new Running();
    this.isFollowing = true; // the newest text stays in sight
    this.list = new ChatList({
      create: () => this.#open(newChat(this.chat.settings)),
      open: (chat) => this.#open(chat),
      rename: (chat, title) => this.#rename(chat, title),
      remove: (chat) => this.#remove(chat),
      removeAll: () => this.#removeAll(),
      exportAll: () => this.#export(),
      importAll: (text) => this.#import(text),
    });
    this.drawer = new SettingsDrawer((settings) => this.#setSettings(settings), () => this.#toggleDrawer(false));
    this.model = h("select", { id: "model", "aria-label": "Model", onchange: () => this.#setSettings({ ...this.chat.settings, model: this.model.value }) });
    this.sliders = iconButton("sliders", "Settings of this chat", () => this.#toggleDrawer(), { "aria-expanded": "false", "aria-controls": "settings" });
    this.composer = new Composer({
      onSend: (message) => this.#send(message),
      onStop: () => this.running.stop(this.chat),
      onEditLast: () => this.#editLast(),
      below: [this.model, this.sliders],
    });
    this.messages = h("ol", { class: "messages", "aria-label": "Messages", onclick: (event) => copyCode(event) });
    this.empty = h("div", { class: "empty" }, h("h1", {}, "What would you like to know?"), h("p", {}, "Everything stays on this machine, and chats in this browser."));
    this.scroller = h("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "Conversation", onscroll: () => this.#onScroll() }, this.empty, this.messages);
    this.toEnd = iconButton("down", "To the newest text", () => this.#follow(), { class: "icon-button round to-end", hidden: true });
    this.problem = h("p", { class: "note problem", role: "alert", hidden: true });
    this.element = h(
      "div",
      { class: "chat" },
      this.list.element,
      h("div", { class: "conversation" }, this.scroller, this.toEnd, this.problem, this.composer.element),
      this.drawer.element,
    );
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.drawer.element.hidden) this.running.stop(this.chat);
    });
    this.openChats = document.getElementById("open-chats");
    this.openChats.append(icon("menu"));
    this.openChats.addEventListener("click", () => this.#toggleList());
    watchChats({ onSaved: (chat) => this.#onSaved(chat), onDeleted: (id) => this.#onDeleted(id), onCleared: () => this.#clear() });
    this.#load();
  }

  show() {
    this.openChats.hidden = false;
    this.composer.focus();
    this.#loadModels();
  }

  hide() {
    this.openChats.hidden = true;
  }

  reached() {
    this.#loadModels();
  }

  async #load() {
    for (const chat of await allChats()) {
      for (const message of Object.values(chat.messages)) {
        // the page was closed while it streamed; another window that is open will say more
        if (isGrowing(message)) message.state = "stopped";
      }
      this.#adopt(chat);
    }
    const left = whatWasLeft().map(({ chat, id }) => ({ chat: Object.assign(this.#adopt(chat), { leaf: chat.leaf }), id }));
    // unless a message was sent meanwhile
    if (!this.running.size) this.#open(this.chats[0] ?? this.chat);
    for (const { chat, id } of left) this.#goOnWithLeft(chat, chat.messages[id]);
  }

  #goOnWithLeft(chat, answer) {
    if (answer.event) this.#stream(chat, answer, resume);
    else {
      if (isGrowing(answer)) answer.state = "stopped"; // nothing had come of it
      this.#save(chat);
    }
  }

  async #loadModels() {
    try {
      this.models = (await getJson("v1/models")).data;
      this.#say("");
    } catch (error) {
      this.models = [];
      this.#say(error.message);
    }
    this.#showModels();
  }

  #showModels() {
    const chosen = this.chat.settings.model;
    const ids = (this.models ?? []).map((model) => model.id);
    if (chosen && !ids.includes(chosen)) ids.unshift(chosen);
    this.model.replaceChildren(...ids.map((id) => h("option", { value: id }, id)));
    this.model.value = chosen ?? ids[0] ?? "";
  }

  #say(text) {
    this.problem.textContent = text;
    this.problem.hidden = !text;
  }

  // --- which chat -------------------------------------------------------------------

  /** What streams into another chat goes on. */
  #open(chat) {
    this.chat = chat;
    this.isFollowing = true;
    this.composer.setRunning(this.running.has(chat));
    this.drawer.show(chat.settings);
    this.#showModels();
    this.#render();
    this.#showList();
    this.#toggleList(false);
    this.composer.focus();
  }

  #showList() {
    this.list.show(this.chats, this.chat.id, (chat) => this.running.has(chat));
  }

  async #save(chat = this.chat) {
    this.#listed(chat);
    try {
      await saveChat(chat);
    } catch (error) {
      this.#say(`This browser does not keep the chat: ${error.message}`);
    }
  }

  #listed(chat) {
    if (!this.chats.includes(chat)) this.chats.unshift(chat);
    this.chats.sort((one, other) => other.updated - one.updated);
  }

  /** The chat as it is stored now, into the one that is shown here. */
  #adopt(stored) {
    const chat = this.chats.find((each) => each.id === stored.id) ?? stored;
    if (chat !== stored) {
      absorb(chat, stored);
      chat.title = stored.title;
    }
    if (!this.running.has(chat) && chat.leaf) {
      // another window went on where this one stands: once it is answered, this one does, too
      const before = chat.leaf;
      choose(chat, chat.messages[before]);
      if (isGrowing(chat.messages[chat.leaf])) chat.leaf = before;
    }
    this.#listed(chat);
    return chat;
  }

  #onSaved(stored) {
    const chat = this.#adopt(stored);
    this.#showList();
    if (chat !== this.chat || this.messages.querySelector(".editor")) return;
    if (this.shape !== this.#shape()) this.#render();
    else for (const view of this.views.values()) view.update();
    this.#scroll();
  }

  #onDeleted(id) {
    const chat = this.chats.find((each) => each.id === id);
    if (chat) this.#forget(chat);
  }

  async #rename(chat, title) {
    chat.title = title;
    await this.#save(chat);
    this.#showList();
  }

  async #remove(chat) {
    this.running.drop(chat);
    await deleteChat(chat.id);
    this.#forget(chat);
  }

  #forget(chat) {
    this.running.drop(chat);
    this.chats = this.chats.filter((each) => each !== chat);
    if (chat === this.chat) this.#open(this.chats[0] ?? newChat(chat.settings));
    else this.#showList();
  }

  async #removeAll() {
    this.running.dropAll();
    await deleteAllChats();
    this.#clear();
  }

  #clear() {
    this.running.dropAll();
    this.chats = [];
    this.#open(newChat());
  }

  async #export() {
    const url = URL.createObjectURL(new Blob([await exported()], { type: "application/json" }));
    h("a", { href: url, download: "appliance-chats.json" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  async #import(text) {
    try {
      const count = await imported(text);
      for (const stored of await allChats()) this.#adopt(stored);
      this.#open(this.chats[0] ?? newChat());
      announce(`${count} chats imported`);
      this.#say("");
    } catch (error) {
      this.#say(error.message);
    }
  }

  #setSettings(settings) {
    this.chat.settings = { ...settings, model: this.model.value || undefined };
    if (this.chat.leaf) this.#save();
  }

  #toggleDrawer(isOpen = this.drawer.element.hidden) {
    this.drawer.element.hidden = !isOpen;
    this.sliders.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) this.drawer.focus();
    else this.sliders.focus();
  }

  #toggleList(isOpen = !this.list.element.classList.contains("open")) {
    this.list.element.classList.toggle("open", isOpen);
    this.openChats.setAttribute("aria-expanded", String(isOpen));
  }

  // --- messages ---------------------------------------------------------------------

  #send({ content, attachments }) {
    if (!this.chat.title) this.chat.title = (content || attachments[0].name).split("\n")[0].slice(0, MAX_TITLE_CHARS);
    const fields = { role: "user", content };
    if (attachments.length) fields.attachments = attachments;
    this.#answer(addMessage(this.chat, this.chat.leaf, fields));
  }

  #answer(asked) {
    const path = pathTo(this.chat, asked.id);
    const fields = { role: "assistant", content: "", state: "waiting", model: this.chat.settings.model };
    return this.#complete(path, addMessage(this.chat, asked.id, fields));
  }

  /* What there is of the answer goes last, and is gone on with. */
  #goOn(answer) {
    return this.#complete(pathTo(this.chat, answer.id), answer);
  }

  #complete(path, answer) {
    const { settings } = this.chat;
    return this.#stream(this.chat, answer, (...where) => complete(requestBody(path, settings), ...where));
  }

  /* `follow(answer, signal, onChange)` lets the answer grow. */
  async #stream(chat, answer, follow) {
    const running = this.running.start(chat, answer);
    const save = () => {
      if (running.isDropped) return undefined;
      answer.changed = Date.now();
      return this.#save(chat);
    };
    if (chat === this.chat) {
      this.isFollowing = true;
      this.#render();
      this.composer.setRunning(true);
    }
    await save();
    this.#showList();
    const saving = setInterval(save, SAVE_EVERY_MS);
    try {
      await follow(answer, running.abort.signal, () => this.#refresh(answer));
    } catch (error) {
      Object.assign(answer, { state: "failed", error: error.message });
    }
    clearInterval(saving);
    chat.updated = Date.now();
    await save();
    if (this.running.end(chat, running) && chat === this.chat) this.composer.setRunning(false);
    this.#showList();
    this.#refresh(answer);
    announce({ done: "The answer is complete", stopped: "Stopped", broken: "The connection broke", failed: "The answer failed" }[answer.state] ?? "");
  }

  #editLast() {
    const last = pathTo(this.chat).findLast((message) => message.role === "user");
    if (last && !this.running.has(this.chat)) this.#edit(last);
  }

  /** The text goes to a place of its own, and what is sent becomes a branch beside it. */
  #edit(message) {
    const { body } = this.views.get(message.id);
    const { role, attachments } = message;
    const { element, focus } = editor(message.content, {
      onSend: (content) => this.#answer(addMessage(this.chat, message.parent, { role, attachments, content })),
      onClose: () => element.replaceWith(body),
    });
    body.replaceWith(element);
    focus();
  }

  #answerCall(message, call, result) {
    const fields = { role: "tool", callId: call.id, name: call.name, content: result };
    this.#answer(addMessage(this.chat, message.id, fields));
  }

  #switchTo(message) {
    choose(this.chat, message);
    this.#save();
    this.#render();
  }

  // --- what is shown ----------------------------------------------------------------

  #render() {
    const path = pathTo(this.chat);
    this.empty.hidden = path.length > 0;
    const actions = {
      edit: (message) => this.#edit(message),
      regenerate: (message) => this.#answer(this.chat.messages[message.parent]),
      goOn: (message) => this.#goOn(message),
      canContinue: (message) => message.role === "assistant" && canContinue(message, this.chat.settings),
      switchTo: (message) => this.#switchTo(message),
      answerCall: (message, call, result) => this.#answerCall(message, call, result),
    };
    this.views = new Map(path.map((each) => [each.id, new MessageView(each, siblings(this.chat, each), actions)]));
    this.messages.replaceChildren(...[...this.views.values()].map((view) => view.element));
    this.shape = this.#shape();
    this.#scroll();
  }

  /** Which messages are shown, and beside how many each stands. */
  #shape() {
    return pathTo(this.chat).map((each) => `${each.id} of ${siblings(this.chat, each).length}`).join();
  }

  /** At most once a frame. */
  #refresh(answer) {
    const view = this.views.get(answer.id);
    if (!view || view.isDue) return;
    view.isDue = true;
    requestAnimationFrame(() => {
      view.isDue = false;
      view.update();
      this.#scroll();
    });
  }

  #scroll() {
    if (this.isFollowing) this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  #follow() {
    this.isFollowing = true;
    this.toEnd.hidden = true;
    this.#scroll();
  }

  #onScroll() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    this.isFollowing = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    this.toEnd.hidden = this.isFollowing;
  }
}

async function copyCode(event) {
  const button = event.target.closest("button.copy-code");
  if (!button) return;
  await copyText(button.closest(".code").querySelector("pre").textContent);
  showDone(button);
}
