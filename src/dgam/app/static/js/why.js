// "Why?": a detection's score taken apart, and its surroundings marked on the timeline.
import * as api from "./api.js";
import { announce, el, showProblem, svg } from "./dom.js";
import { clock, percent, score } from "./format.js";

const ROLE_WORDS = { inner: "inside", left: "before", right: "after" };
const CHART = { width: 600, height: 96 };

/** `onZones(stretches)` marks them; `onClose()` gives the focus back; `onSeek(t)`. */
export function createWhy(job, colour, { onZones, onClose, onSeek }) {
  const title = el("h2", { id: "why-title", tabindex: "-1" });
  const content = el("div", { class: "card-body why-body" });
  const close = el("button", { type: "button", class: "quiet", on: { click: () => hide(true) } }, "Close");
  const node = el("section", { class: "card why", "aria-labelledby": "why-title", hidden: true },
    el("div", { class: "card-head" }, title, el("span", { class: "spacer" }), close), content);
  const known = new Map();
  let asked = 0;

  node.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    hide(true);
  });

  function hide(giveBack) {
    if (node.hidden) return;
    asked += 1;
    node.hidden = true;
    onZones([]);
    if (giveBack) onClose();
  }

  async function show(detection) {
    const own = ++asked;
    node.hidden = false;
    node.dataset.colour = colour(detection.label);
    title.replaceChildren("Why ", el("span", { class: "swatch", "aria-hidden": "true" }), " ", el("span", { dir: "auto" }, detection.label), ` at ${clock(detection.start)}–${clock(detection.end)}?`);
    title.focus({ preventScroll: true });
    node.scrollIntoView({ block: "nearest" });
    if (!known.has(detection.index)) {
      content.replaceChildren(el("p", { class: "note" }, "Taking the score apart …"));
      try {
        known.set(detection.index, await api.explanation(job, detection.index));
      } catch (error) {
        if (own === asked) showProblem(content, error.message);
        return;
      }
    }
    if (own !== asked) return;
    const found = known.get(detection.index);
    content.replaceChildren(...[waterfall(found), snippets(found, onSeek), streams(found), overlaps(found), sentences(found)].filter(Boolean));
    onZones(found.stretches);
    announce(found.words?.[0] ?? "");
    node.scrollIntoView({ block: "nearest" });
  }

  return { node, show, hide, get open() { return !node.hidden; } };
}

/** The score as a sum, each part a bar from where the one before ended. */
function waterfall(found) {
  const parts = [["Inside the segment", found.inner, "inner"], [`Before it, ${found.eta} × ${score(found.left)} taken away`, -found.eta * found.left, "left"],
    [`After it, ${found.eta} × ${score(found.right)} taken away`, -found.eta * found.right, "right"]];
  if (found.video) parts.push(["The video as a whole", found.video, "video"]);
  let at = 0;
  const bars = parts.map(([name, value, role]) => {
    const from = at;
    at += value;
    return { name, value, role, from, to: at };
  });
  bars.push({ name: "Score of the segment", value: at, role: "sum", from: 0, to: at, total: true });
  if (Math.abs(found.final - at) >= 0.005) {
    bars.push({ name: "Overlap with better detections", value: found.final - at, role: "overlap", from: at, to: found.final });
    bars.push({ name: "Final score", value: found.final, role: "sum", from: 0, to: found.final, total: true });
  }
  const low = Math.min(0, ...bars.flatMap((bar) => [bar.from, bar.to]));
  const high = Math.max(0, ...bars.flatMap((bar) => [bar.from, bar.to]));
  const x = (value) => (100 * (value - low)) / Math.max(1e-9, high - low);
  return el("div", { class: "why-part" }, el("h3", {}, "How the score comes about"),
    el("table", { class: "waterfall" }, el("tbody", {}, bars.map((bar) => el("tr", { class: bar.total ? "total" : "" },
      el("th", { scope: "row" }, bar.name),
      el("td", { class: "number" }, `${bar.total || bar.value < 0 ? "" : "+"}${score(bar.value)}`),
      el("td", { class: "bar-cell", "aria-hidden": "true" }, svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none" },
        svg("line", { x1: x(0), x2: x(0), y1: 0, y2: 10 }),
        svg("rect", { class: `part ${bar.role}`, x: Math.min(x(bar.from), x(bar.to)), width: Math.max(0.6, Math.abs(x(bar.to) - x(bar.from))), y: 1.5, height: 7 }))))))));
}

