// Elements made by hand. Text only ever becomes text: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** An element. `props`: attributes; `on` {event: listener}; `data` {name: value}; `vars` {property: value}, set
 * through the CSSOM since the content policy forbids style attributes. Children: nodes, text, null for none. */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "vars") for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Set text only where it changed, so that live regions and screen readers are not disturbed. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

let pending = 0;
/** Say something to a screen reader, once the current burst of events is over. */
export function announce(text) {
  const live = byId("live");
  clearTimeout(pending);
  live.textContent = "";
  pending = setTimeout(() => (live.textContent = text), 120);
}

/** Words for an error, near the place where it happened, with a button to take it away. */
export function showProblem(place, text) {
  const box = el("div", { class: "problem" }, el("span", {}, text));
  box.append(el("button", { type: "button", "aria-label": "Dismiss", on: { click: () => box.remove() } }, "×"));
  place.replaceChildren(box);
}

const KEPT = "dgam.";
/** A choice that outlives the page; null where there is none or storage is forbidden. */
export function recall(name) {
  try {
    return localStorage.getItem(KEPT + name);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    if (value === null) localStorage.removeItem(KEPT + name);
    else localStorage.setItem(KEPT + name, value);
  } catch {
    // Then it holds for this visit only.
  }
}
