// The video with its buttons. Where the browser cannot play it, the position can still be moved.
import { el, recall, remember, setText } from "./dom.js";
import { clock, spoken } from "./format.js";
import { icon } from "./icons.js";

const RATES = [0.25, 0.5, 1, 1.5, 2, 4];

/** `onTime(t, playing)` whenever the position changes. */
export function createPlayer(source, duration, note, onTime) {
  const video = el("video", { preload: "auto", playsinline: true, tabindex: "-1", "aria-label": "Video" });
  const problem = el("p", { class: "player-problem", hidden: true });
  const button = (name, label, action) => el("button", { type: "button", class: "icon-button quiet", "aria-label": label, title: label, on: { click: action } }, icon(name));
  const play = button("play", "Play", () => toggle());
  const sound = button("sound", "Mute", () => mute());
  const wide = button("full", "Full screen", () => (document.fullscreenElement ? document.exitFullscreen() : frame.requestFullscreen?.()));
  const previous = button("previous", "Previous segment", () => api.onPrevious());
  const next = button("next", "Next segment", () => api.onNext());
  const now = el("span", { class: "now" }, clock(0));
  const rate = el("select", { "aria-label": "Speed", class: "rate", on: { change: () => setRate(Number(rate.value)) } },
    RATES.map((value) => el("option", { value: String(value) }, `${value}×`)));
  const frame = el("div", { class: "video-frame" }, video, problem);
  const bar = el("div", { class: "transport", role: "group", "aria-label": "Playback" },
    previous, play, next, el("span", { class: "time" }, now, el("span", { class: "of" }, ` / ${clock(duration)}`)),
    el("span", { class: "spacer" }), rate, sound, wide);
  const node = el("section", { class: "player card", "aria-label": "Player" }, frame, bar);

  let [position, stopAt, broken, frameRequest] = [0, null, false, 0];

  function tell() {
    if (!broken && video.readyState > 0 && !video.seeking) position = Math.min(video.currentTime, duration);
    if (stopAt !== null && position >= stopAt) {
      video.pause();
      position = stopAt;
      video.currentTime = stopAt;
      stopAt = null;
    }
    setText(now, clock(position));
    onTime(position, !video.paused);
  }

  function run() {
    tell();
    cancelAnimationFrame(frameRequest);
    if (!video.paused) frameRequest = requestAnimationFrame(run);
  }

  function seek(t, keepStop = false) {
    position = Math.max(0, Math.min(duration, t));
    if (!keepStop) stopAt = null;
    if (!broken) video.currentTime = position;
    setText(now, clock(position));
    onTime(position, !video.paused);
  }

  async function start() {
    if (broken) return;
    if (position >= duration - 0.05) seek(0);
    try {
      await video.play();
    } catch (error) {
      if (error.name === "NotSupportedError") fail();
    }
  }

  function toggle() {
    stopAt = null;
    if (video.paused) start();
    else video.pause();
  }

  function mute() {
    video.muted = !video.muted;
  }

  function setRate(value) {
    video.playbackRate = value;
    rate.value = String(value);
    remember("rate", value === 1 ? null : String(value));
  }

  function fail() {
    if (broken) return;
    broken = true;
    video.hidden = true;
    problem.hidden = false;
    play.disabled = true;
    setText(problem, note || "This browser cannot play the video. The timeline below works all the same; another browser may play it.");
  }

  video.addEventListener("play", () => {
    play.replaceChildren(icon("pause"));
    play.setAttribute("aria-label", "Pause");
    play.title = "Pause";
    run();
  });
  video.addEventListener("pause", () => {
    play.replaceChildren(icon("play"));
    play.setAttribute("aria-label", "Play");
    play.title = "Play";
    tell();
  });
  video.addEventListener("seeked", tell);
  video.addEventListener("ended", tell);
  video.addEventListener("loadedmetadata", () => {
    video.currentTime = position;
    if (video.videoWidth === 0) fail();
    node.classList.toggle("upright", video.videoHeight > video.videoWidth);
    sound.hidden = video.mozHasAudio === false || video.webkitAudioDecodedByteCount === 0;
  });
  video.addEventListener("loadeddata", () => {
    if (video.webkitAudioDecodedByteCount > 0) sound.hidden = false;
  });
  video.addEventListener("volumechange", () => {
    sound.replaceChildren(icon(video.muted ? "muted" : "sound"));
    sound.setAttribute("aria-label", video.muted ? "Sound on" : "Mute");
  });
  video.addEventListener("error", fail);
  video.addEventListener("click", toggle);
  video.src = source;
  setRate(RATES.includes(Number(recall("rate"))) ? Number(recall("rate")) : 1);

  const api = {
    node,
    get position() { return position; },
    get playing() { return !video.paused; },
    seek,
    toggle,
    mute,
    /** Play from one second to another and stop there. */
    playRange(from, to) {
      seek(from);
      stopAt = to;
      start();
    },
    spoken: () => `${spoken(position)} of ${spoken(duration)}`,
    onPrevious: () => {},
    onNext: () => {},
    stop() {
      cancelAnimationFrame(frameRequest);
      video.pause();
      video.removeAttribute("src");
      video.load(); // lets go of the connection
    },
  };
  return api;
}
