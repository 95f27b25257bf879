/* How one message looks: text, reasoning, calls, attachments, numbers, buttons.
   Knows no server and no other message; what its buttons do is told by `actions`. */

import { copyText, h, icon, iconButton } from "../dom.js";
import { GrowingMarkdown } from "./markdown.js";
import { isEmpty, isGrowing } from "./tree.js";

/* Of fewer the clock and the network say more than the model. */
const SHORTEST_MS = 50;
const ENDS = {
  length: "It ends here because of the limit of tokens.",
  stopped: "Stopped.",
  broken: "The connection broke, and the rest is not to be had.",
};
const EMPTY = "The model ended its answer without a word.";
const BROKEN = "The connection broke. Trying to go on…";

/** `actions`: {edit, regenerate, goOn, switchTo, answerCall}, each given the message, and
    `canContinue(message)`. */
export class MessageView {
  constructor(message, neighbours, actions) {
    this.message = message;
    this.actions = actions;
    const who = { user: "You", assistant: "Answer", tool: "Result of a function" }[message.role];
    this.element = h("li", { class: `message ${message.role}`, "aria-label": who });
    this.body = h("div", { class: "markdown" });
    this.markdown = new GrowingMarkdown(this.body);
    this.reasoning = h("div", { class: "markdown" });
    this.thought = new GrowingMarkdown(this.reasoning);
    this.thinking = h("details", { class: "reasoning", hidden: true }, h("summary", {}, "Reasoning"), this.reasoning);
    this.calls = h("div", { class: "calls" });
    this.status = h("p", { class: "status" });
    this.goOn = h("button", { type: "button", class: "button small go-on", hidden: true, onclick: () => actions.goOn(message) }, "Continue");
    this.stats = h("p", { class: "stats" });
    this.element.append(this.#attachments(), this.thinking, this.body, this.calls, this.status, this.goOn);
    this.element.append(this.#foot(neighbours));
    this.update();
  }

  #attachments() {
    const shown = (this.message.attachments ?? []).map(({ name, text }) =>
      h("details", { class: "attachment" }, h("summary", {}, `${name} (${sizeOf(text)})`), h("pre", { tabindex: "0" }, text)),
    );
    return h("div", { class: "attachments", hidden: !shown.length }, ...shown);
  }

  #foot(neighbours) {
    const { message, actions } = this;
    const at = neighbours.findIndex((each) => each.id === message.id);
    const foot = h("div", { class: "foot" });
    if (neighbours.length > 1) {
      const step = (by) => () => actions.switchTo(neighbours[at + by]);
      foot.append(
        iconButton("left", "The one before", step(-1), { disabled: at === 0 }),
        h("span", { class: "of" }, `${at + 1} of ${neighbours.length}`),
        iconButton("right", "The next one", step(1), { disabled: at === neighbours.length - 1 }),
      );
    }
    const copy = iconButton("copy", "Copy", async () => {
      await copyText(message.content);
      showDone(copy);
    });
    foot.append(copy);
    if (message.role === "user") foot.append(iconButton("edit", "Edit", () => actions.edit(message)));
    if (message.role === "assistant") foot.append(iconButton("again", "Answer again", () => actions.regenerate(message)));
    foot.append(this.stats);
    return foot;
  }

  /** Shows what the message says by now. */
  update() {
    const { message } = this;
    const isRunning = isGrowing(message);
    if (message.role === "assistant") {
      this.markdown.update(message.content, !isRunning);
      if (message.reasoning) this.#updateReasoning(isRunning);
      this.#updateCalls(isRunning);
      this.stats.replaceChildren(...statistics(message.stats ?? {}));
    } else {
      this.body.className = "plain";
      if (this.body.textContent !== message.content) this.body.textContent = message.content;
    }
    this.element.classList.toggle("running", isRunning);
    this.element.setAttribute("aria-busy", String(isRunning));
    this.#updateStatus(isRunning);
  }

  #updateReasoning(isRunning) {
    this.thinking.hidden = false;
    this.thought.update(this.message.reasoning, !isRunning);
    const isThinking = isRunning && !this.message.content;
    this.thinking.firstChild.textContent = isThinking ? "Reasoning…" : "Reasoning";
  }

  #updateCalls(isRunning) {
    const calls = this.message.calls ?? [];
    if (!calls.length) return;
    this.calls.replaceChildren(...calls.map((call) => this.#call(call, isRunning)));
  }

  #call(call, isRunning) {
    const result = h("input", { type: "text", "aria-label": `Result of ${call.name}`, placeholder: "Its result" });
    const answer = h(
      "form",
      {
        class: "call-result",
        hidden: isRunning,
        onsubmit: (event) => {
          event.preventDefault();
          this.actions.answerCall(this.message, call, result.value);
        },
      },
      result,
      h("button", { type: "submit", class: "button" }, "Send the result"),
    );
    return h(
      "div",
      { class: "call" },
      h("p", {}, "Calls ", h("code", {}, call.name)),
      h("pre", { tabindex: "0" }, indented(call.arguments)),
      answer,
    );
  }

  #updateStatus(isRunning) {
    const { message } = this;
    let text = "";
    if (message.state === "failed") text = message.error;
    else if (message.isBroken) text = BROKEN;
    else if (message.state in ENDS) text = ENDS[message.state];
    else if (message.finish === "length") text = ENDS.length;
    else if (message.state === "done" && isEmpty(message)) text = EMPTY;
    else if (isRunning && !message.content && !message.reasoning) text = waiting(message.progress);
    this.status.classList.toggle("error", message.state === "failed");
    if (this.status.textContent !== text) this.status.textContent = text;
    this.status.hidden = !text;
    this.goOn.hidden = isRunning || !this.actions.canContinue(message);
  }
}

function waiting(progress) {
  if (!progress?.total) return "Waiting for the model…";
  return `Reading the prompt: ${progress.processed} of ${progress.total} tokens`;
}

function statistics({ tokens, answerMs, firstTokenMs, cachedTokens, promptTokens }) {
  const parts = [];
  if (tokens !== undefined) parts.push(tokens === 1 ? "1 token" : `${tokens} tokens`);
  if (tokens > 1 && answerMs > SHORTEST_MS) parts.push(`${((tokens - 1) / (answerMs / 1000)).toFixed(1)} tokens/s`);
  if (firstTokenMs !== undefined) parts.push(`first after ${(firstTokenMs / 1000).toFixed(2)} s`);
  if (promptTokens !== undefined) parts.push(`${cachedTokens} of ${promptTokens} prompt tokens cached`);
  return parts.map((part) => h("span", {}, part));
}

function indented(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json; // it is still being written
  }
}

export function sizeOf(text) {
  const lines = text.split("\n").length;
  return `${lines} ${lines === 1 ? "line" : "lines"}, ${text.length.toLocaleString("en")} characters`;
}

/** A tick in the place of the button's icon, for a moment. */
export function showDone(button) {
  const before = button.querySelector("svg");
  const tick = icon("check");
  before.replaceWith(tick);
  setTimeout(() => tick.replaceWith(before), 1500);
}
