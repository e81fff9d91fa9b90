// Icons as paths, drawn in the colour of the text around them. They are decoration: names are in words.
import { svg } from "./dom.js";

const PATHS = {
  play: ["M7 4.5v15l12-7.5z", true],
  pause: ["M6.5 4.5h4v15h-4zM13.5 4.5h4v15h-4z", true],
  previous: ["M6 5v14M19 5.5v13L9.5 12z"],
  next: ["M18 5v14M5 5.5v13l9.5-6.5z"],
  sound: ["M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM15.5 9a4.2 4.2 0 0 1 0 6M18 6.5a8 8 0 0 1 0 11"],
  muted: ["M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM16 9.5l5 5M21 9.5l-5 5"],
  full: ["M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5"],
  plus: ["M12 5v14M5 12h14"],
  minus: ["M5 12h14"],
  fit: ["M3 12h18M7 8l-4 4 4 4M17 8l4 4-4 4"],
  trash: ["M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7M10.3 10.5v5.5M13.7 10.5v5.5"],
  close: ["M6 6l12 12M18 6L6 18"],
  undo: ["M8 5L4 9l4 4M4.5 9H14a5 5 0 0 1 0 10H9"],
  redo: ["M16 5l4 4-4 4M19.5 9H10a5 5 0 0 0 0 10h5"],
  download: ["M12 4v11M7.5 11l4.5 4.5 4.5-4.5M5 19.5h14"],
  sun: ["M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4"],
  moon: ["M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10z"],
  system: ["M12 3.5a8.5 8.5 0 1 0 0 17zM12 3.5a8.5 8.5 0 0 1 0 17"],
  queued: ["M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4.5l3 2"],
  running: ["M5 12h.01M12 12h.01M19 12h.01"],
  done: ["M5 12.5l4.5 4.5L19 7.5"],
  failed: ["M12 4l9 16H3zM12 10v4.5M12 17.3v.1"],
  cancelled: ["M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM6.5 6.5l11 11"],
};

export function icon(name) {
  const [path, solid] = PATHS[name];
  return svg("svg", { class: solid ? "icon solid" : "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, svg("path", { d: path }));
}
