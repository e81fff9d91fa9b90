// Questions, the list of shortcuts, the model's card.
import { byId, el, recall, remember } from "./dom.js";
import { markdown } from "./markdown.js";
import { SHORTCUTS } from "./shortcuts.js";

/** Ask before something is lost. Resolves to whether the person agreed. */
export function confirm(title, text, yes, { danger = true, no = "Keep" } = {}) {
  const dialog = byId("confirm");
  return new Promise((resolve) => {
    const choose = (value) => el("button", { type: "button", class: value ? `primary${danger ? " danger" : ""}` : "", on: { click: () => dialog.close(value ? "yes" : "") } }, value ? yes : no);
    const keep = choose(false);
    dialog.returnValue = "";
    dialog.replaceChildren(
      el("div", { class: "dialog-body" }, el("h2", { id: "confirm-title" }, title), el("p", { id: "confirm-text" }, text)),
      el("div", { class: "dialog-foot" }, keep, choose(true)),
    );
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
    keep.focus();
  });
}

function head(dialog, id, title) {
  return el("div", { class: "dialog-head" }, el("h2", { id }, title), el("span", { class: "spacer" }),
    el("button", { type: "button", on: { click: () => dialog.close() } }, "Close"));
}

export const singleKeys = () => recall("single-keys") !== "off";

export function showShortcuts() {
  const dialog = byId("shortcuts");
  if (dialog.open) return;
  const groups = SHORTCUTS.map(([title, rows]) =>
    el("section", {}, el("h3", {}, title),
      el("dl", { class: "keys" }, rows.map(([keys, what]) =>
        el("div", {}, el("dt", {}, keys.map((key, i) => [i ? " " : null, el("kbd", {}, key)]).flat()), el("dd", {}, what))))));
  const toggle = el("input", { type: "checkbox", checked: singleKeys(), on: { change: () => remember("single-keys", toggle.checked ? null : "off") } });
  dialog.replaceChildren(head(dialog, "shortcuts-title", "Keyboard shortcuts"),
    el("div", { class: "dialog-body shortcut-groups" }, groups),
    el("div", { class: "dialog-body" }, el("label", { class: "check" }, toggle, "Single-key shortcuts outside the timeline"),
      el("p", { class: "note" }, "Switch them off if you use speech input. Everything has a button as well.")));
  dialog.showModal();
}

export function showModel(model) {
  const dialog = byId("about");
  const facts = [["Actions", model.classes.join(", ")], ["Streams", model.streams.join(", ")], ["Encoder", model.encoder],
    ["Snippet", `${model.snippet_seconds} s`]];
  if (model.score_threshold !== null && model.score_threshold !== undefined) facts.push(["Suggested score", model.score_threshold.toFixed(2)]);
  dialog.replaceChildren(head(dialog, "about-title", model.name),
    el("div", { class: "dialog-body" },
      el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
      el("div", { class: "model-card" }, markdown(model.card ?? ""))));
  dialog.showModal();
}
