/* The answers that stream into chats, one a chat; over a reload of the page, too: what
   IndexedDB was still writing is not lost with it. Knows no view. */

const LEFT = "appliance.left"; // of this tab

export class Running {
  constructor() {
    this.entries = new Map(); // from a chat to {answer, abort, isDropped}
    this.hasLeft = false; // something, when the page was left
    window.addEventListener("pagehide", () => this.#leave());
    // back from the browser's memory, where what streamed has ended
    window.addEventListener("pageshow", (event) => event.persisted && this.hasLeft && location.reload());
  }

  get size() {
    return this.entries.size;
  }

  has(chat) {
    return this.entries.has(chat);
  }

  /** In the place of the one there was, which stops. */
  start(chat, answer) {
    this.stop(chat);
    const entry = { answer, abort: new AbortController(), isDropped: false };
    this.entries.set(chat, entry);
    return entry;
  }

  /** Whether it was still that one. */
  end(chat, entry) {
    return this.entries.get(chat) === entry && this.entries.delete(chat);
  }

  stop(chat) {
    this.entries.get(chat)?.abort.abort();
  }

  /** Ends what streams into it, which is not to be saved. */
  drop(chat) {
    const entry = this.entries.get(chat);
    if (!entry) return;
    entry.isDropped = true;
    entry.abort.abort();
  }

  dropAll() {
    for (const chat of this.entries.keys()) this.drop(chat);
  }

  #leave() {
    const left = [...this.entries].filter(([, { isDropped }]) => !isDropped);
    this.hasLeft = left.length > 0;
    if (!this.hasLeft) return;
    for (const [, { answer }] of left) answer.changed = Date.now();
    const written = JSON.stringify(left.map(([chat, { answer }]) => ({ chat, id: answer.id })));
    this.dropAll(); // a line that breaks as the page goes is not to be mended by it
    try {
      sessionStorage.setItem(LEFT, written);
    } catch {
      // more than a tab may keep: there is what was saved a second ago
    }
  }
}

/** What streamed when this tab left the page: `[{chat, id}]` with the id of the answer. It
    is handed out once. */
export function whatWasLeft() {
  const left = JSON.parse(sessionStorage.getItem(LEFT) ?? "[]");
  sessionStorage.removeItem(LEFT);
  return left;
}
