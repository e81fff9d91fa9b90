// Segments laid out in lanes: one lane for a class, rows in it where segments overlap.

/** Give each segment a row so that none in a row overlap, the best first on top. Segments: {start, end}, best
 * first. Returns {rows: number of rows, placed: [[segment, row]], hidden: those that found no row}. */
export function pack(segments, most) {
  const rows = [];
  const placed = [];
  const hidden = [];
  for (const segment of segments) {
    let row = rows.findIndex((taken) => taken.every((one) => segment.start >= one.end - 1e-9 || segment.end <= one.start + 1e-9));
    if (row < 0 && rows.length < most) row = rows.push([]) - 1;
    if (row < 0) hidden.push(segment);
    else {
      rows[row].push(segment);
      placed.push([segment, row]);
    }
  }
  return { rows: rows.length, placed, hidden };
}

/** Segments by label, in the order of `order`, each in the order given. */
export function byLabel(segments, order) {
  const lanes = new Map(order.map((label) => [label, []]));
  for (const segment of segments) {
    if (!lanes.has(segment.label)) lanes.set(segment.label, []);
    lanes.get(segment.label).push(segment);
  }
  return lanes;
}

/** The neighbour of a segment for the arrow keys: previous or next in time in its lane, or the nearest in the
 * lane above or below. `lanes`: arrays of segments, as drawn. Null where there is none. */
export function neighbour(lanes, segment, key) {
  const lane = lanes.findIndex((own) => own.includes(segment));
  if (lane < 0) return null;
  const inTime = lanes[lane].toSorted((a, b) => a.start - b.start || a.end - b.end);
  const at = inTime.indexOf(segment);
  if (key === "ArrowLeft") return inTime[at - 1] ?? null;
  if (key === "ArrowRight") return inTime[at + 1] ?? null;
  if (key === "Home") return inTime[0];
  if (key === "End") return inTime.at(-1);
  const step = key === "ArrowUp" ? -1 : 1;
  for (let i = lane + step; i >= 0 && i < lanes.length; i += step) {
    if (!lanes[i].length) continue;
    const distance = (one) => Math.abs(one.start + one.end - segment.start - segment.end);
    return lanes[i].reduce((best, one) => (distance(one) < distance(best) ? one : best));
  }
  return null;
}
