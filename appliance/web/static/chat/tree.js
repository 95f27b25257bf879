/* A chat is a tree of messages: each answer hangs on what it answers, and an edited
   message is another child of the same parent. One leaf is chosen; what is shown is the
   way to it. Knows no view and no server.

   chat: {id, title, created, updated, leaf, settings, messages: {[id]: message}}
   message: {id, parent, role, content, created, changed, …}; of an answer `changed` is when
   it was last written down. Messages are added and grow, and are never taken away. */

export function newId() {
  return crypto.getRandomValues(new Uint32Array(3)).reduce((id, part) => id + part.toString(36).padStart(7, "0"), "");
}

export function newChat(settings = {}) {
  const now = Date.now();
  return { id: newId(), title: "", created: now, updated: now, leaf: null, settings: { ...settings }, messages: {} };
}

/** Adds a message below `parent` and chooses it. */
export function addMessage(chat, parent, fields) {
  const message = { id: newId(), parent, created: Date.now(), ...fields };
  chat.messages[message.id] = message;
  chat.leaf = message.id;
  chat.updated = message.created;
  return message;
}

/** From the first message to the chosen leaf, or to `leaf`. */
export function pathTo(chat, leaf = chat.leaf) {
  const path = [];
  for (let id = leaf; id !== null && chat.messages[id]; id = chat.messages[id].parent) path.push(chat.messages[id]);
  return path.reverse();
}

/** All that stand in the place of `message`, itself among them, the oldest first. */
export function siblings(chat, message) {
  return childrenOf(chat, message.parent);
}

export function childrenOf(chat, parent) {
  const found = Object.values(chat.messages).filter((each) => each.parent === parent);
  return found.sort((one, other) => one.created - other.created || (one.id < other.id ? -1 : 1));
}

/** Chooses the newest leaf below `message`. */
export function choose(chat, message) {
  let at = message;
  for (;;) {
    const below = childrenOf(chat, at.id);
    if (!below.length) break;
    at = below.at(-1);
  }
  chat.leaf = at.id;
}

/** Takes from `other`, the same chat elsewhere, the messages that `chat` lacks or has in an
    earlier state. Those that `chat` has stay the same objects. */
export function absorb(chat, other) {
  for (const theirs of Object.values(other.messages)) {
    const own = chat.messages[theirs.id];
    if (!own) chat.messages[theirs.id] = theirs;
    else if (changedAt(own) < changedAt(theirs)) {
      for (const field of Object.keys(own)) delete own[field];
      Object.assign(own, theirs);
    }
  }
  chat.updated = Math.max(chat.updated, other.updated);
}

/** Of the same chat at two places one that has the messages of both, and all else of the one
    that was gone on with last. */
export function merged(one, other) {
  const [older, newer] = one.updated > other.updated ? [other, one] : [one, other];
  absorb(newer, older);
  return newer;
}

const changedAt = (message) => message.changed ?? message.created;

/** Of an answer: whether more of it is to come. */
export function isGrowing(message) {
  return message.state === "waiting" || message.state === "streaming";
}

/** Whether it is an answer that says nothing and calls nothing. */
export function isEmpty(message) {
  return message.role === "assistant" && !message.content && !message.calls?.length;
}

/** Whether it is a chat as `newChat` makes them, whoever wrote it. */
export function isChat(value) {
  if (typeof value !== "object" || value === null || typeof value.id !== "string") return false;
  if (typeof value.messages !== "object" || value.messages === null) return false;
  return Object.entries(value.messages).every(
    ([id, each]) =>
      each?.id === id &&
      ["user", "assistant", "tool"].includes(each.role) &&
      typeof each.content === "string" &&
      typeof each.created === "number" &&
      (each.parent === null || typeof each.parent === "string") &&
      endsAtRoot(value.messages, id),
  );
}

function endsAtRoot(messages, start) {
  const seen = new Set();
  for (let id = start; id !== null; id = messages[id].parent) {
    if (seen.has(id) || !(id in messages)) return false;
    seen.add(id);
  }
  return true;
}
