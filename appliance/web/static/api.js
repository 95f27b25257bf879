/* Requests to the server that the page came from, and the key that goes with them.
   Knows no endpoint. */

const BASE = new URL("..", import.meta.url);
const STORED_KEY = "appliance.key";
const REACH_EVERY_MS = 2000;
export const EVENT_STREAM = "text/event-stream";

/** What the server refused: `status` is HTTP's, 0 where it was not reached. */
export class ApiError extends Error {
  constructor(status, message, { code = "", param = "" } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.param = param; // the field of the request that is at fault
  }
}

/** Empty where there is none that can be sent. */
export function storedKey() {
  const key = sessionStorage.getItem(STORED_KEY) ?? localStorage.getItem(STORED_KEY) ?? "";
  return isSendable(key) ? key : "";
}

/** Headers hold no other characters: to a browser, they are as bad as a server that is gone. */
export function isSendable(key) {
  return /^[\x20-\x7e]*$/.test(key);
}

/** For this tab alone, or, with `isKept`, until it is taken away. */
export function storeKey(key, isKept) {
  sessionStorage.removeItem(STORED_KEY);
  localStorage.removeItem(STORED_KEY);
  if (key) (isKept ? localStorage : sessionStorage).setItem(STORED_KEY, key);
}

/** In the place of the one there was, and for as long. */
export function replaceKey(key) {
  storeKey(key, localStorage.getItem(STORED_KEY) !== null);
}

let askForKey = async () => false;

/** `ask(reason)` resolves to whether there is another key now. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/** A response with a good status; `accept` is the type that is asked for. Throws `ApiError`,
    or the abort of `signal`. */
export async function send(path, { method = "GET", body, signal, accept } = {}) {
  for (;;) {
    const key = storedKey();
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    if (accept) headers.Accept = accept;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const response = await reach(path, {
      method,
      headers,
      signal,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit",
    });
    if (response.ok) return response;
    const error = await refusal(response);
    if (response.status !== 401) throw error;
    // another request may have got a key meanwhile
    if (storedKey() === key && !(await askForKey(key ? error.message : ""))) throw error;
  }
}

export async function getJson(path, options) {
  return (await send(path, options)).json();
}

async function reach(path, options) {
  try {
    return await fetch(new URL(path, BASE), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    waitUntilReached();
    throw new ApiError(0, "The server is not reached. Is it running?");
  }
}

const watchers = [];
let isWaiting = false;

/** `tell(isReached)` is called when the server is not reached, and when it is again. */
export function onReachable(tell) {
  watchers.push(tell);
}

async function waitUntilReached() {
  if (isWaiting) return;
  isWaiting = true;
  for (const tell of watchers) tell(false);
  do await new Promise((resolve) => setTimeout(resolve, REACH_EVERY_MS));
  while (!(await isReached()));
  isWaiting = false;
  for (const tell of watchers) tell(true);
}

/* Whatever it answers. */
async function isReached() {
  try {
    await fetch(new URL("health", BASE), { credentials: "omit" });
    return true;
  } catch {
    return false;
  }
}

async function refusal(response) {
  let said = {};
  try {
    said = (await response.json()).error ?? {};
  } catch {
    // no JSON: a proxy in between, whose status is all that there is to show
  }
  const message = typeof said === "string" ? said : said.message;
  return new ApiError(response.status, message ?? `The server answered ${response.status}.`, { code: said.code ?? "", param: said.param ?? "" });
}

/** `{id, data}` of each event of a stream of server-sent events; comments are skipped. */
export async function* serverSentEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let id = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("id:")) id = line.slice(3).trim();
        else if (line.startsWith("data:")) yield { id, data: line.slice(5).trim() };
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** The records of a stream of lines of JSON. */
export async function* jsonLines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : lines.pop();
    for (const line of lines) if (line.trim()) yield JSON.parse(line);
    if (done) return;
  }
}
