// Curves over time as SVG paths, thinned to what the pixels can show.

/** A path of `values` at `times` (ascending); the range's end at the top, its start at `height`. Where several
 * samples share a pixel their least and greatest are drawn, so that no peak is lost. */
export function curvePath(times, values, scale, height, [low, high] = [0, 1]) {
  const first = Math.max(0, lowerBound(times, scale.from) - 1);
  const last = Math.min(times.length - 1, lowerBound(times, scale.to));
  const points = [];
  const y = (value) => (((high - value) / (high - low)) * (height - 2) + 1).toFixed(1);
  if (times.length && times[0] > scale.from) points.push(`${scale.x(Math.max(0, scale.from)).toFixed(1)} ${y(values[0])}`);
  for (let i = first; i <= last; ) {
    const pixel = Math.round(scale.x(times[i]));
    let [least, most, end] = [i, i, i];
    while (end + 1 <= last && Math.round(scale.x(times[end + 1])) === pixel) {
      end += 1;
      if (values[end] < values[least]) least = end;
      if (values[end] > values[most]) most = end;
    }
    for (const k of end === i ? [i] : [Math.min(least, most), Math.max(least, most)]) points.push(`${scale.x(times[k]).toFixed(1)} ${y(values[k])}`);
    i = end + 1;
  }
  if (times.length && times.at(-1) < scale.to) points.push(`${scale.x(scale.to).toFixed(1)} ${y(values.at(-1))}`);
  return points.length ? `M${points.join("L")}` : "";
}

/** The same, closed along the bottom, for filling. */
export const areaPath = (line, width, height) => (line ? `${line}L${width.toFixed(1)} ${height}L0 ${height}Z` : "");

/** The curve's value at a second, linear between samples. */
export function valueAt(times, values, t) {
  if (!times.length) return 0;
  const right = lowerBound(times, t);
  if (right === 0) return values[0];
  if (right === times.length) return values.at(-1);
  const share = (t - times[right - 1]) / (times[right] - times[right - 1]);
  return values[right - 1] + share * (values[right] - values[right - 1]);
}

/** The first index whose time is not before t. */
function lowerBound(times, t) {
  let [low, high] = [0, times.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < t) low = middle + 1;
    else high = middle;
  }
  return low;
}
