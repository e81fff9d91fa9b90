// Starts the page: what is in the address decides what is shown.
import * as api from "./api.js";
import { follow } from "./connection.js";
import { confirm, showModel, showShortcuts, singleKeys } from "./dialogs.js";
import { announce, byId, el, recall, remember, setText, showProblem } from "./dom.js";
import { clock, percent } from "./format.js";
import { icon } from "./icons.js";
import { createJobList } from "./jobs.js";
import { createPalette } from "./palette.js";
import { createProgress } from "./progress.js";
import { showResult } from "./result.js";
import { current, keepTime, linkTo } from "./route.js";
import { listen } from "./shortcuts.js";
import { startFolder, startUploads } from "./upload.js";

const THEMES = [["system", "As the system", "system"], ["light", "Light", "sun"], ["dark", "Dark", "moon"]];

let model = null;
let jobs = [];
let shown = null; // id of the job on the page
let view = null; // its result, once there
let started = false; // whether an address was shown yet
let deleting = null; // id of a job that is on its way out
let loading = null; // AbortController of the result on its way
const list = createJobList(askDelete);
const progress = createProgress();
const connection = follow((found) => {
  jobs = found;
  showJobs();
});

function showJobs() {
  list.show(jobs, shown);
  const job = jobs.find((one) => one.id === shown);
  if (shown && job) showJob(job);
  else if (shown && shown !== deleting) showMissing(shown);
  title(job);
}

function title(job) {
  const part = !job ? "" : job.state === "running" ? `${percent(job.progress)} ` : job.state === "queued" ? "waiting " : "";
  document.title = job ? `${part}${job.name} · dgam` : "dgam";
}

async function showMissing(id) {
  try {
    const job = await api.job(id); // older than the list goes back
    if (id === shown) showJob(job);
  } catch (error) {
    if (id !== shown || error.status === 0) return;
    leave();
    byId("welcome").hidden = true;
    byId("job").hidden = false;
    byId("result").hidden = true;
    setText(byId("job-name"), "No such video");
    setText(byId("job-facts"), "");
    byId("job-actions").replaceChildren();
    byId("progress").hidden = true;
    showProblem(byId("job-facts"), error.message);
  }
}

function showJob(job) {
  byId("job").hidden = false;
  setText(byId("job-name"), job.name);
  const working = job.state === "running" || job.state === "queued";
  if (byId("job-actions").dataset.state !== job.id + job.state) {
    byId("job-actions").dataset.state = job.id + job.state;
    byId("job-actions").replaceChildren(
      working ? el("button", { type: "button", on: { click: () => cancel(job) } }, "Cancel") : "",
      el("button", { type: "button", class: "quiet", on: { click: () => askDelete(job) } }, icon("trash"), "Delete"));
  }
  const done = job.state === "done";
  byId("progress").hidden = done;
  byId("result").hidden = !done;
  if (!done) {
    setText(byId("job-facts"), job.duration ? clock(job.duration, 0) : "");
    progress.show(job, jobs);
  } else if (!view && !loading) open(job);
}

async function open(job) {
  const own = (loading = new AbortController());
  setText(byId("job-facts"), "Loading …");
  try {
    model ??= await api.model();
    const result = await api.result(job.id, own.signal);
    if (own.signal.aborted) return;
    view = showResult(byId("result"), { job, result, model, startAt: current().t, onTime: (t) => job.id === shown && keepTime(job.id, t) });
    setText(byId("job-facts"), `${clock(result.duration, 1)} · ${result.detections.length} detections before filtering${job.message ? ` · ${job.message}` : ""}`);
    announce(`${job.name} is ready`);
  } catch (error) {
    if (own.signal.aborted) return;
    if (error instanceof api.ApiError) showProblem(byId("job-facts"), error.message);
    else throw error;
    if (error.status !== 0) return; // stays "loading": asking again would give the same
  }
  if (loading === own) loading = null;
}

function leave() {
  loading?.abort();
  view?.end();
  [view, loading] = [null, null];
}

async function cancel(job) {
  try {
    await api.cancel(job.id);
  } catch (error) {
    showProblem(byId("job-facts"), error.message);
  }
  connection.ask();
}

