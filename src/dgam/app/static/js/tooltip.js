// One tooltip for the page: on hover and on focus, away on Escape.
import { byId } from "./dom.js";

/** Show `text()` while the pointer is over the element or it has the focus. */
export function explainOnHover(node, text) {
  const box = byId("tooltip");
  const show = (x, y) => {
    box.textContent = text();
    box.hidden = false;
    const { width, height } = box.getBoundingClientRect();
    box.style.left = `${Math.max(8, Math.min(x - width / 2, innerWidth - width - 8))}px`;
    box.style.top = `${y - height - 12 > 8 ? y - height - 12 : y + 20}px`;
  };
  const hide = () => (box.hidden = true);
  node.addEventListener("pointerenter", (event) => show(event.clientX, event.clientY));
  node.addEventListener("pointermove", (event) => box.hidden || show(event.clientX, event.clientY));
  node.addEventListener("pointerleave", hide);
  node.addEventListener("focus", () => {
    if (!node.matches(":focus-visible")) return;
    const place = node.getBoundingClientRect();
    show(place.left + place.width / 2, place.top);
  });
  node.addEventListener("blur", hide);
  node.addEventListener("keydown", (event) => event.key === "Escape" && hide());
}

export function hideTooltip() {
  byId("tooltip").hidden = true;
}
