// Follows the list of jobs by asking again and again, and says so when the server is gone.
import * as api from "./api.js";
import { announce, byId } from "./dom.js";

const BUSY = 700; // ms between questions while something runs
const IDLE = 4000;
const RETRIES = [1000, 2000, 4000, 5000];

/** `onJobs(jobs)` after each answer. Returns {ask}: ask at once. */
export function follow(onJobs) {
  const banner = byId("banner");
  let timer = 0;
  let failures = 0;
  let round = 0;

  const later = (delay) => {
    clearTimeout(timer);
    timer = setTimeout(ask, delay);
  };

  async function ask() {
    const own = ++round;
    clearTimeout(timer);
    try {
      const jobs = await api.jobs();
      if (own !== round) return;
      if (failures) back();
      failures = 0;
      onJobs(jobs);
      const busy = jobs.some((job) => job.state === "running" || job.state === "queued");
      later(busy && !document.hidden ? BUSY : IDLE);
    } catch (error) {
      if (own !== round) return;
      gone(error);
      later(RETRIES[Math.min(failures++, RETRIES.length - 1)]);
    }
  }

  function gone(error) {
    const text = error.status === 0
      ? "The server does not answer. It may have been stopped; this page tries again by itself and keeps what you did here."
      : error.message;
    banner.className = "banner bad";
    if (banner.hidden || banner.textContent !== text) banner.textContent = text;
    banner.hidden = false;
  }

  function back() {
    banner.className = "banner good";
    banner.textContent = "The server is back.";
    announce("The server is back.");
    setTimeout(() => {
      if (!failures) banner.hidden = true;
    }, 2500);
  }

  document.addEventListener("server-away", () => failures || later(0));
  document.addEventListener("visibilitychange", () => document.hidden || later(0));
  addEventListener("online", () => later(0));
  return { ask };
}
