/* From a chat to a request of /v1/chat/completions, and from its stream to an answer.
   Knows no view. */

import { ApiError, EVENT_STREAM, send, serverSentEvents } from "../api.js";
import { isEmpty } from "./tree.js";

/* So long a server keeps what is left of a stream that broke, unless it is told otherwise. */
const RESUME_FOR_MS = 30_000;
const RESUME_EVERY_MS = 1000;
const GONE = 410;
const NO_CONTENT = 204;

/* The fields of the settings that go into the request as numbers, where they are filled in. */
export const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "repeat_penalty", "max_tokens", "seed"];

/** Throws an `Error` that a user may read where the settings hold no JSON. */
export function requestBody(path, settings) {
  const messages = settings.system ? [{ role: "system", content: settings.system }] : [];
  const body = {
    messages: messages.concat(withoutVoidTurns(path).map(toWire)),
    stream: true,
    timings_per_token: true, // counts, which an answer that is stopped has no end to bring
    return_progress: true,
  };
  if (settings.model) body.model = settings.model;
  for (const name of NUMBERS) {
    if (settings[name] !== undefined && settings[name] !== "") body[name] = Number(settings[name]);
  }
  if (settings.reasoning_effort) body.reasoning_effort = settings.reasoning_effort;
  if (settings.schema) {
    const schema = parsed(settings.schema, "The JSON schema");
    body.response_format = { type: "json_schema", json_schema: { name: "answer", strict: true, schema } };
  }
  if (settings.tools) body.tools = parsed(settings.tools, "The list of functions");
  return body;
}

/* A question that was refused, or stopped before a word came, would be refused or stop the
   answer again with each later one: it goes with its answer. A result stays with its call. */
function withoutVoidTurns(path) {
  const isVoid = (message) => isEmpty(message) && message.state !== "done";
  return path.filter((message, at) => !isVoid(message) && !(message.role === "user" && path[at + 1] && isVoid(path[at + 1])));
}

