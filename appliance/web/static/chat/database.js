/* The chats, as this browser keeps them: one record a chat, in IndexedDB. All windows write
   them: what one has added, another does not take away. Knows no view and no server. */

import { absorb, isChat, merged } from "./tree.js";

const STORE = "chats";
const windows = new BroadcastChannel("appliance.chats");

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

/* Writes what `make` makes of the chat that is stored, in one step for all windows. */
async function rewrite(id, make) {
  await transact("readwrite", (store) => {
    const had = store.get(id);
    had.onsuccess = () => store.put(make(had.result));
  });
  windows.postMessage({ saved: id });
}

/** `chat` gets the messages that other windows have added. */
export function saveChat(chat) {
  return rewrite(chat.id, (had) => {
    if (had) absorb(chat, had);
    return chat;
  });
}

export async function deleteChat(id) {
  await transact("readwrite", (store) => store.delete(id));
  windows.postMessage({ deleted: id });
}

export async function deleteAllChats() {
  await transact("readwrite", (store) => store.clear());
  windows.postMessage({ isCleared: true });
}

/** What other windows do: `onSaved(chat)`, `onDeleted(id)`, `onCleared()`. */
export function watchChats({ onSaved, onDeleted, onCleared }) {
  windows.onmessage = async ({ data }) => {
    if (data.isCleared) onCleared();
    else if (data.deleted) onDeleted(data.deleted);
    else {
      const chat = await transact("readonly", (store) => store.get(data.saved));
      if (chat) onSaved(chat); // else it was deleted meanwhile
    }
  };
}

/** The one that changed last first. */
export async function allChats() {
  const found = await transact("readonly", (store) => store.getAll());
  return found.sort((one, other) => other.updated - one.updated);
}

export async function exported() {
  return JSON.stringify({ format: "appliance-chats", version: 1, chats: await allChats() }, null, 1);
}

/** How many there were. What is here already stays: messages are added to it. Throws what a
    user may read. */
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
  for (const chat of file.chats) {
    const whole = { ...chat, leaf: chat.leaf in chat.messages ? chat.leaf : null };
    await rewrite(chat.id, (had) => (had ? merged(whole, had) : whole));
  }
  return file.chats.length;
}
