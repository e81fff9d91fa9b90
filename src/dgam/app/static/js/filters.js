// Sliders for the least score and the least length. They act while they are moved.
import { el, setText, svg } from "./dom.js";
import { plural, score } from "./format.js";

const STEPS = 200;
const BINS = 48;

/** `onChange({threshold, minSeconds})`. `start`: the threshold to begin with, or null for the lowest. */
export function createFilters(result, start, onChange) {
  const { min, max } = result.score_range;
  const longest = Math.max(0, ...result.detections.map((one) => one.end - one.start));
  const lengthStep = longest > 60 ? 1 : 0.1;
  const step = Math.max(1e-6, (max - min) / STEPS);
  let [threshold, minSeconds] = [start !== null && start > min && start <= max ? start : min, 0];

  const scoreSlider = el("input", { type: "range", id: "score-slider", min: "0", max: String(STEPS), step: "1", value: String(Math.round((threshold - min) / step)) });
  const lengthSlider = el("input", { type: "range", id: "length-slider", min: "0", max: String(Math.max(lengthStep, Math.ceil(longest / lengthStep) * lengthStep)), step: String(lengthStep), value: "0" });
  const scoreValue = el("output", { for: "score-slider" });
  const lengthValue = el("output", { for: "length-slider" });
  const count = el("p", { class: "shown-count" });
  const reset = el("button", { type: "button", class: "quiet small", on: { click: () => set(min, 0) } }, "Show all");
  const histogram = svg("svg", { class: "histogram", viewBox: `0 0 ${BINS} 20`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const node = el("section", { class: "filters", "aria-label": "Which detections count" },
    el("div", { class: "slider" }, el("label", { for: "score-slider" }, "Least score"), scoreValue, el("div", { class: "slider-track" }, histogram, scoreSlider)),
    el("div", { class: "slider" }, el("label", { for: "length-slider" }, "Least length"), lengthValue, el("div", { class: "slider-track" }, lengthSlider)),
    el("div", { class: "filters-end" }, count, reset));

  const passes = (one) => one.score >= threshold && one.end - one.start >= minSeconds; // as the server filters

  function drawHistogram() {
    const bins = new Array(BINS).fill(0);
    for (const one of result.detections) bins[Math.min(BINS - 1, Math.floor(((one.score - min) / Math.max(1e-9, max - min)) * BINS))] += 1;
    const most = Math.max(1, ...bins);
    const from = ((threshold - min) / Math.max(1e-9, max - min)) * BINS;
    histogram.replaceChildren(...bins.map((n, i) => svg("rect", { x: i + 0.1, width: 0.8, y: 20 - 19 * Math.sqrt(n / most), height: 19 * Math.sqrt(n / most), class: i + 1 > from ? "in" : "out" })));
  }

  function show() {
    setText(scoreValue, score(threshold));
    scoreSlider.setAttribute("aria-valuetext", `score ${score(threshold)}`);
    setText(lengthValue, `${minSeconds.toFixed(1)} s`);
    lengthSlider.setAttribute("aria-valuetext", `${minSeconds.toFixed(1)} seconds`);
    const shown = result.detections.filter(passes).length;
    setText(count, shown === result.detections.length ? `All ${plural(shown, "detection")} shown` : `${shown} of ${plural(result.detections.length, "detection")} shown`);
    reset.disabled = shown === result.detections.length;
    drawHistogram();
  }

  function set(toThreshold, toSeconds) {
    [threshold, minSeconds] = [toThreshold, toSeconds];
    scoreSlider.value = String(Math.round((threshold - min) / step));
    lengthSlider.value = String(minSeconds);
    show();
    onChange();
  }

  scoreSlider.addEventListener("input", () => {
    const place = Number(scoreSlider.value);
    threshold = place === 0 ? min : min + place * step; // the ends are exact: rounding must not drop the best
    if (place === STEPS) threshold = max;
    show();
    onChange();
  });
  lengthSlider.addEventListener("input", () => {
    minSeconds = Number(lengthSlider.value);
    show();
    onChange();
  });
  show();

  return {
    node,
    passes,
    get threshold() { return threshold; },
    get minSeconds() { return minSeconds; },
  };
}
