// Numbers in words. Times are seconds from the video's first frame.

const pad = (number, width = 2) => String(number).padStart(width, "0");

/** 62.34 → "1:02.3"; hours only where there are some. `digits` after the second. */
export function clock(seconds, digits = 1) {
  const scale = 10 ** digits;
  const all = Math.round(Math.max(0, seconds) * scale);
  const whole = Math.floor(all / scale);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const tail = digits ? `.${pad(all % scale, digits)}` : "";
  return h ? `${h}:${pad(m)}:${pad(s)}${tail}` : `${m}:${pad(s)}${tail}`;
}

/** For screen readers: "1 minute 2.3 seconds". */
export function spoken(seconds) {
  const rounded = Math.round(seconds * 10) / 10;
  const [minutes, rest] = [Math.floor(rounded / 60), Math.round((rounded % 60) * 10) / 10];
  const words = rest === 1 ? "1 second" : `${rest} seconds`;
  return minutes ? `${minutes} ${minutes === 1 ? "minute" : "minutes"} ${words}` : words;
}

export const score = (value) => value.toFixed(2).replace("-", "−");
export const percent = (share) => `${Math.round(100 * share)} %`;
export const seconds = (value) => `${value.toFixed(value < 10 ? 2 : 1)} s`;

export function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let index = 0;
  while (bytes >= 1024 && index < units.length - 1) [bytes, index] = [bytes / 1024, index + 1];
  return `${index && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${units[index]}`;
}

/** A duration to wait, roughly: people do not plan by the second. */
export function remaining(seconds) {
  if (seconds < 10) return "a few seconds left";
  if (seconds < 90) return `about ${Math.ceil(seconds / 10) * 10} seconds left`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} minutes left`;
  return `about ${(seconds / 3600).toFixed(1)} hours left`;
}

/** "12", "1:02.3" or "1:00:02" as seconds; null where it is none of these. */
export function parseClock(text) {
  const parts = text.trim().replace(",", ".").split(":");
  if (parts.length > 3 || !parts.every((part, i) => (i === parts.length - 1 ? /^\d+(\.\d*)?$/ : /^\d+$/).test(part))) return null;
  return parts.reduce((sum, part) => sum * 60 + Number(part), 0);
}

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;
