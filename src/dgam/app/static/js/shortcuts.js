// Keys that work anywhere on the page, and the list that the dialog shows. docs/webpage.md has the same table.

export const SHORTCUTS = [
  ["Playing", [
    [["Space", "K"], "play or pause"],
    [["←", "→"], "back or forward 1 s"],
    [["Shift", "←", "→"], "back or forward 5 s"],
    [[",", "."], "back or forward one frame (0.04 s)"],
    [["P", "N"], "previous or next segment"],
    [["M"], "sound on or off"],
  ]],
  ["Timeline", [
    [["Tab"], "into the timeline: position, then segments"],
    [["←", "→", "↑", "↓"], "on a segment: to its neighbours"],
    [["Enter"], "on a segment: play it"],
    [["W"], "why this detection?"],
    [["+", "−", "0"], "zoom in, out, all of the video"],
  ]],
  ["Correcting", [
    [["E"], "correct, or back to detections"],
    [["A"], "add a segment at the playhead"],
    [["[", "]"], "start or end of the segment at the playhead"],
    [["←", "→"], "on an edge: move it 0.1 s, with Shift 1 s"],
    [["Delete"], "delete the segment"],
    [["Ctrl", "Z"], "undo; with Shift redo"],
    [["Ctrl", "S"], "save"],
  ]],
  ["Page", [
    [["U"], "choose files to add"],
    [["T"], "light, dark, or as the system"],
    [["?"], "this list"],
    [["Esc"], "close what is open"],
  ]],
];

const TYPED = new Set(["text", "search", "number", "email", "password", "url", "tel"]);

/** Whether a key pressed there belongs to a field and not to the page. */
function isTyping(target, key) {
  if (target.tagName === "TEXTAREA" || target.isContentEditable) return true;
  if (target.tagName === "SELECT") return true;
  if (target.tagName === "INPUT") return TYPED.has(target.type) || key === " " || key.startsWith("Arrow");
  return key === " " && ["BUTTON", "SUMMARY", "A"].includes(target.tagName);
}

/** `actions`: name of a key ("Shift+ArrowLeft", "w", "Control+s") to a function; false from it leaves the key
 * to the browser. `single()` says whether keys without Control count. */
export function listen(actions, single) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
    const control = event.ctrlKey || event.metaKey;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (isTyping(event.target, event.key) && !(control && key === "s")) return;
    const arrow = key.startsWith("Arrow");
    const name = `${control ? "Control+" : ""}${event.shiftKey && (control || arrow) ? "Shift+" : ""}${key}`;
    const action = actions[name];
    if (!action || (!control && key !== "Escape" && !single())) return;
    if (action(event) !== false) event.preventDefault();
  });
}
