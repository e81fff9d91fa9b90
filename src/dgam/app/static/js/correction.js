// What a person says of the video, with undo. Knows nothing of the page.

export const SHORTEST = 0.05; // seconds; a segment has some length
const MERGE = 900; // ms within which nudges of one edge are one step back
export const DRAG = "drag "; // begins the merge key of a drag, which is one step however long it takes

const copy = (value) => ({ labels: [...value.labels], segments: value.segments.map((one) => ({ ...one })) });
const plain = (value) => ({ labels: [...value.labels].sort(), segments: value.segments.map(({ start, end, label }) => ({ start, end, label })).sort((a, b) => a.start - b.start || a.end - b.end || (a.label < b.label ? -1 : 1)) });
const round = (t) => Math.round(t * 1000) / 1000;

/** `saved`: the correction on the server, or null. `onChange()` after every change. */
export function createCorrection(saved, duration, onChange) {
  let number = 0;
  const withKeys = (value) => ({ labels: [...value.labels], segments: value.segments.map((one) => ({ ...one, key: `c${number++}` })) });
  let now = saved ? withKeys(saved) : null;
  let kept = now ? JSON.stringify(plain(now)) : null;
  let [past, future] = [[], []];
  let last = { key: "", at: 0 };

  function change(edit, mergeKey = "") {
    const time = performance.now();
    const merges = mergeKey && mergeKey === last.key && (mergeKey.startsWith(DRAG) || time - last.at < MERGE);
    const before = copy(now);
    edit(now);
    if (JSON.stringify(before) === JSON.stringify(now)) return;
    last = { key: mergeKey, at: time };
    if (!merges) past.push(before);
    future = [];
    onChange();
  }

  const own = (key) => now.segments.find((one) => one.key === key);

  function limited(segment, { start = segment.start, end = segment.end }) {
    if (start !== segment.start && end !== segment.end) {
      const length = segment.end - segment.start; // moved as a whole
      const first = Math.max(0, Math.min(start, duration - length));
      return { start: round(first), end: round(first + length) };
    }
    if (start !== segment.start) return { start: round(Math.max(0, Math.min(start, segment.end - SHORTEST))), end: segment.end };
    return { start: segment.start, end: round(Math.min(duration, Math.max(end, segment.start + SHORTEST))) };
  }

  return {
    get started() { return now !== null; },
    get segments() { return now ? now.segments.toSorted((a, b) => a.start - b.start || a.end - b.end) : []; },
    get labels() { return now ? now.labels : []; },
    get dirty() { return now !== null && JSON.stringify(plain(now)) !== kept; },
    get isSaved() { return kept !== null; },
    get canUndo() { return past.length > 0; },
    get canRedo() { return future.length > 0; },
    value: () => plain(now),
    /** Begin with these segments (none for an empty start) and their labels. */
    begin(segments) {
      now = withKeys({ labels: [...new Set(segments.map((one) => one.label))], segments: segments.map(({ start, end, label }) => ({ start: round(start), end: round(end), label })) });
      [past, future] = [[], []];
      onChange();
    },
    add(start, end, label) {
      const key = `c${number++}`;
      change((value) => {
        value.segments.push({ start: round(Math.max(0, start)), end: round(Math.min(duration, end)), label, key });
        if (!value.labels.includes(label)) value.labels.push(label);
      });
      return key;
    },
    /** Set times; kept inside the video, and at least SHORTEST long. Steps with one `mergeKey` undo together. */
    move(key, times, mergeKey = "") {
      change(() => Object.assign(own(key), limited(own(key), times)), mergeKey);
    },
    relabel(key, label) {
      change((value) => {
        own(key).label = label;
        if (!value.labels.includes(label)) value.labels.push(label);
      });
    },
    remove: (key) => change((value) => (value.segments = value.segments.filter((one) => one.key !== key))),
    /** Whether the video has a label. Those of segments stay. */
    setLabel(label, on) {
      change((value) => (value.labels = on ? [...new Set([...value.labels, label])] : value.labels.filter((one) => one !== label)));
    },
    endMerge: () => (last = { key: "", at: 0 }),
    undo() {
      if (!past.length) return;
      future.push(copy(now));
      now = past.pop();
      last = { key: "", at: 0 };
      onChange();
    },
    redo() {
      if (!future.length) return;
      past.push(copy(now));
      now = future.pop();
      last = { key: "", at: 0 };
      onChange();
    },
    markSaved(value) {
      kept = JSON.stringify(plain(value));
      onChange();
    },
    forget() {
      [now, kept, past, future] = [null, null, [], []];
      onChange();
    },
  };
}
