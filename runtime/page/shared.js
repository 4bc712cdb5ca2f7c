"use strict";
/* What every page begins with: elements found and made, and the button for light and dark.

   All text goes into text nodes and attributes, never into markup: a model may have written anything. */
const $ = (id) => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const { data: dataset, style, ...rest } = properties;
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(rest)) {
    if (name in element && !name.startsWith("aria")) element[name] = value;
    else element.setAttribute(name, value);
  }
  Object.assign(element.dataset, dataset);
  for (const [name, value] of Object.entries(style ?? {})) element.style.setProperty(name, value);
  element.append(...children);
  return element;
};
const plural = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/* The page's contents, where it came with some. */
const embedded = () => JSON.parse($("data").textContent);

/* A heading, and names with values. */
const definitions = (heading, rows) => make("section", {}, make("h3", {}, heading),
  make("dl", {}, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])));

/* Make the children of an element those of `items`, in order; whoever stays is changed, not made anew, and keeps the focus. */
function keyed(parent, items, keyOf, create, update) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const after = items.map((item, place) => {
    const key = String(keyOf(item));
    const child = before.get(key) ?? create(item);
    child.dataset.key = key;
    update(child, item, place);
    return child;
  });
  for (const child of before.values()) if (!after.includes(child)) child.remove();
  after.forEach((child, place) => { if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null); });
}

/* Light and dark: as the system says, until the button says otherwise. */
function startTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const nameTheme = () => { $("theme").textContent = isDark() ? "Light" : "Dark"; $("theme").setAttribute("aria-label", isDark() ? "Light colours" : "Dark colours"); };
  $("theme").addEventListener("click", () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
  dark.addEventListener("change", nameTheme);
  nameTheme();
}
