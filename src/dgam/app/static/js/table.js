// The table of segments: sortable; a click plays the segment.
import { el, setText } from "./dom.js";
import { clock, plural, score } from "./format.js";
import { icon } from "./icons.js";

const COLUMNS = [
  ["label", "Action", (a, b) => a.label.localeCompare(b.label)],
  ["start", "Start", (a, b) => a.start - b.start],
  ["end", "End", (a, b) => a.end - b.end],
  ["length", "Length", (a, b) => a.end - a.start - (b.end - b.start)],
  ["score", "Score", (a, b) => a.score - b.score],
];
const PAGE = 100;

/** `actions`: {play, why, remove}. Returns {node, show(segments, editable, selected), setTime}. */
export function createTable(colour, actions) {
  const title = el("h2", { id: "table-title" }, "Segments");
  const count = el("span", { class: "count note" });
  const headRow = el("tr");
  const bodyRows = el("tbody");
  const more = el("button", { type: "button", class: "more", hidden: true, on: { click: () => { limit += PAGE; draw(); } } });
  const table = el("table", { class: "segments", "aria-labelledby": "table-title" }, el("thead", {}, headRow), bodyRows);
  const empty = el("p", { class: "note nothing", hidden: true });
  const box = el("div", { class: "table-scroll" }, table);
  const node = el("section", { class: "card table-card", "aria-labelledby": "table-title" },
    el("div", { class: "card-head" }, title, count), box, empty, more);
  let [segments, editable, selected, limit, time, revealed] = [[], false, null, PAGE, 0, null];
  const sort = { detections: { by: "score", down: true }, correction: { by: "start", down: false } };
  const rows = new Map();

  const mode = () => (editable ? "correction" : "detections");

  function drawHead() {
    const { by, down } = sort[mode()];
    headRow.replaceChildren(...COLUMNS.filter(([key]) => !editable || key !== "score").map(([key, name]) => {
      const button = el("button", { type: "button", class: "quiet", data: { sort: key } }, name, el("span", { class: "arrow", "aria-hidden": "true" }, key === by ? (down ? "↓" : "↑") : ""));
      button.addEventListener("click", () => {
        const order = sort[mode()];
        order.down = order.by === key ? !order.down : key === "score";
        order.by = key;
        draw();
        headRow.querySelector(`[data-sort="${key}"]`).focus();
      });
      return el("th", { scope: "col", class: `col-${key}`, "aria-sort": key === by ? (down ? "descending" : "ascending") : null }, button);
    }), el("th", { scope: "col", class: "col-act" }, el("span", { class: "sr" }, editable ? "Delete" : "Explanation")));
  }

  function makeRow(one) {
    const label = el("span", { dir: "auto" }, one.label);
    const play = el("button", { type: "button", class: "quiet play-row", tabindex: "-1", data: { row: one.key } }, el("span", { class: "swatch", "aria-hidden": "true" }), label);
    const cells = ["start", "end", "length"].map((key) => el("td", { class: `number col-${key}` }));
    const act = editable
      ? el("button", { type: "button", class: "quiet icon-button", tabindex: "-1", "aria-label": `Delete ${one.label} at ${clock(one.start)}` }, icon("trash"))
      : el("button", { type: "button", class: "quiet small", tabindex: "-1", "aria-label": `Why ${one.label} at ${clock(one.start)}?` }, "Why?");
    const row = el("tr", { data: { colour: colour(one.label), key: one.key } }, el("td", { class: "col-label" }, play), cells,
      editable ? null : el("td", { class: "number col-score" }, score(one.score)), el("td", { class: "col-act" }, act));
    act.addEventListener("click", (event) => {
      event.stopPropagation();
      if (editable) actions.remove(rows.get(one.key).one);
      else actions.why(rows.get(one.key).one);
    });
    row.addEventListener("click", () => actions.play(rows.get(one.key).one));
    return { row, one, cells, play, act, label };
  }

  function draw() {
    const hadFocus = node.contains(document.activeElement) ? document.activeElement : null;
    drawHead();
    const { by, down } = sort[mode()];
    const compare = COLUMNS.find(([key]) => key === by)[2];
    const ordered = segments.toSorted((a, b) => (down ? -1 : 1) * compare(a, b) || a.start - b.start);
    const visible = ordered.slice(0, limit);
    const keep = new Set(visible.map((one) => `${mode()} ${one.key} ${one.label}`));
    for (const [key, made] of rows) {
      if (keep.has(made.id)) continue;
      made.row.remove();
      rows.delete(key);
    }
    visible.forEach((one, index) => {
      if (!rows.has(one.key)) rows.set(one.key, Object.assign(makeRow(one), { id: `${mode()} ${one.key} ${one.label}` }));
      const made = rows.get(one.key);
      made.one = one;
      [clock(one.start), clock(one.end), `${(one.end - one.start).toFixed(1)} s`].forEach((text, i) => setText(made.cells[i], text));
      made.play.setAttribute("aria-label", `Play ${one.label}, ${clock(one.start)} to ${clock(one.end)}`);
      made.play.tabIndex = made.act.tabIndex = -1;
      made.row.classList.toggle("selected", one.key === selected?.key);
      if (bodyRows.children[index] !== made.row) bodyRows.insertBefore(made.row, bodyRows.children[index] ?? null);
    });
    const stop = rows.get(selected?.key) ?? rows.get(visible[0]?.key);
    if (stop) stop.play.tabIndex = stop.act.tabIndex = 0;
    setText(count, plural(segments.length, "segment"));
    table.hidden = segments.length === 0;
    empty.hidden = segments.length > 0;
    setText(empty, editable ? "Nothing marked yet." : "No detection passes the two sliders.");
    more.hidden = ordered.length <= limit;
    setText(more, `Show ${Math.min(PAGE, ordered.length - limit)} more`);
    if (hadFocus?.isConnected && document.activeElement !== hadFocus) hadFocus.focus({ preventScroll: true });
    mark();
    reveal();
  }

  /** Bring a newly selected row into sight, inside the table only: the page stays where it is. */
  function reveal() {
    const row = selected && rows.get(selected.key)?.row;
    if (!row || revealed === selected.key) return;
    revealed = selected.key;
    const hidden = row.offsetTop < box.scrollTop + headRow.offsetHeight || row.offsetTop + row.offsetHeight > box.scrollTop + box.clientHeight;
    if (hidden) box.scrollTop = row.offsetTop - box.clientHeight / 2;
  }

  function mark() {
    for (const { row, one } of rows.values()) row.classList.toggle("now", time >= one.start && time < one.end);
  }

  // One stop for the Tab key; arrows go from row to row.
  bodyRows.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const row = event.target.closest("tr");
    if (!row || event.ctrlKey || event.metaKey || (!step && event.key !== "Home" && event.key !== "End")) return;
    const all = [...bodyRows.children];
    const to = event.key === "Home" ? all[0] : event.key === "End" ? all.at(-1) : all[all.indexOf(row) + step];
    event.preventDefault();
    if (!to) return;
    const inAct = event.target.closest(".col-act") !== null;
    for (const button of row.querySelectorAll("button")) button.tabIndex = -1;
    for (const button of to.querySelectorAll("button")) button.tabIndex = 0;
    to.querySelector(inAct ? ".col-act button" : ".play-row").focus();
  });

  return {
    node,
    show(list, isEditable, chosen) {
      if (isEditable !== editable) limit = PAGE;
      [segments, editable, selected] = [list, isEditable, chosen];
      setText(title, editable ? "Your segments" : "Detections");
      draw();
    },
    setTime(t) {
      time = t;
      mark();
    },
    focus: (segment) => rows.get(segment.key)?.play.focus(),
  };
}
