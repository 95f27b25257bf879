/* Markdown to elements, safely: whatever a model writes stays text or becomes an element
   of the list below, and loads nothing. Knows no chat.

   HTML in the source is shown as it is written, images become links, and the result
   passes DOMPurify all the same. */

import { h, icon } from "../dom.js";
import hljs from "../vendor/highlight.min.js";
import { Marked } from "../vendor/marked.esm.js";
import purify from "../vendor/purify.es.js";

const SAFE = {
  ALLOWED_TAGS: [
    ..."a p br hr strong em del code pre span blockquote ul ol li".split(" "),
    ..."h1 h2 h3 h4 h5 h6 table thead tbody tr th td".split(" "),
  ],
  ALLOWED_ATTR: ["href", "title", "class", "start", "align", "target", "rel"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ADD_URI_SAFE_ATTR: ["start", "align", "target", "rel"], // no addresses
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  RETURN_DOM_FRAGMENT: true,
};
const LONGEST_HIGHLIGHTED_CHARS = 40_000;

function escaped(text) {
  const names = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (each) => names[each]);
}

function link(href, title, inner) {
  if (!/^(?:https?|mailto):/i.test(href)) return inner;
  const titled = title ? ` title="${escaped(title)}"` : "";
  return `<a href="${escaped(href)}"${titled} target="_blank" rel="noopener noreferrer nofollow">${inner}</a>`;
}

const marked = new Marked({
  gfm: true,
  breaks: true,
  /* A footnote is no address of a link, which nobody would see: it stays text. */
  tokenizer: { def: (source) => (/^ {0,3}\[\^/.test(source) ? undefined : false) },
  renderer: {
    html: ({ text, block }) => (block ? `<p>${escaped(text.trim()).replaceAll("\n", "<br>")}</p>` : escaped(text)),
    image: ({ href, title, text }) => link(href, title, escaped(text || href)),
    link({ href, title, tokens }) {
      return link(href, title, this.parser.parseInline(tokens));
    },
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    code: ({ text, lang }) => `<pre><code class="${languageClass(lang)}">${highlighted(text, lang)}</code></pre>`,
  },
});

function languageOf(lang) {
  const name = (lang ?? "").match(/^[\w+#.-]*/)[0].toLowerCase();
  return hljs.getLanguage(name) ? name : "";
}

function languageClass(lang) {
  const name = languageOf(lang);
  return name ? `hljs language-${name}` : "hljs";
}

function highlighted(text, lang) {
  const language = languageOf(lang);
  if (!language || text.length > LONGEST_HIGHLIGHTED_CHARS) return escaped(text);
  return hljs.highlight(text, { language, ignoreIllegals: true }).value;
}

function toFragment(tokens) {
  const fragment = purify.sanitize(marked.parser(tokens), SAFE);
  for (const pre of fragment.querySelectorAll("pre")) pre.replaceWith(framed(pre));
  for (const table of fragment.querySelectorAll("table")) table.replaceWith(scrollable(table.cloneNode(true)));
  return fragment;
}

/* A keyboard can scroll what it can focus. */
function scrollable(table) {
  return h("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" }, table);
}

function framed(pre) {
  const code = pre.querySelector("code") ?? pre;
  const language = [...code.classList].find((each) => each.startsWith("language-"))?.slice(9) ?? "";
  const copy = h("button", { type: "button", class: "copy-code", "aria-label": "Copy the code" }, icon("copy"), "Copy");
  const head = h("div", { class: "code-head" }, h("span", {}, language || "text"), copy);
  const body = h("pre", { tabindex: "0", role: "group", "aria-label": "Code" }, code.cloneNode(true));
  return h("div", { class: "code" }, head, body);
}

export function rendered(source) {
  return toFragment(marked.lexer(source));
}

const OPEN_FENCE = /^ {0,3}(`{3,}|~{3,})([^\n]*)\n/;
const REFERENCE = /^ {0,3}\[[^\]\n]+\]:/m; // what it names may stand in any other block
const LONG_LIST_CHARS = 2_000;

/** Markdown that grows: what is complete is made into elements once, and only the last
    block anew. `numRendered` counts blocks, for tests. */
export class GrowingMarkdown {
  constructor(root) {
    this.root = root;
    this.numRendered = 0;
    this.#restart();
  }

  #restart() {
    this.root.replaceChildren();
    this.settled = ""; // of the source, what is rendered for good
    this.last = []; // the nodes of the rest
    this.open = null; // the text node of a code block that has no end yet
  }

  /** `source` begins as it did the last time, else everything is rendered anew. */
  update(source, isOver = false) {
    const isNew = !source.startsWith(this.settled) || (isOver && REFERENCE.test(source));
    if (isNew) this.#restart();
    const rest = source.slice(this.settled.length);
    if (!isOver && this.#growCode(rest)) return;
    const tokens = marked.lexer(rest);
    const lastAt = tokens.findLastIndex((token) => token.type !== "space");
    for (const token of isOver ? tokens : tokens.slice(0, Math.max(lastAt, 0))) this.#settle(token);
    if (!isOver && lastAt >= 0) this.#renderLast(this.#withoutSettledItems(tokens[lastAt]));
  }

  #replaceLast(nodes) {
    for (const node of this.last) node.remove();
    this.last = nodes;
    this.root.append(...nodes);
  }

  #nodesOf(token) {
    this.numRendered += 1;
    return [...toFragment([token]).childNodes];
  }

  #settle(token) {
    this.settled += token.raw;
    if (token.type === "space") return;
    this.open = null;
    this.#replaceLast(this.#nodesOf(token));
    this.last = [];
  }

  #renderLast(token) {
    this.open = null;
    this.#replaceLast(this.#nodesOf(token));
  }

  /** Of a long list all items but the last are rendered for good, as a list of their own. */
  #withoutSettledItems(token) {
    if (token.type !== "list" || token.items.length < 2 || token.raw.length < LONG_LIST_CHARS) return token;
    const done = token.items.slice(0, -1);
    const raw = done.map((item) => item.raw).join("");
    if (!token.raw.startsWith(raw)) return token;
    this.#settle({ ...token, items: done, raw });
    return marked.lexer(token.raw.slice(raw.length))[0] ?? token;
  }

  /** Text that is added to a code block without an end is text that is added to a node. */
  #growCode(rest) {
    const fence = rest.match(OPEN_FENCE);
    if (!fence) return false;
    const body = rest.slice(fence[0].length);
    const end = new RegExp(`^ {0,3}${fence[1][0]}{${fence[1].length},}[ \\t]*$`, "m");
    if (end.test(this.open ? body.slice(Math.max(0, this.open.length - fence[1].length - 4)) : body)) return false;
    if (!this.open) {
      const [block] = this.#nodesOf({ type: "code", raw: rest, text: "", lang: fence[2].trim() });
      this.#replaceLast([block]);
      this.open = document.createTextNode("");
      block.querySelector("code").append(this.open);
    }
    this.open.appendData(body.slice(this.open.length));
    return true;
  }
}
