// The playhead: a slider over the length of the video.
import { el } from "./dom.js";
import { clock } from "./format.js";

const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };

export function createPlayhead(scale, player) {
  const knob = el("div", { class: "playhead-knob", role: "slider", tabindex: "0", "aria-label": "Position in the video", "aria-valuemin": "0", "aria-valuemax": scale.duration.toFixed(2) });
  const node = el("div", { class: "playhead" }, knob);
  let told = -1;

  knob.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in STEPS) player.seek(player.position + STEPS[event.key] * (event.shiftKey ? 5 : 1));
    else if (event.key === "Home") player.seek(0);
    else if (event.key === "End") player.seek(scale.duration);
    else return;
    event.preventDefault();
    scale.reveal(player.position);
  });

  return {
    node,
    draw(playing = false) {
      const t = player.position;
      const x = scale.x(t);
      node.hidden = x < -1 || x > scale.width + 1;
      node.style.transform = `translateX(${x.toFixed(2)}px)`;
      if (playing && Math.abs(t - told) < 1) return; // a screen reader need not hear every frame
      told = t;
      knob.setAttribute("aria-valuenow", t.toFixed(2));
      knob.setAttribute("aria-valuetext", `${clock(t)} of ${clock(scale.duration)}`);
    },
  };
}
