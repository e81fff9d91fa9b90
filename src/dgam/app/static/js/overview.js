// All of the video in one strip, with the stretch that the timeline shows. Drag to move it.
import { el, svg } from "./dom.js";

const HEIGHT = 30;

export function createOverview(scale, colour) {
  const picture = svg("svg", { class: "overview-marks", height: HEIGHT, preserveAspectRatio: "none", viewBox: `0 0 1000 ${HEIGHT}` });
  const view = el("div", { class: "overview-window" });
  const track = el("div", { class: "overview-track" }, picture, view);
  const node = el("div", { class: "overview", "aria-hidden": "true" }, el("div", { class: "gutter" }, "Whole video"), track);
  let grabbed = null;

  const at = (event) => {
    const place = track.getBoundingClientRect();
    return ((event.clientX - place.left) / place.width) * scale.duration;
  };
  track.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    track.setPointerCapture(event.pointerId);
    const t = at(event);
    if (t < scale.from || t > scale.to) scale.show(t - scale.span / 2, t + scale.span / 2);
    grabbed = t - scale.from;
  });
  track.addEventListener("pointermove", (event) => {
    if (grabbed !== null) scale.show(at(event) - grabbed, at(event) - grabbed + scale.span);
  });
  for (const end of ["pointerup", "pointercancel"]) track.addEventListener(end, () => (grabbed = null));

  return {
    node,
    draw(segments) {
      const labels = [...new Set(segments.map((one) => one.label))].sort();
      const height = Math.max(2, Math.min(6, (HEIGHT - 6) / Math.max(1, labels.length)));
      const x = (t) => (1000 * t) / scale.duration;
      picture.replaceChildren(...segments.slice(0, 2000).map((one) =>
        svg("rect", { x: x(one.start), width: Math.max(1.5, x(one.end) - x(one.start)), y: 3 + labels.indexOf(one.label) * height, height: height - 1, "data-colour": colour(one.label) })));
      view.style.left = `${(100 * scale.from) / scale.duration}%`;
      view.style.width = `${(100 * scale.span) / scale.duration}%`;
      node.classList.toggle("whole", scale.isWhole);
    },
  };
}
