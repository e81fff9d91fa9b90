// Downloads in every format the server writes, of what the sliders show or of the correction.
import * as api from "./api.js";
import { announce, el, setText, showProblem } from "./dom.js";
import { plural } from "./format.js";
import { icon } from "./icons.js";

const FORMATS = {
  json: ["JSON", "ActivityNet’s form, for evaluation"],
  csv: ["CSV", "a table for spreadsheets"],
  vtt: ["WebVTT", "subtitles for web players"],
  srt: ["SRT", "subtitles for any player"],
  elan: ["ELAN", "annotation tiers (.eaf)"],
  labelstudio: ["Label Studio", "tasks to import"],
  fiftyone: ["FiftyOne", "a dataset to load"],
};

/** `state()`: {threshold, minSeconds, shown, correction: "none"|"saved"|"unsaved", segments}. */
export function createDownloads(job, formats, state) {
  const errors = el("div", { role: "alert" });
  const what = el("p", { class: "note" });
  const choice = (value, text) => el("label", {}, el("input", { type: "radio", name: "source", value, checked: value === "detections", on: { change: () => show() } }), text);
  const correctionChoice = choice("correction", "Correction");
  const source = el("div", { class: "seg", role: "radiogroup", "aria-label": "What to download" }, choice("detections", "Detections"), correctionChoice);
  const buttons = formats.map((format) => {
    const [name, hint] = FORMATS[format] ?? [format, ""];
    const button = el("button", { type: "button", class: "format", data: { format }, on: { click: () => fetchFile(format, button) } },
      icon("download"), el("span", { class: "format-name" }, name), el("span", { class: "note" }, hint));
    return el("li", {}, button);
  });
  const node = el("section", { class: "card downloads", "aria-labelledby": "downloads-title" },
    el("div", { class: "card-head" }, el("h2", { id: "downloads-title" }, "Download"), el("span", { class: "spacer" }), source),
    el("div", { class: "card-body" }, what, errors, el("ul", { class: "plain formats" }, buttons)));

  const chosen = () => node.querySelector("input:checked").value;

  function show() {
    const { shown, correction, segments } = state();
    const radio = correctionChoice.firstChild;
    radio.disabled = correction === "none";
    if (radio.disabled && radio.checked) node.querySelector("input[value=detections]").checked = true;
    correctionChoice.classList.toggle("off", radio.disabled);
    setText(what, chosen() === "detections" ? `${plural(shown, "detection")}: those that the sliders let through.`
      : correction === "unsaved" ? "The correction as it was saved last. Save it first to get your latest changes." : `${plural(segments, "segment")} of your saved correction.`);
  }

  async function fetchFile(format, button) {
    const { threshold, minSeconds } = state();
    const query = chosen() === "correction" ? { source: "correction" } : { threshold: String(threshold), min_seconds: String(minSeconds), source: "detections" };
    button.disabled = true;
    errors.replaceChildren();
    try {
      const { name, data } = await api.exported(job, format, query);
      const address = URL.createObjectURL(data);
      const link = el("a", { href: address, download: name });
      document.body.append(link);
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
      announce(`Downloaded ${name}`);
    } catch (error) {
      showProblem(errors, `${FORMATS[format]?.[0] ?? format}: ${error.message}`);
    } finally {
      button.disabled = false;
      button.focus({ preventScroll: true });
    }
  }

  return { node, show };
}
