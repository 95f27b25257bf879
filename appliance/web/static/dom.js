/* Elements made by calls: text is always text, never HTML. Knows no view. */

const SVG = "http://www.w3.org/2000/svg";

/* Paths on a grid of 24, drawn as strokes. */
const ICONS = {
  menu: "M4 7h16M4 12h16M4 17h16",
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h10v11H9zM5 15V4h10",
  check: "M5 12.5l4.5 4.5L19 7.5",
  edit: "M4 20h4L19 9l-4-4L4 16z",
  again: "M20 11a8 8 0 1 0-2.3 6.3M20 4v7h-7",
  left: "M14.5 6l-6 6 6 6",
  right: "M9.5 6l6 6-6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  sliders: "M4 8h10M18 8h2M4 16h2M10 16h10M16 6v4M8 14v4",
  close: "M6 6l12 12M18 6L6 18",
  key: "M8 11.5a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM10.9 12.6L19.5 4M15.3 8.2l3.2 3.2",
  clip: "M19 11l-7.5 7.5a4.2 4.2 0 0 1-6-6L13 5a2.9 2.9 0 0 1 4 4l-7.5 7.5a1.4 1.4 0 0 1-2-2L14 8",
  light: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4",
  dark: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z",
};

/** An element; `on…` attributes are listeners, null and false ones are left out. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" && "value" in element) element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function icon(name) {
  return svg(
    "svg",
    { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: ICONS[name] }),
  );
}

/** A button that shows an icon alone, and says `label` to screen readers and on hover. */
export function iconButton(name, label, onclick, attributes = {}) {
  return h(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...attributes },
    icon(name),
  );
}

export function announce(text) {
  document.getElementById("announcements").textContent = text;
}

/** Pages that came over plain HTTP from another machine have no clipboard of their own. Of an
    open dialog, `within` is that: nothing outside of it can be selected. */
export async function copyText(text, within = document.body) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = h("textarea", { class: "for-screen-readers", "aria-hidden": "true", value: text });
  within.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** A dialog with a question; resolves to whether the user agreed. */
export function confirmed(question, action) {
  return new Promise((resolve) => {
    const close = (answer) => {
      dialog.close();
      resolve(answer);
    };
    const dialog = h(
      "dialog",
      { class: "dialog", "aria-label": action, oncancel: () => resolve(false), onclose: () => dialog.remove() },
      h("p", {}, question),
      h(
        "div",
        { class: "dialog-buttons" },
        h("button", { type: "button", class: "button", onclick: () => close(false) }, "Cancel"),
        h("button", { type: "button", class: "button danger", onclick: () => close(true) }, action),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Puts `cards` in the place of those that `parent` has: what was open stays open, what had the
    focus keeps it. They are known by their labels. */
export function replaceKept(parent, cards) {
  const opened = new Set([...parent.querySelectorAll("details[open]")].map((each) => each.closest("section").ariaLabel));
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const label = focused?.ariaLabel;
  for (const card of cards) for (const each of card.querySelectorAll("details")) each.open = opened.has(card.ariaLabel);
  const focusedSummary = focused?.tagName === "SUMMARY" ? focused.closest("section").ariaLabel : null;
  parent.replaceChildren(...cards);
  if (label) [...parent.querySelectorAll("[aria-label]")].find((each) => each.ariaLabel === label)?.focus();
  if (focusedSummary) cards.find((card) => card.ariaLabel === focusedSummary)?.querySelector("summary")?.focus();
}
