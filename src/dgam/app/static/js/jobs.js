// The list of videos with their states.
import { byId, el, setText } from "./dom.js";
import { clock, percent } from "./format.js";
import { icon } from "./icons.js";
import { linkTo } from "./route.js";

const STATES = { queued: "Waiting", running: "Working", done: "Done", failed: "Failed", cancelled: "Cancelled" };

/** How many jobs are before this one, itself included; jobs come newest first. */
export function queuePlace(jobs, job) {
  const before = jobs.filter((one) => one.state === "queued");
  return before.length - before.findIndex((one) => one.id === job.id);
}

export function stateText(job, jobs) {
  if (job.state === "queued") return `Waiting, number ${queuePlace(jobs, job)} in line`;
  if (job.state === "running") return `Working, ${percent(job.progress)}`;
  if (job.state === "done" && job.duration) return `Done · ${clock(job.duration, 0)}`;
  return STATES[job.state] ?? job.state;
}

/** `onDelete(job)` when a person asks for it. Returns {show(jobs, current)}. */
export function createJobList(onDelete) {
  const list = byId("jobs");
  const rows = new Map();

  function makeRow(job) {
    const name = el("span", { class: "file-name", dir: "auto", title: job.name }, job.name);
    const mark = el("span");
    const state = el("span");
    const line = el("span", { class: "job-state" }, mark, state);
    const link = el("a", { class: "job-link", href: linkTo(job.id) }, name, line);
    const fill = el("span");
    const bar = el("div", { class: "bar", "aria-hidden": "true", hidden: true }, fill);
    const trash = el("button", { type: "button", class: "quiet icon-button", "aria-label": `Delete ${job.name}`, on: { click: () => onDelete(row.job) } }, icon("trash"));
    const row = { job, node: el("li", { class: "job-item" }, link, trash, bar), link, mark, state, line, bar, fill, drawn: "" };
    return row;
  }

  function update(row, job, jobs, current) {
    row.job = job;
    setText(row.state, stateText(job, jobs));
    if (row.drawn !== job.state) {
      row.mark.replaceChildren(icon(job.state));
      row.line.className = `job-state ${job.state}`;
      row.drawn = job.state;
    }
    row.bar.hidden = job.state !== "running";
    row.fill.style.width = `${100 * job.progress}%`;
    row.node.classList.toggle("current", job.id === current);
    if (job.id === current) row.link.setAttribute("aria-current", "page");
    else row.link.removeAttribute("aria-current");
  }

  return {
    show(jobs, current) {
      for (const [id, row] of rows) {
        if (jobs.some((job) => job.id === id)) continue;
        row.node.remove();
        rows.delete(id);
      }
      jobs.forEach((job, index) => {
        if (!rows.has(job.id)) rows.set(job.id, makeRow(job));
        const row = rows.get(job.id);
        update(row, job, jobs, current);
        if (list.children[index] !== row.node) list.insertBefore(row.node, list.children[index] ?? null);
      });
      byId("no-jobs").hidden = jobs.length > 0;
      byId("corrections").hidden = !jobs.some((job) => job.state === "done");
    },
  };
}
