/* The chats, as this browser keeps them: one record a chat, in IndexedDB.
   Knows no view and no server. */

import { isChat } from "./tree.js";

const STORE = "chats";

let opened = null;

function database() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("appliance", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

async function transact(mode, act) {
  const transaction = (await database()).transaction(STORE, mode);
  const request = act(transaction.objectStore(STORE));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
}

export const saveChat = (chat) => transact("readwrite", (store) => store.put(chat));
export const deleteChat = (id) => transact("readwrite", (store) => store.delete(id));
export const deleteAllChats = () => transact("readwrite", (store) => store.clear());

/** The one that changed last first. */
export async function allChats() {
  const found = await transact("readonly", (store) => store.getAll());
  return found.sort((one, other) => other.updated - one.updated);
}

export async function exported() {
  return JSON.stringify({ format: "appliance-chats", version: 1, chats: await allChats() }, null, 1);
}

/** How many there were. One that is here already is replaced. Throws what a user may read. */
export async function imported(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("This file is not JSON.");
  }
  if (file?.format !== "appliance-chats" || !Array.isArray(file.chats)) {
    throw new Error("This file holds no chats of this page.");
  }
  const broken = file.chats.findIndex((chat) => !isChat(chat));
  if (broken >= 0) throw new Error(`Chat ${broken + 1} of this file is broken, so none was imported.`);
  for (const chat of file.chats) await saveChat({ ...chat, leaf: chat.leaf in chat.messages ? chat.leaf : null });
  return file.chats.length;
}
