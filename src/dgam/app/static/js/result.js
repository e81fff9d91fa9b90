// A localised video: player, timeline, sliders, table, explanation, correction, downloads, tied together.
import * as api from "./api.js";
import { announce, el, recall, remember } from "./dom.js";
import { DRAG, createCorrection } from "./correction.js";
import { createDownloads } from "./downloads.js";
import { createEditor } from "./editor.js";
import { createFilters } from "./filters.js";
import { clock, percent } from "./format.js";
import { icon } from "./icons.js";
import { createPalette } from "./palette.js";
import { createPlayer } from "./player.js";
import { createTable } from "./table.js";
import { createTimeline } from "./timeline.js";
import { createScale } from "./timescale.js";
import { hideTooltip } from "./tooltip.js";
import { createWhy } from "./why.js";

/** `place`: where it goes; `onTime(t)` when the position comes to rest. Returns what app.js needs of it. */
export function showResult(place, { job, result, model, startAt, onTime }) {
  const colour = createPalette([...result.classes]);
  const scale = createScale(result.duration);
  const detections = result.detections.map((one, index) => ({ ...one, index, key: `d${index}` }));
  const context = result.context.map((one, index) => ({ ...one, key: `x${index}` }));
  let [editing, selected, restless] = [false, null, 0];

  const correction = createCorrection(result.correction, result.duration, () => refresh());
  const player = createPlayer(api.mediaUrl(job.id), result.duration, job.message, moved);
  const filters = createFilters({ ...result, detections }, model.score_threshold ?? null, () => refresh());
  const why = createWhy(job.id, colour, {
    onZones: (zones) => timeline.setZones(zones),
    onClose: () => (selected ? timeline.focus(selected) : mode.querySelector("input:checked").focus()),
    onSeek: player.seek,
  });
  const table = createTable(colour, { play, why: explain, remove: (one) => editor.remove(one) });
  const timeline = createTimeline({ result: { ...result, detections }, colour, scale, player, actions: {
    seek: player.seek,
    focused: (one) => one && choose(one),
    select: (one) => { choose(one); player.seek(one.start); timeline.focus(selected ?? one); },
    moveTo: (one) => { choose(one); player.seek(one.start); timeline.focus(one); },
    play,
    nudge(one, edge, by) {
      correction.move(one.key, { [edge]: one[edge] + by }, `${one.key} ${edge}`);
      player.seek(current(one)[edge]);
    },
    drag(one, times) {
      correction.move(one.key, times, DRAG + one.key);
      const now = current(one);
      player.seek(times.start !== undefined && times.start !== one.start ? now.start : now.end);
    },
    dragged: () => correction.endMerge(),
    remove: (one) => editor.remove(one),
  } });
  const editor = createEditor({ job: job.id, result, correction, colour, player, selected: () => selected, select: choose, shownDetections: () => detections.filter(filters.passes),
    likely: () => result.classes.toSorted((a, b) => (result.probabilities[b] ?? 0) - (result.probabilities[a] ?? 0))[0] });
  const downloads = createDownloads(job.id, model.formats, () => ({
    threshold: filters.threshold, minSeconds: filters.minSeconds, shown: detections.filter(filters.passes).length,
    correction: !correction.isSaved ? "none" : correction.dirty ? "unsaved" : "saved", segments: correction.segments.length,
  }));

  const mode = el("div", { class: "seg", role: "radiogroup", "aria-label": "What the timeline shows" },
    ["Detections", "Correction"].map((name, index) => el("label", {}, el("input", { type: "radio", name: "mode", value: name, checked: index === 0, on: { change: () => setEditing(index === 1) } }), name)));
  const zoom = (name, label, action) => el("button", { type: "button", class: "icon-button quiet", "aria-label": label, title: label, on: { click: action } }, icon(name));
  const whyButton = el("button", { type: "button", disabled: true, on: { click: () => explain() } }, "Why?");
  const option = (name, key, apply) => {
    const box = el("input", { type: "checkbox", checked: recall(key) !== "off", on: { change: () => { remember(key, box.checked ? null : "off"); apply(box.checked); } } });
    return el("label", { class: "check" }, box, name);
  };
  const contextOption = option("Context", "context", () => refresh());
  const curvesOption = option("Curves", "curves", (on) => timeline.setCurves(on));
  curvesOption.title = `Attention from 0 to 1. Class activations, all on one scale: ${timeline.activations.map((value) => value.toFixed(2)).join(" to ")} in this video.`;
  const controls = el("div", { class: "timeline-bar" }, mode, whyButton, el("span", { class: "spacer" }), contextOption, curvesOption,
    el("span", { class: "zooms", role: "group", "aria-label": "Zoom" }, zoom("minus", "Zoom out (−)", () => zoomBy(0.5)), zoom("plus", "Zoom in (+)", () => zoomBy(2)), zoom("fit", "All of the video (0)", scale.whole)));
  const timelineCard = el("section", { class: "card timeline-card", "aria-label": "Timeline" }, controls, filters.node, timeline.node);

  place.replaceChildren(player.node, timelineCard, editor.node, why.node, table.node, el("div", { class: "lower" }, probabilities(), downloads.node));

  function probabilities() {
    const ordered = Object.entries(result.probabilities).sort((a, b) => b[1] - a[1]).slice(0, 12);
    return el("section", { class: "card probable", "aria-labelledby": "probable-title" }, el("div", { class: "card-head" }, el("h2", { id: "probable-title" }, "Likely in this video")),
      el("ul", { class: "plain card-body" }, ordered.map(([label, p]) => el("li", { data: { colour: colour(label) } }, el("span", { class: "swatch", "aria-hidden": "true" }), el("span", { class: "probable-name", dir: "auto" }, label),
        el("span", { class: "meter", "aria-hidden": "true" }, el("span", { vars: { width: `${100 * p}%` } })), el("span", { class: "number" }, percent(p))))));
  }

  const segments = () => (editing ? correction.segments : detections.filter(filters.passes));
  const current = (one) => segments().find((other) => other.key === one.key) ?? one;

  function refresh() {
    const list = segments();
    if (selected) selected = [...list, ...context].find((one) => one.key === selected.key) ?? null;
    whyButton.disabled = editing || selected?.index === undefined;
    whyButton.hidden = contextOption.hidden = editing;
    timeline.show({ segments: list, ghosts: detections.filter(filters.passes), context: contextOption.firstChild.checked ? context : [], editable: editing, selected, range: result.score_range });
    table.show(list, editing, selected);
    editor.node.hidden = !editing;
    editor.show();
    downloads.show();
  }

  function choose(one, focus = false) {
    if (one?.key === selected?.key) return;
    selected = one;
    refresh();
    if (focus && one) timeline.focus(one);
  }

  function play(one) {
    choose(one);
    scale.reveal(one.start);
    player.playRange(one.start, one.end);
  }

  function explain(one = selected) {
    if (one?.index === undefined) return announce("Select a detection first");
    choose(one);
    scale.reveal((one.start + one.end) / 2);
    return why.show(one);
  }

  function setEditing(on) {
    if (on === editing) return;
    editing = on;
    mode.querySelectorAll("input")[on ? 1 : 0].checked = true;
    selected = null;
    why.hide(false);
    refresh();
    announce(on ? "Correcting by hand" : "Detections");
  }

  function zoomBy(factor) {
    const inside = player.position >= scale.from && player.position <= scale.to;
    scale.zoom(factor, inside ? player.position : (scale.from + scale.to) / 2);
  }

  function step(by) {
    const inTime = segments().toSorted((a, b) => a.start - b.start || a.end - b.end);
    const at = inTime.findIndex((one) => one.key === selected?.key);
    const t = player.position;
    const to = at >= 0 ? inTime[at + by] : by > 0 ? inTime.find((one) => one.start > t) : inTime.findLast((one) => one.start < t - 0.1);
    if (!to) return announce(by > 0 ? "No later segment" : "No earlier segment");
    choose(to);
    player.seek(to.start);
    timeline.focus(to);
    return undefined;
  }
  player.onPrevious = () => step(-1);
  player.onNext = () => step(1);

  function moved(t, playing) {
    timeline?.setTime(t, playing);
    table.setTime(t);
    clearTimeout(restless);
    if (!playing) restless = setTimeout(() => onTime(t), 250);
  }

  const nudgeBy = (by) => () => {
    player.seek(player.position + by);
    scale.reveal(player.position);
  };
  if (curvesOption.firstChild.checked === false) timeline.setCurves(false);
  refresh();
  player.seek(startAt ?? 0);

  return {
    player,
    get dirty() { return correction.dirty; },
    keys: {
      " ": player.toggle, k: player.toggle, m: player.mute,
      ArrowLeft: nudgeBy(-1), ArrowRight: nudgeBy(1), "Shift+ArrowLeft": nudgeBy(-5), "Shift+ArrowRight": nudgeBy(5),
      ",": nudgeBy(-0.04), ".": nudgeBy(0.04), n: () => step(1), p: () => step(-1),
      "+": () => zoomBy(2), "=": () => zoomBy(2), "-": () => zoomBy(0.5), 0: scale.whole,
      w: () => explain(), e: () => setEditing(!editing),
      a: () => (editing ? editor.add() : false),
      "[": () => (editing ? editor.toPlayhead("start") : false), "]": () => (editing ? editor.toPlayhead("end") : false),
      "Control+z": () => (editing ? editor.undo() : false), "Control+Shift+z": () => (editing ? editor.redo() : false), "Control+y": () => (editing ? editor.redo() : false),
      "Control+s": () => (editing ? editor.save() : false),
      Escape: () => (why.open ? why.hide(true) : false),
    },
    end() {
      clearTimeout(restless);
      hideTooltip();
      timeline.end();
      player.stop();
      place.replaceChildren();
    },
    title: `${job.name} · ${clock(result.duration, 0)}`,
  };
}