function parsed(text, what) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${what} is not JSON: ${error.message}`);
  }
}

function toWire(message) {
  if (message.role === "tool") return { role: "tool", tool_call_id: message.callId, content: message.content };
  const wire = { role: message.role, content: textOf(message) };
  if (message.calls?.length) {
    wire.tool_calls = message.calls.map((call) => ({
      id: call.id,
      type: "function",
      function: { name: call.name, arguments: call.arguments },
    }));
  }
  return wire;
}

/** What was written and what is attached to it, as the model reads it. */
function textOf(message) {
  const attached = (message.attachments ?? []).map(({ name, text }) => `${name}:\n\n${fenced(text)}`);
  return [...attached, message.content].filter(Boolean).join("\n\n");
}

function fenced(text) {
  const longest = Math.max(2, ...(text.match(/`{3,}/g) ?? []).map((each) => each.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}\n${text}\n${fence}`;
}

/** Lets `answer` grow by what the server streams, and calls `onChange` after each event.
    Ends with `answer.state` done, stopped, broken or failed; throws nothing. Until then
    `answer.event` is the last event that came. */
export function complete(body, answer, signal, onChange) {
  answer.state = "waiting";
  answer.stats = {};
  for (const field of ["error", "finish", "event"]) delete answer[field];
  return follow(answer, signal, onChange, () => send("v1/chat/completions", { method: "POST", body, signal, accept: EVENT_STREAM }));
}

/** The same with what comes behind `answer.event`, of an answer whose page was left. */
export function resume(answer, signal, onChange) {
  return follow(answer, signal, onChange, () => resumed(answer.event, signal));
}

async function follow(answer, signal, onChange, open) {
  const clock = new Clock(answer.stats);
  const take = (chunk) => {
    if (chunk.error) throw new ApiError(chunk.error.status ?? 500, chunk.error.message);
    if (absorb(chunk, answer)) {
      clock.came();
      answer.state = "streaming";
    }
    clock.measure();
    onChange();
  };
  const onBreak = (isBroken) => {
    answer.isBroken = isBroken;
    onChange();
  };
  try {
    const isWhole = await streamed(open, answer, signal, take, onBreak);
    answer.state = isWhole ? "done" : "broken";
  } catch (error) {
    answer.state = signal.aborted ? "stopped" : "failed";
    if (!signal.aborted) answer.error = error.message;
  }
  clock.measure();
  for (const field of ["progress", "isBroken", "event"]) delete answer[field];
  onChange();
}

/* Hands each chunk to `take`, over as many connections as it needs; false where the rest is
   not to be had. */
async function streamed(open, answer, signal, take, onBreak) {
  for (let response = await open(); response !== null; ) {
    if (response.status === NO_CONTENT) return true;
    if (answer.isBroken) onBreak(false);
    try {
      for await (const event of serverSentEvents(response)) {
        if (event.data === "[DONE]") return true;
        take(JSON.parse(event.data));
        if (event.id) answer.event = event.id;
      }
    } catch (error) {
      if (signal.aborted || error instanceof ApiError || error instanceof SyntaxError) throw error;
    }
    onBreak(true);
    response = answer.event ? await resumed(answer.event, signal) : null;
  }
  return false;
}

/* The stream behind the event `id`; null where nothing is left of it, or nobody answers. */
async function resumed(id, signal) {
  const untilMs = performance.now() + RESUME_FOR_MS;
  while (performance.now() < untilMs) {
    try {
      return await send(`v1/streams/${encodeURIComponent(id)}`, { signal, accept: EVENT_STREAM });
    } catch (error) {
      if (error.status === GONE) return null;
      if (error.status !== 0) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, RESUME_EVERY_MS));
  }
  return null;
}

/** Whether an answer that ended early can go on where it is: not one that must keep to a
    form from its first word on. */
export function canContinue(answer, settings) {
  const endedEarly = ["broken", "stopped", "failed"].includes(answer.state) || answer.finish === "length";
  return endedEarly && Boolean(answer.content) && !answer.calls?.length && !settings.schema;
}

/** Whether the chunk brought something that people read. */
function absorb(chunk, answer) {
  if (chunk.model) answer.model = chunk.model;
  if (chunk.prompt_progress) answer.progress = chunk.prompt_progress;
  if (chunk.timings) {
    const { predicted_n: tokens, cache_n: cachedTokens, prompt_n: readTokens } = chunk.timings;
    Object.assign(answer.stats, { tokens, cachedTokens, promptTokens: cachedTokens + readTokens });
  }
  const choice = chunk.choices?.[0];
  if (choice?.finish_reason) answer.finish = choice.finish_reason;
  const { content = null, reasoning_content: reasoning = null, tool_calls: calls = [] } = choice?.delta ?? {};
  if (content) answer.content += content.replaceAll("\r\n", "\n");
  if (reasoning) answer.reasoning = (answer.reasoning ?? "") + reasoning;
  for (const part of calls ?? []) absorbCall(part, answer);
  return Boolean(content || reasoning || calls?.length);
}

function absorbCall(part, answer) {
  answer.calls ??= [];
  const call = (answer.calls[part.index] ??= { id: "", name: "", arguments: "" });
  if (part.id) call.id = part.id;
  if (part.function?.name) call.name += part.function.name;
  call.arguments += part.function?.arguments ?? "";
}

/* The times of an answer, into its `stats`; of one that is resumed, without those in between. */
class Clock {
  constructor(stats) {
    this.stats = stats;
    const { firstTokenMs = null, answerMs = 0 } = stats;
    this.beganMs = performance.now() - (firstTokenMs ?? 0) - answerMs;
    this.firstMs = firstTokenMs === null ? null : this.beganMs + firstTokenMs;
  }

  came() {
    this.firstMs ??= performance.now();
  }

  measure() {
    if (this.firstMs === null) return;
    this.stats.firstTokenMs = this.firstMs - this.beganMs;
    this.stats.answerMs = performance.now() - this.firstMs;
  }
}
