// Segments as buttons on the tracks, with handles at the edges of the one that is being corrected.
import { el, setText } from "./dom.js";
import { clock, score, spoken } from "./format.js";
import { neighbour } from "./lanes.js";
import { explainOnHover, hideTooltip } from "./tooltip.js";

export const NUDGE = 0.1; // seconds
const MOVES = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"]);

export function contextWords(one) {
  const [a, c] = [one.attention.toFixed(2), one.class_score.toFixed(2)];
  const where = `${clock(one.start)}–${clock(one.end)}, ${one.stream}. `;
  return where + (one.kind === "attention"
    ? `Attention is high for this video (${a}), but no class is active (the most is ${one.label}, ${c}). Either an action that the classifier misses, or attention gone astray.`
    : `The classifier sees ${one.label} (${c}), but attention is low for this video (${a}). The model takes this for scenery around the action rather than the action itself.`);
}

export function createBars({ scale, colour, actions, body }) {
  const nodes = new Map(); // key -> button
  const segments = new Map(); // key -> segment as last drawn
  const handles = { start: makeHandle("start"), end: makeHandle("end") };
  let inLanes = [];
  let state = {};

  const touch = matchMedia("(max-width: 760px), (pointer: coarse)");
  let height = 24;
  const rowHeight = () => height; // asked for every bar, so looked up once for a drawing

  function makeBar(segment, isContext) {
    const text = el("span", { class: "bar-text" });
    const node = el("button", { type: "button", class: isContext ? "seg-bar context" : "seg-bar", tabindex: "-1", data: { key: segment.key } }, text);
    explainOnHover(node, () => {
      const one = segments.get(segment.key);
      if (isContext) return contextWords(one);
      const rated = one.score === undefined ? "" : `, score ${score(one.score)}`;
      return `${one.label}, ${clock(one.start, 2)}–${clock(one.end, 2)} (${(one.end - one.start).toFixed(2)} s)${rated}`;
    });
    node.addEventListener("focus", () => actions.focused(segments.get(segment.key)));
    // The pointer has its own way (followPointer); this is Enter, Space, and assistive technology.
    node.addEventListener("click", (event) => event.detail === 0 && actions.play(segments.get(segment.key)));
    return node;
  }

  function makeHandle(edge) {
    const node = el("div", { class: `handle ${edge}`, role: "slider", tabindex: "0", data: { edge }, "aria-valuemin": "0", "aria-valuemax": scale.duration.toFixed(2) });
    node.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -NUDGE, ArrowDown: -NUDGE, ArrowRight: NUDGE, ArrowUp: NUDGE }[event.key];
      if (by === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      actions.nudge(state.selected, edge, by * (event.shiftKey ? 10 : 1));
    });
    return node;
  }

  function place(node, segment, row) {
    const [from, to] = [scale.x(segment.start), scale.x(segment.end)];
    const left = Math.max(-8, from);
    const width = Math.max(3, Math.min(scale.width + 8, to) - left);
    node.hidden = to < 0 || from > scale.width;
    node.style.left = `${left.toFixed(2)}px`;
    node.style.width = `${width.toFixed(2)}px`;
    node.style.top = `${3 + row * rowHeight()}px`;
    return width;
  }

  function update(node, segment, row, isContext, range) {
    const width = place(node, segment, row);
    const selected = state.selected?.key === segment.key;
    node.classList.toggle("selected", selected);
    node.setAttribute("tabindex", "-1");
    if (isContext) {
      node.dataset.colour = colour(segment.label);
      node.dataset.kind = segment.kind;
      node.setAttribute("aria-label", `Context candidate, ${segment.label}. ${contextWords(segment)}`);
      setText(node.firstChild, width > 60 ? segment.label : "");
      return;
    }
    const rated = segment.score !== undefined;
    const strength = rated ? (segment.score - range.min) / Math.max(1e-9, range.max - range.min) : 0.6;
    node.style.setProperty("--strength", `${Math.round(16 + 40 * strength)}%`);
    node.setAttribute("aria-label", `${segment.label}, ${spoken(segment.start)} to ${spoken(segment.end)}${rated ? `, score ${score(segment.score)}` : ""}`);
    if (state.editable) node.setAttribute("aria-pressed", String(selected));
    else node.removeAttribute("aria-pressed");
    setText(node.firstChild, width > 38 ? (rated ? score(segment.score) : width > 64 ? `${(segment.end - segment.start).toFixed(1)} s` : "") : "");
  }

  function drawHandles(drawn) {
    const found = state.editable && drawn.flatMap(({ lane, placed }) => placed.map(([one, row]) => [lane, one, row])).find(([, one]) => one.key === state.selected?.key);
    for (const edge of ["start", "end"]) {
      const handle = handles[edge];
      if (!found) {
        handle.remove();
        continue;
      }
      const [lane, segment, row] = found;
      const x = scale.x(segment[edge]);
      handle.hidden = x < -2 || x > scale.width + 2;
      const wide = rowHeight();
      const left = edge === "start" ? Math.max(0, x - wide + 4) : Math.min(scale.width - wide, x - 4);
      handle.style.left = `${left.toFixed(2)}px`;
      handle.style.setProperty("--grip", `${(x - left).toFixed(2)}px`);
      handle.style.top = `${1 + row * wide}px`;
      handle.setAttribute("aria-label", `${edge === "start" ? "Start" : "End"} of ${segment.label}`);
      handle.setAttribute("aria-valuenow", segment[edge].toFixed(2));
      handle.setAttribute("aria-valuetext", spoken(segment[edge]));
      const bar = nodes.get(segment.key);
      const wanted = edge === "start" ? bar : handles.start;
      if (handle.previousSibling !== wanted || handle.parentNode !== lane.track) wanted.after(handle);
    }
  }

  body.addEventListener("keydown", (event) => {
    const segment = segments.get(event.target.dataset?.key);
    if (!segment || event.ctrlKey || event.metaKey || event.altKey) return;
    if (MOVES.has(event.key)) {
      const to = neighbour(inLanes, segment, event.key);
      if (to) actions.moveTo(to);
    } else if ((event.key === "Delete" || event.key === "Backspace") && state.editable) actions.remove(segment);
    else return;
    event.preventDefault();
  });

  return {
    /** Pixels from one row to the next; larger for fingers. */
    measure: () => (height = touch.matches ? 44 : 24),
    /** `drawn`: [{lane, placed: [[segment, row]], isContext}], top to bottom. */
    draw(drawn, shown) {
      state = shown;
      const active = document.activeElement;
      const hadFocus = body.contains(active) ? active : null;
      const keep = new Set();
      const rated = shown.segments.filter((one) => one.score !== undefined).map((one) => one.score);
      const range = shown.range ?? { min: Math.min(...rated), max: Math.max(...rated) };
      segments.clear();
      inLanes = drawn.map(({ placed }) => placed.map(([one]) => one));
      for (const { lane, placed, isContext } of drawn) {
        let last = lane.curve;
        for (const [segment, row] of placed.toSorted((a, b) => a[0].start - b[0].start)) {
          keep.add(segment.key);
          segments.set(segment.key, segment);
          if (!nodes.has(segment.key)) nodes.set(segment.key, makeBar(segment, isContext));
          const node = nodes.get(segment.key);
          const before = last.nextSibling && last.nextSibling.classList.contains("handle") ? handles.end.nextSibling : last.nextSibling;
          if (before !== node) last.after(node);
          update(node, segment, row, isContext, range);
          last = node;
        }
      }
      for (const [key, node] of nodes) {
        if (keep.has(key)) continue;
        if (node.matches(":hover")) hideTooltip();
        node.remove();
        nodes.delete(key);
      }
      drawHandles(drawn);
      const stop = nodes.get(shown.selected?.key) ?? nodes.get(inLanes.flat()[0]?.key);
      stop?.setAttribute("tabindex", "0");
      if (hadFocus?.isConnected && document.activeElement !== hadFocus) hadFocus.focus({ preventScroll: true });
    },
    segment: (key) => segments.get(key),
    focus(segment) {
      nodes.get(segment.key)?.focus();
    },
    focusHandle: (edge) => handles[edge].focus(),
  };
}
