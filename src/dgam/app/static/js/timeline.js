// The timeline: ruler, a lane for each class, attention, context candidates, playhead, overview.
import { createBars } from "./bars.js";
import { areaPath, curvePath, valueAt } from "./curves.js";
import { el, setText, svg } from "./dom.js";
import { clock, plural, spoken } from "./format.js";
import { byLabel, pack } from "./lanes.js";
import { createOverview } from "./overview.js";
import { createPlayhead } from "./playhead.js";
import { ticks } from "./timescale.js";
import { followPointer } from "./timeline_pointer.js";
import { hideTooltip } from "./tooltip.js";

const ROOM = 84; // pixels between the ruler's labels
const ATTENTION_HEIGHT = 58;
const ACTIVATION_HEIGHT = 22;
const MANY_CLASSES = 12;
export const CONTEXT = "\u0000context"; // no class can be called so

/** `result`: the API's; `colour(label)`; `scale`; `actions`: {seek, select, play, change} as used below. */
export function createTimeline({ result, colour, scale, player, actions }) {
  const streams = Object.entries(result.curves);
  const ruler = svg("svg", { class: "ruler-marks", "aria-hidden": "true" });
  const rulerTrack = el("div", { class: "track ruler-track" }, ruler);
  const rulerLane = el("div", { class: "lane ruler" }, el("div", { class: "gutter", "aria-hidden": "true" }), rulerTrack);
  const lanesPlace = el("div", { class: "class-lanes" });
  const nothing = el("p", { class: "note nothing", hidden: true });
  const attention = makeAttention();
  const zones = el("div", { class: "zones", "aria-hidden": "true" });
  const playhead = createPlayhead(scale, player);
  const over = el("div", { class: "over" }, zones, playhead.node);
  const body = el("div", { class: "tl-body" }, rulerLane, lanesPlace, nothing, attention.node, over);
  const overview = createOverview(scale, colour);
  const node = el("div", { class: "tl" }, body, overview.node);
  const bars = createBars({ scale, colour, actions, body });
  const lanes = new Map();
  let shown = { segments: [], ghosts: [], context: [], editable: false, selected: null };
  // Rows for fingers are large, so there are fewer. What is being corrected is drawn whole.
  const mostRows = (isContext, rowHeight) => (shown.editable ? Infinity : rowHeight > 30 ? (isContext ? 1 : 3) : isContext ? 2 : 5);
  const activations = rangeOf(streams.flatMap(([, stream]) => Object.values(stream.classes)));
  let curvesShown = true;
  let zoneList = [];

  // Classes in the order of what the video is probably about: it does not change as sliders move.
  const order = result.classes.toSorted((a, b) => (result.probabilities[b] ?? 0) - (result.probabilities[a] ?? 0));
  const detected = new Set(result.detections.map((one) => one.label));

  function laneLabels() {
    const present = new Set([...shown.segments, ...(shown.editable ? shown.ghosts : [])].map((one) => one.label));
    const wanted = (label) => present.has(label) || (detected.has(label) && detected.size <= MANY_CLASSES);
    return [...order.filter(wanted), ...[...present].filter((label) => !order.includes(label))];
  }

  function makeLane(label) {
    const isContext = label === CONTEXT;
    const curve = svg("svg", { class: "activation", "aria-hidden": "true" });
    const count = el("span", { class: "count" });
    const name = isContext ? "Context candidates" : label;
    const gutter = el("div", { class: "gutter" }, el("span", { class: isContext ? "swatch hatched" : "swatch", "aria-hidden": "true" }),
      el("span", { class: "lane-name", title: name, dir: "auto" }, name), count);
    const track = el("div", { class: "track" }, curve);
    const lane = el("div", { class: `lane${isContext ? " context-lane" : ""}`, role: "group", data: { colour: isContext ? "6" : colour(label) } }, gutter, track);
    return { node: lane, track, curve, count, name };
  }

  function makeAttention() {
    const paths = streams.map((_, index) => svg("path", { class: `curve stream-${index % 3}` }));
    const picture = svg("svg", { class: "attention-curves", "aria-hidden": "true" }, svg("path", { class: "half" }), paths);
    const values = streams.map(() => el("span", { class: "value" }));
    const legend = streams.map(([name], index) =>
      el("span", { class: "legend" }, svg("svg", { class: "sample", "aria-hidden": "true", viewBox: "0 0 22 8" }, svg("path", { class: `curve stream-${index % 3}`, d: "M0 4H22" })), name, values[index]));
    const lane = el("div", { class: "lane attention", role: "group", "aria-label": "Attention, from 0 to 1, for each stream" },
      el("div", { class: "gutter" }, el("span", { class: "lane-name" }, "Attention"), el("span", { class: "legends" }, legend)),
      el("div", { class: "track" }, picture));
    return { node: lane, picture, paths, values, half: picture.firstChild };
  }

  function drawRuler() {
    const { step, times } = ticks(scale, ROOM);
    ruler.setAttribute("width", scale.width);
    const digits = step < 1 ? 1 : 0;
    ruler.replaceChildren(...times.flatMap((t) => {
      const x = scale.x(t);
      const atEnd = x > scale.width - 30;
      return [svg("line", { x1: x, x2: x, y1: 20, y2: 28 }),
        svg("text", { x: atEnd ? Math.min(x, scale.width) : Math.max(x, 0) + 4, y: 15, "text-anchor": atEnd ? "end" : "start" }, clock(t, digits))];
    }));
  }

  function drawActivation(lane, label, top) {
    const ghosts = shown.editable ? shown.ghosts.filter((one) => one.label === label) : [];
    const drawn = [scale.from, scale.to, scale.width, top, curvesShown, ...ghosts.map((one) => one.key)].join(" ");
    if (drawn === lane.drawn) return; // sliders do not change curves
    lane.drawn = drawn;
    const height = top + ACTIVATION_HEIGHT;
    lane.curve.setAttribute("width", scale.width);
    lane.curve.setAttribute("height", height);
    const base = svg("g", { transform: `translate(0 ${top})` });
    if (curvesShown) {
      streams.forEach(([, stream], index) => {
        if (!stream.classes[label]) return;
        const line = curvePath(stream.times, stream.classes[label], scale, ACTIVATION_HEIGHT, activations);
        if (index === 0) base.append(svg("path", { class: "area", d: areaPath(line, scale.width, ACTIVATION_HEIGHT) }));
        base.append(svg("path", { class: `curve stream-${index % 3}`, d: line }));
      });
    }
    lane.curve.replaceChildren(base, ...ghosts.map((one) =>
      svg("rect", { class: "ghost", x: scale.x(one.start), width: Math.max(2, scale.x(one.end) - scale.x(one.start)), y: top - 7, height: 4, rx: 2 })));
  }

  function drawLanes() {
    const groups = byLabel(shown.segments, laneLabels());
    if (shown.context.length && !shown.editable) groups.set(CONTEXT, shown.context);
    for (const [label, lane] of lanes) {
      if (groups.has(label)) continue;
      lane.node.remove();
      lanes.delete(label);
    }
    const rowHeight = bars.measure();
    const drawn = [];
    let index = 0;
    for (const [label, segments] of groups) {
      if (!lanes.has(label)) lanes.set(label, makeLane(label));
      const lane = lanes.get(label);
      if (lanesPlace.children[index] !== lane.node) lanesPlace.insertBefore(lane.node, lanesPlace.children[index] ?? null);
      index += 1;
      const isContext = label === CONTEXT;
      const { rows, placed, hidden } = pack(segments, mostRows(isContext, rowHeight));
      const top = Math.max(1, rows) * rowHeight + 6 + (shown.editable ? 8 : 0);
      lane.track.style.height = `${top + (curvesShown && !isContext ? ACTIVATION_HEIGHT : 0) + 2}px`;
      setText(lane.count, segments.length ? String(segments.length) : "");
      const more = hidden.length ? `, ${hidden.length} of them not drawn${isContext ? ", the weaker ones" : ": raise the score to see them apart"}` : "";
      lane.node.setAttribute("aria-label", `${lane.name}: ${plural(segments.length, isContext ? "stretch" : "segment", isContext ? "stretches" : "segments")}${more}`);
      lane.count.title = more ? `${segments.length}${more}` : "";
      lane.count.classList.toggle("partial", hidden.length > 0);
      if (hidden.length) setText(lane.count, `${placed.length} of ${segments.length}`);
      if (!isContext) drawActivation(lane, label, top);
      drawn.push({ lane, placed, isContext });
    }
    bars.draw(drawn, shown);
    nothing.hidden = shown.segments.length > 0;
    setText(nothing, shown.editable ? "No segment yet: move the playhead and press “Add at playhead”."
      : result.detections.length ? "No detection passes: lower the score or the length." : "The model found nothing in this video.");
  }

  function drawAttention() {
    attention.node.hidden = !curvesShown;
    if (!curvesShown) return;
    attention.picture.setAttribute("width", scale.width);
    attention.picture.setAttribute("height", ATTENTION_HEIGHT);
    attention.half.setAttribute("d", `M0 ${ATTENTION_HEIGHT / 2}H${scale.width}`);
    streams.forEach(([, stream], index) => attention.paths[index].setAttribute("d", curvePath(stream.times, stream.attention, scale, ATTENTION_HEIGHT)));
  }

  function drawZones() {
    zones.replaceChildren(...zoneList.filter((one) => one.end > scale.from && one.start < scale.to).map((one) => {
      const [from, to] = [Math.max(0, scale.x(one.start)), Math.min(scale.width, scale.x(one.end))];
      return el("div", { class: `zone ${one.role}`, vars: { left: `${from}px`, width: `${Math.max(1, to - from)}px` } });
    }));
  }

  function draw() {
    drawRuler();
    drawLanes();
    drawAttention();
    drawZones();
    playhead.draw();
    overview.draw(shown.segments, streams);
  }

  let asked = 0;
  const later = () => {
    if (!asked) asked = requestAnimationFrame(() => ((asked = 0), draw()));
  };
  scale.onChange(() => {
    hideTooltip();
    later();
  });
  const resized = new ResizeObserver(() => {
    scale.setWidth(rulerTrack.clientWidth);
    later();
  });
  resized.observe(rulerTrack);
  followPointer({ body, scale, bars, actions, shown: () => shown });

  return {
    node,
    activations,
    /** {segments, ghosts, context, editable, selected}: what is to be seen; best first. */
    show(change) {
      shown = { ...shown, ...change };
      draw();
    },
    setCurves(on) {
      curvesShown = on;
      draw();
    },
    setZones(list) {
      zoneList = list;
      drawZones();
    },
    /** The position changed. While playing, the shown stretch follows. */
    setTime(t, playing) {
      if (playing && !scale.isWhole && t >= scale.to) scale.show(t, t + scale.span);
      else if (playing && t < scale.from) scale.reveal(t);
      playhead.draw(playing);
      streams.forEach(([, stream], index) => setText(attention.values[index], valueAt(stream.times, stream.attention, t).toFixed(2)));
    },
    focus: (segment) => {
      scale.reveal((segment.start + segment.end) / 2);
      draw();
      bars.focus(segment);
    },
    describe: (segment) => `${segment.label}, ${spoken(segment.start)} to ${spoken(segment.end)}`,
    end() {
      resized.disconnect();
      cancelAnimationFrame(asked);
    },
  };
}

/** The least and the greatest value of all curves: one range for all classes, so that they compare. */
function rangeOf(curves) {
  let [low, high] = [1, 0];
  for (const values of curves) for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return high > low ? [low, high] : [0, 1];
}
