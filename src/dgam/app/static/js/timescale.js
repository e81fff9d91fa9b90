// Which stretch of the video the timeline shows, and where in it a second lies.

const SHORTEST = 1; // seconds that zooming in stops at
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

export function createScale(duration) {
  let [from, to, width] = [0, duration, 1];
  const listeners = new Set();

  function show(start, end) {
    const span = Math.min(duration, Math.max(Math.min(SHORTEST, duration), end - start));
    const first = Math.max(0, Math.min(start, duration - span));
    if (first === from && first + span === to) return;
    [from, to] = [first, first + span];
    listeners.forEach((listener) => listener());
  }

  return {
    duration,
    get from() { return from; },
    get to() { return to; },
    get span() { return to - from; },
    get width() { return width; },
    get isWhole() { return to - from >= duration - 1e-9; },
    setWidth(pixels) { width = Math.max(1, pixels); },
    /** Pixels from the track's left edge. */
    x: (t) => ((t - from) / (to - from)) * width,
    /** Seconds at a pixel, inside the video. */
    t: (x) => Math.min(duration, Math.max(0, from + (x / width) * (to - from))),
    show,
    /** Zoom by a factor (above 1: closer) so that second `around` stays where it is. */
    zoom(factor, around) {
      const span = Math.min(duration, Math.max(Math.min(SHORTEST, duration), (to - from) / factor));
      const share = (around - from) / (to - from);
      show(around - share * span, around + (1 - share) * span);
    },
    pan: (by) => show(from + by, to + by),
    whole: () => show(0, duration),
    /** Bring a second into sight, with some room around it. */
    reveal(t, margin = 0.08) {
      const room = margin * (to - from);
      if (t < from + (from > 0 ? room : 0)) show(t - 0.2 * (to - from), t + 0.8 * (to - from));
      else if (t > to - (to < duration ? room : 0)) show(t - 0.2 * (to - from), t + 0.8 * (to - from));
    },
    onChange: (listener) => listeners.add(listener),
  };
}

/** Seconds for the ruler's labels, at least `room` pixels apart: {step, times}. */
export function ticks(scale, room) {
  const least = (room / scale.width) * scale.span;
  const step = STEPS.find((one) => one >= least) ?? STEPS.at(-1) * Math.ceil(least / STEPS.at(-1));
  const times = [];
  for (let i = Math.ceil(scale.from / step - 1e-9); i * step <= scale.to + 1e-9; i += 1) times.push(i * step);
  return { step, times };
}
