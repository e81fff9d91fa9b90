// The panel for correcting by hand: the selected segment, the video's labels, undo, save.
import * as api from "./api.js";
import { announce, el, setText, showProblem } from "./dom.js";
import { NUDGE } from "./bars.js";
import { clock, parseClock, percent } from "./format.js";
import { icon } from "./icons.js";
import { confirm } from "./dialogs.js";

const OTHER = "\u0000other";
const ADDED = 2; // seconds of a segment added at the playhead

/** `deps`: {job, result, correction, colour, player, shownDetections(), selected(), select(segment|null), changed()} */
export function createEditor(deps) {
  const { correction, result, player } = deps;
  const errors = el("div", { role: "alert" });
  const status = el("span", { class: "save-status", role: "status" });
  const tool = (name, label, action, text = "") => el("button", { type: "button", class: text ? "" : "icon-button", "aria-label": text ? null : label, title: label, on: { click: action } }, icon(name), text || null);
  const undo = tool("undo", "Undo (Ctrl+Z)", () => back());
  const redo = tool("redo", "Redo (Ctrl+Shift+Z)", () => forth());
  const save = el("button", { type: "button", class: "primary", on: { click: () => store() } }, "Save");
  const discard = el("button", { type: "button", class: "quiet danger", on: { click: () => drop() } }, "Discard");
  const add = tool("plus", "Add a segment at the playhead (A)", () => addHere(), "Add at playhead");

  const fromShown = el("button", { type: "button", class: "primary", on: { click: () => begin(deps.shownDetections()) } });
  const fromNothing = el("button", { type: "button", on: { click: () => begin([]) } }, "Start with nothing");
  const start = el("div", { class: "start-correction" },
    el("h2", {}, "Correct this video by hand"),
    el("p", { class: "note" }, "Your correction is kept beside the model’s detections, which stay as they are. Corrected video labels can be downloaded for the next training."),
    el("div", { class: "row" }, fromShown, fromNothing));

  const form = makeForm();
  const labels = el("fieldset", { class: "labels" }, el("legend", {}, "Labels of the whole video"));
  const labelProblem = el("div", { role: "alert" });
  const newLabel = el("input", { type: "text", maxlength: "100", "aria-label": "New label", placeholder: "New label", autocomplete: "off" });
  const addLabel = el("button", { type: "button", on: { click: () => takeLabel() } }, "Add label");
  newLabel.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    takeLabel();
  });

  const work = el("div", { class: "correcting" },
    el("div", { class: "row tools" }, add, undo, redo, el("span", { class: "spacer" }), status, discard, save),
    errors,
    el("div", { class: "edit-columns" }, form.node, el("div", {}, labels, labelProblem, el("div", { class: "row new-label" }, newLabel, addLabel))));
  const node = el("section", { class: "card editor", "aria-label": "Correction", hidden: true }, start, work);
  const checks = new Map();
  let saving = false;

  function makeForm() {
    const label = el("select", { id: "edit-label" });
    const own = el("input", { type: "text", maxlength: "100", "aria-label": "Name of the new label", hidden: true, autocomplete: "off" });
    const edge = (name, words) => {
      const input = el("input", { type: "text", inputmode: "decimal", id: `edit-${name}`, "aria-describedby": "edit-hint", autocomplete: "off" });
      const nudge = (by) => el("button", { type: "button", class: "icon-button", "aria-label": `${words} ${by < 0 ? "earlier" : "later"} by ${NUDGE} s`, on: { click: () => move(name, by) } }, icon(by < 0 ? "minus" : "plus"));
      const here = el("button", { type: "button", title: `${words} at the playhead (${name === "start" ? "[" : "]"})`, on: { click: () => toPlayhead(name) } }, "Playhead");
      input.addEventListener("change", () => typed(name, input));
      input.addEventListener("keydown", (event) => event.key === "Enter" && typed(name, input));
      return { input, node: el("div", { class: "edge" }, el("label", { for: `edit-${name}` }, words), el("div", { class: "row edge-row" }, nudge(-NUDGE), input, nudge(NUDGE), here)) };
    };
    const [from, to] = [edge("start", "Start"), edge("end", "End")];
    const remove = tool("trash", "Delete the segment (Delete)", () => removeSelected(), "Delete");
    remove.classList.add("danger");
    const play = tool("play", "Play the segment", () => deps.selected() && player.playRange(deps.selected().start, deps.selected().end), "Play");
    const none = el("p", { class: "note" }, "Select a segment on the timeline or in the table to change it.");
    const problem = el("div", { role: "alert" });
    label.addEventListener("change", () => {
      own.hidden = label.value !== OTHER;
      if (own.hidden) relabel(label.value);
      else own.focus();
    });
    const takeOwn = () => own.value.trim() && relabel(own.value.trim());
    own.addEventListener("change", takeOwn);
    const fields = el("div", { class: "segment-form" },
      el("div", { class: "edge" }, el("label", { for: "edit-label" }, "Action"), el("div", { class: "row" }, label, own)),
      from.node, to.node, el("p", { class: "note", id: "edit-hint" }, `Minutes:seconds, or seconds. The buttons move by ${NUDGE} s; on the timeline drag the edges, or focus one and use ← →.`),
      el("div", { class: "row" }, play, remove), problem);
    return { node: el("div", { class: "selected-form" }, el("h2", {}, "Selected segment"), none, fields), none, fields, label, own, from, to, problem };
  }

  const badName = (name) => (!name.trim() ? "A label needs a name." : name.includes(";") ? "A label holds no semicolon: it separates labels in a labels CSV." : null);

  function relabel(name) {
    const bad = badName(name);
    if (bad) showProblem(form.problem, bad);
    else if (deps.selected()) correction.relabel(deps.selected().key, name.trim());
  }

  function typed(name, input) {
    const one = deps.selected();
    if (!one) return;
    const t = parseClock(input.value);
    const [low, high] = name === "start" ? [0, one.end] : [one.start, result.duration];
    form.problem.replaceChildren();
    if (t === null) showProblem(form.problem, `“${input.value}” is no time. Write seconds (12.3) or minutes:seconds (1:02.3).`);
    else if (t < low || t > high) showProblem(form.problem, `The ${name} must lie between ${clock(low, 2)} and ${clock(high, 2)}.`);
    else correction.move(one.key, { [name]: t });
    input.value = clock((deps.selected() ?? one)[name], 2);
  }

  function move(name, by) {
    const one = deps.selected();
    if (!one) return;
    correction.move(one.key, { [name]: one[name] + by }, `${one.key} ${name}`);
    announce(`${name} ${clock(deps.selected()[name], 2)}`);
  }

  function toPlayhead(name) {
    const one = deps.selected();
    if (!one) return announce("No segment is selected");
    correction.move(one.key, { [name]: player.position });
    announce(`${name} ${clock(deps.selected()[name], 2)}`);
    return undefined;
  }

  function begin(segments) {
    correction.begin(segments);
    announce(segments.length ? `Correcting, with ${segments.length} segments` : "Correcting, with no segments");
    add.focus();
  }

  function addHere() {
    if (!correction.started) correction.begin([]);
    const label = deps.selected()?.label ?? correction.labels[0] ?? deps.likely();
    const length = Math.min(ADDED, result.duration);
    const from = Math.min(player.position, result.duration - length);
    const key = correction.add(from, from + length, label);
    deps.select(correction.segments.find((one) => one.key === key), true);
    announce(`Added ${label} at ${clock(from)}. Its label and edges can be changed.`);
  }

  function removeSelected(segment = deps.selected()) {
    if (!segment) return;
    const all = correction.segments;
    const next = all[all.findIndex((one) => one.key === segment.key) + 1] ?? all.at(-2) ?? null;
    deps.select(next && next.key !== segment.key ? next : null, true);
    correction.remove(segment.key);
    announce(`Deleted ${segment.label} at ${clock(segment.start)}. Ctrl+Z brings it back.`);
  }

  function back() {
    if (!correction.canUndo) return;
    correction.undo();
    announce("Undone");
  }

  function forth() {
    if (!correction.canRedo) return;
    correction.redo();
    announce("Done again");
  }

  async function store() {
    if (!correction.started || saving) return;
    saving = true;
    errors.replaceChildren();
    const value = correction.value();
    show();
    try {
      await api.saveCorrection(deps.job, value);
      correction.markSaved(value);
      announce("Correction saved");
    } catch (error) {
      showProblem(errors, `Not saved. ${error.message}${error.status === 0 ? " Your changes are still here; save again when it is back." : ""}`);
    } finally {
      saving = false;
      show();
    }
  }

  async function drop() {
    const sure = await confirm("Discard the correction?", "All segments and labels you set for this video are forgotten. The model’s detections stay.", "Discard");
    if (!sure) return;
    try {
      if (correction.isSaved) await api.dropCorrection(deps.job);
      deps.select(null);
      correction.forget();
      announce("Correction discarded");
    } catch (error) {
      showProblem(errors, `Not discarded. ${error.message}`);
    }
  }

  function takeLabel() {
    labelProblem.replaceChildren();
    const bad = badName(newLabel.value);
    if (bad) return showProblem(labelProblem, bad);
    correction.setLabel(newLabel.value.trim(), true);
    newLabel.value = "";
    return undefined;
  }

  function setLabel(label, box) {
    const used = correction.segments.filter((one) => one.label === label).length;
    labelProblem.replaceChildren();
    if (!box.checked && used) {
      box.checked = true;
      showProblem(labelProblem, `${label} has ${used === 1 ? "a segment" : `${used} segments`} here. Delete or relabel ${used === 1 ? "it" : "them"} first.`);
    } else correction.setLabel(label, box.checked);
  }

  function showLabels() {
    const names = [...new Set([...result.classes, ...correction.labels])];
    for (const [name, { row }] of checks) {
      if (names.includes(name)) continue;
      row.remove();
      checks.delete(name);
    }
    for (const name of names) {
      if (!checks.has(name)) {
        const box = el("input", { type: "checkbox", on: { change: () => setLabel(name, box) } });
        const p = result.probabilities[name];
        const row = el("label", { class: "check", data: { colour: deps.colour(name) } }, box, el("span", { class: "swatch", "aria-hidden": "true" }), el("span", { dir: "auto" }, name),
          p === undefined ? null : el("span", { class: "note", title: "the model’s probability" }, percent(p)));
        checks.set(name, { box, row });
        labels.append(row);
      }
      checks.get(name).box.checked = correction.labels.includes(name);
    }
    return names;
  }

  function show() {
    start.hidden = correction.started;
    work.hidden = !correction.started;
    const shown = deps.shownDetections().length;
    setText(fromShown, `Start from the ${shown} ${shown === 1 ? "detection" : "detections"} shown`);
    fromShown.disabled = shown === 0;
    if (!correction.started) return;
    undo.disabled = !correction.canUndo;
    redo.disabled = !correction.canRedo;
    save.disabled = saving || (!correction.dirty && correction.isSaved);
    setText(save, saving ? "Saving …" : "Save");
    setText(status, correction.dirty ? "Not saved yet" : "Saved");
    status.classList.toggle("dirty", correction.dirty);
    const names = showLabels();
    const one = deps.selected();
    form.none.hidden = Boolean(one);
    form.fields.hidden = !one;
    if (!one) return;
    form.label.replaceChildren(...names.map((name) => el("option", { value: name, selected: name === one.label }, name)), el("option", { value: OTHER }, "New label …"));
    form.label.value = one.label;
    form.own.hidden = true;
    form.own.value = "";
    for (const [name, edge] of [["start", form.from], ["end", form.to]]) if (document.activeElement !== edge.input) edge.input.value = clock(one[name], 2);
  }

  return { node, show, add: addHere, remove: removeSelected, undo: back, redo: forth, save: store, toPlayhead };
}