/** What each snippet gives, over time. */
function snippets(found, onSeek) {
  const list = found.snippets;
  if (!list.length) return null;
  const from = Math.min(...list.map((one) => one.start));
  const to = Math.max(...list.map((one) => one.end));
  const most = Math.max(1e-9, ...list.map((one) => Math.abs(one.contribution)));
  const [up, down] = [list.some((one) => one.contribution > 0), list.some((one) => one.contribution < 0)];
  const zero = up && down ? CHART.height / 2 : up ? CHART.height - 2 : 2;
  const room = (up && down ? CHART.height / 2 : CHART.height) - 4;
  const x = (t) => (CHART.width * (t - from)) / Math.max(1e-9, to - from);
  const chart = svg("svg", { class: "snippet-chart", viewBox: `0 0 ${CHART.width} ${CHART.height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    list.map((one) => {
      const height = (room * Math.abs(one.contribution)) / most;
      return svg("rect", { class: `part ${one.role}`, x: x(one.start) + 0.5, width: Math.max(0.8, x(one.end) - x(one.start) - 1), y: one.contribution >= 0 ? zero - height : zero, height: Math.max(0.5, height) });
    }),
    svg("line", { x1: 0, x2: CHART.width, y1: zero, y2: zero }));
  chart.addEventListener("click", (event) => {
    const place = chart.getBoundingClientRect();
    onSeek(from + ((event.clientX - place.left) / place.width) * (to - from));
  });
  const best = list.toSorted((a, b) => Math.abs(b.contribution) - Math.abs(a.contribution))[0];
  return el("div", { class: "why-part" }, el("h3", {}, "What each snippet gives"),
    el("div", { class: "row note chart-key" }, ["inner", "left", "right"].filter((role) => list.some((one) => one.role === role)).map((role) =>
      el("span", { class: "legend" }, el("span", { class: `key part ${role}`, "aria-hidden": "true" }), ROLE_WORDS[role]))),
    chart, el("div", { class: "row note" }, el("span", {}, clock(from)), el("span", { class: "spacer" }), el("span", {}, clock(to))),
    el("p", { class: "note" }, `The most comes from ${clock(best.start)}–${clock(best.end)}, ${ROLE_WORDS[best.role]}: ${best.contribution > 0 ? "+" : ""}${score(best.contribution)}, attention ${best.attention.toFixed(2)}.`));
}

function streams(found) {
  return el("div", { class: "why-part" }, el("h3", {}, "Streams"),
    el("div", { class: "table-scroll" }, el("table", { class: "plain-table" },
      el("thead", {}, el("tr", {}, ["Stream", "Proposes it", "Gives", "Attention inside", "Likely in the video"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, found.streams.map((one) => el("tr", {},
        el("th", { scope: "row" }, one.stream, one.stream === found.stream ? el("span", { class: "note" }, " (scored it)") : null),
        el("td", {}, one.proposes ? "yes" : "no"), el("td", { class: "number" }, one.share === null ? "all of it" : score(one.share)),
        el("td", { class: "number" }, one.attention.toFixed(2)), el("td", { class: "number" }, percent(one.probability))))))));
}

function overlaps(found) {
  const method = found.suppression.method;
  const decays = found.suppression.decays.filter((one) => one.factor < 0.995);
  if (!decays.length) return null;
  return el("div", { class: "why-part" }, el("h3", {}, "Better detections that overlap it"),
    el("ul", { class: "decays" }, decays.slice(0, 3).map((one) =>
      el("li", {}, `${clock(one.start)}–${clock(one.end)} (${one.stream}), overlap ${percent(one.tiou)}: score × ${one.factor.toFixed(2)}`)),
    decays.length > 3 ? el("li", { class: "note" }, `and ${decays.length - 3} more (${method})`) : null));
}

function sentences(found) {
  if (!found.words?.length) return null;
  return el("details", { class: "why-part" }, el("summary", {}, "In sentences"), found.words.map((text) => el("p", {}, text)));
}
