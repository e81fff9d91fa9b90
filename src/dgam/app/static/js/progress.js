// A job on its way: place in line, stage, percent, time left; or why it failed.
import { announce, byId, el, setText } from "./dom.js";
import { percent, remaining } from "./format.js";
import { queuePlace } from "./jobs.js";

const STAGES = [["extracting", "Extracting snippet features"], ["localising", "Localising actions"], ["preview", "Making a copy that plays in browsers"]];
const MEMORY = 30; // seconds of progress that the time left is estimated from

/** Seconds left by the pace of late; null while that cannot be known. */
export function createEstimate() {
  let seen = [];
  let stage = "";
  return (job, now) => {
    if (job.stage !== stage) [stage, seen] = [job.stage, []];
    const last = seen.at(-1);
    if (!last || job.progress > last.share) seen.push({ now, share: job.progress });
    seen = seen.filter((one) => now - one.now < MEMORY || one === seen.at(-1));
    const first = seen[0];
    const gained = seen.at(-1).share - first.share;
    const spent = seen.at(-1).now - first.now;
    if (seen.length < 3 || spent < 1.5 || gained <= 0) return null;
    return Math.max(0, ((1 - seen.at(-1).share) * spent) / gained - (now - seen.at(-1).now));
  };
}

/** Shows one job at a time. Returns {show(job, jobs)}. */
export function createProgress() {
  const place = byId("progress");
  const stage = el("h2", { class: "stage", id: "stage" });
  const fill = el("span");
  const bar = el("div", { class: "bar", role: "progressbar", "aria-labelledby": "stage", "aria-valuemin": "0", "aria-valuemax": "100" }, fill);
  const share = el("span", { class: "percent" });
  const left = el("span");
  const figures = el("p", { class: "figures" }, share, left);
  const steps = STAGES.map(([key, text]) => el("li", { data: { key } }, text));
  const list = el("ol", { class: "stages" }, steps);
  const message = el("p", { class: "problem" });
  const hint = el("p", { class: "note" });
  place.append(stage, bar, figures, list, message, hint);
  let estimate = createEstimate();
  let [shownJob, said, saidShare] = ["", "", -1];

  function say(text) {
    if (text === said) return;
    said = text;
    announce(text);
  }

  return {
    show(job, jobs) {
      if (job.id !== shownJob) [estimate, shownJob, said, saidShare] = [createEstimate(), job.id, "", -1];
      const running = job.state === "running";
      const waiting = job.state === "queued";
      bar.hidden = figures.hidden = list.hidden = !running && !waiting;
      message.hidden = !["failed", "cancelled"].includes(job.state);
      fill.style.width = `${100 * job.progress}%`;
      bar.setAttribute("aria-valuenow", String(Math.round(100 * job.progress)));
      setText(share, running ? percent(job.progress) : "");
      steps.forEach((step, index) => {
        const now = STAGES.findIndex(([key]) => key === job.stage);
        step.hidden = index === 2 && job.stage !== "preview"; // most videos need no copy
        step.classList.toggle("past", running && index < now);
        if (running && index === now) step.setAttribute("aria-current", "step");
        else step.removeAttribute("aria-current");
      });
      if (waiting) {
        const number = queuePlace(jobs, job);
        setText(stage, `Waiting: number ${number} in line`);
        setText(left, job.message || (number === 1 ? "It is next." : `${number - 1} before it.`));
        setText(hint, "You may close this page; the work goes on, and this address leads back here.");
        say(`Waiting, number ${number} in line`);
      } else if (running) {
        const words = STAGES.find(([key]) => key === job.stage)?.[1] ?? "Starting";
        setText(stage, words);
        const seconds = estimate(job, performance.now() / 1000);
        setText(left, seconds === null ? "estimating the time left" : remaining(seconds));
        setText(hint, "You may close this page; the work goes on, and this address leads back here.");
        const tenth = Math.floor(job.progress * 10);
        if (tenth !== saidShare) {
          saidShare = tenth;
          say(`${words}, ${percent(job.progress)}`);
        }
      } else if (job.state === "failed") {
        setText(stage, "This video could not be localised");
        setText(message, job.message || "The server gave no reason.");
        setText(hint, "Nothing else was touched. Delete it here, or add another file.");
        say(`Failed: ${job.message}`);
      } else {
        setText(stage, "Cancelled");
        setText(message, "The work on this video was stopped before it was done.");
        setText(hint, "Add the video again to start over.");
        say("Cancelled");
      }
    },
  };
}
