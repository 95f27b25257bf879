/* A chat is a tree of messages: each answer hangs on what it answers, and an edited
   message is another child of the same parent. One leaf is chosen; what is shown is the
   way to it. Knows no view and no server.

   chat: {id, title, created, updated, leaf, settings, messages: {[id]: message}}
   message: {id, parent, role, content, created, …} */

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
