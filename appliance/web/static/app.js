/* The frame of the page: which view is shown, the theme, the key. Knows no view's inside. */

import { onReachable } from "./api.js";
import { ChatView } from "./chat/view.js";
import { h, iconButton } from "./dom.js";
import { askOnce, installKeyDialog } from "./key.js";
import { MachineView } from "./machine/view.js";
import { UsageView } from "./usage/view.js";

/* Each has `element`, `show()`, `hide()` and `reached()`, which is told when the server is there
   again; made when it is first shown. */
const VIEWS = {
  chat: { title: "Chat", make: () => new ChatView() },
  machine: { title: "Machine", make: () => new MachineView() },
  usage: { title: "Usage", make: () => new UsageView() },
};

const made = {};
let shown = null;

function show(name) {
  if (shown === name) return;
  if (shown) made[shown].hide();
  shown = name;
  made[name] ??= VIEWS[name].make();
  document.getElementById("view").replaceChildren(made[name].element);
  document.title = `${VIEWS[name].title} · appliance`;
  for (const link of document.querySelectorAll("#tabs a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  made[name].show();
}

function named() {
  const name = location.hash.replace(/^#\/?/, "");
  return name in VIEWS ? name : "chat";
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function themeButton() {
  const button = iconButton("light", "Light or dark", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("appliance.theme", theme);
  });
  button.id = "theme";
  return button;
}

function start() {
  onReachable((isReached) => {
    document.getElementById("unreached").hidden = isReached;
    if (isReached) made[shown].reached();
  });
  installKeyDialog();
  const links = Object.entries(VIEWS).map(([name, view]) => h("a", { href: `#/${name}` }, view.title));
  document.getElementById("tabs").append(...links);
  const key = iconButton("key", "API key", async () => {
    if (await askOnce("The key that goes with every request of this page.")) location.reload();
  });
  document.getElementById("bar-end").append(themeButton(), key);
  addEventListener("hashchange", () => show(named()));
  show(named());
}

start();