async function askDelete(job) {
  const working = job.state === "running" || job.state === "queued";
  const text = `${working ? "The work on it is stopped. " : ""}Its result, your correction and the uploaded copy of the video are removed from the server. This cannot be undone.`;
  if (!(await confirm(`Delete “${job.name}”?`, text, "Delete"))) return;
  deleting = job.id;
  try {
    await api.remove(job.id);
    jobs = jobs.filter((one) => one.id !== job.id);
    announce(`${job.name} deleted`);
    if (shown === job.id) {
      leave();
      location.hash = "";
    }
    list.show(jobs, shown);
    if (shown !== job.id) byId("jobs-title").scrollIntoView({ block: "nearest" });
  } catch (error) {
    deleting = null;
    showProblem(shown === job.id ? byId("job-facts") : byId("upload-errors"), `Not deleted. ${error.message}`);
  }
  connection.ask();
}

async function routed() {
  const { job, t } = current();
  if (job === shown && job) {
    if (t !== null && view && Math.abs(view.player.position - t) > 0.02) view.player.seek(t);
    return;
  }
  if (view?.dirty && !(await confirm("Leave without saving?", "Your correction of this video has changes that are not saved.", "Leave", { no: "Stay" }))) {
    history.replaceState(null, "", linkTo(shown));
    return;
  }
  leave();
  const [before, first] = [shown, !started];
  [shown, started] = [job, true];
  document.body.dataset.view = job ? "job" : "list";
  byId("welcome").hidden = Boolean(job);
  byId("job").hidden = !job;
  byId("result").hidden = byId("progress").hidden = true;
  setText(byId("job-facts"), "");
  scrollTo(0, 0);
  showJobs();
  if (job) connection.ask();
  if (first) return;
  // Focus goes with what is shown: to the video's name, and back to where it was in the list.
  const target = job ? byId("job-name") : document.querySelector(`a[href="${linkTo(before ?? "")}"]`);
  target?.focus({ preventScroll: true });
}

function submitted(job, openIt) {
  jobs = [job, ...jobs.filter((one) => one.id !== job.id)];
  if (openIt && !view?.dirty) location.hash = linkTo(job.id);
  list.show(jobs, shown);
  connection.ask();
}

function cycleTheme() {
  const now = THEMES.findIndex(([name]) => name === (recall("theme") ?? "system"));
  const [name, words] = THEMES[(now + 1) % THEMES.length];
  remember("theme", name === "system" ? null : name);
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  showTheme();
  announce(`Colours: ${words}`);
}

function showTheme() {
  const [, words, sign] = THEMES.find(([name]) => name === (recall("theme") ?? "system")) ?? THEMES[0];
  byId("theme-button").replaceChildren(icon(sign), el("span", { class: "wide-only" }, words));
  byId("theme-button").setAttribute("aria-label", `Colours: ${words}. Change`);
}

function showWelcome() {
  byId("about-button").replaceChildren(el("span", {}, model.name));
  byId("about-button").setAttribute("aria-label", `About the model ${model.name}`);
  byId("about-button").hidden = false;
  const colour = createPalette([...model.classes]);
  setText(byId("welcome-text"), `Add a video, and the model ${model.name} marks when each of its ${model.classes.length} actions happens.`);
  byId("welcome-classes").replaceChildren(el("ul", { class: "plain chips", "aria-label": "Actions" }, model.classes.slice(0, 60).map((name) =>
    el("li", { class: "chip", data: { colour: colour(name) } }, el("span", { class: "swatch", "aria-hidden": "true" }), el("span", { dir: "auto" }, name))),
  model.classes.length > 60 ? el("li", { class: "note" }, `and ${model.classes.length - 60} more`) : null));
}

async function start() {
  showTheme();
  byId("theme-button").addEventListener("click", cycleTheme);
  byId("shortcuts-button").addEventListener("click", showShortcuts);
  byId("about-button").addEventListener("click", () => showModel(model));
  for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  const everywhere = { "?": showShortcuts, t: cycleTheme, u: () => byId("file").click() };
  listen(new Proxy(everywhere, { get: (own, name) => own[name] ?? view?.keys[name] }), singleKeys);
  addEventListener("hashchange", routed);
  addEventListener("beforeunload", (event) => view?.dirty && event.preventDefault());
  await routed();
  connection.ask();
  for (let wait = 1000; !model; wait = Math.min(5000, 2 * wait)) {
    try {
      model = await api.model();
    } catch (error) {
      if (error.status !== 0 && error.status < 500) return showProblem(byId("upload-errors"), error.message);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
  showWelcome();
  startUploads(model.limits, submitted);
  await startFolder(submitted);
  return undefined;
}

start();
