// The address after #: which video, and where in it, so that both can be linked to.

/** {job, t} of the address; null where it has none. */
export function current() {
  const params = new URLSearchParams(location.hash.slice(1));
  const job = params.get("job");
  const t = Number.parseFloat(params.get("t") ?? "");
  return { job: job && /^[\w-]{1,64}$/.test(job) ? job : null, t: Number.isFinite(t) && t >= 0 ? t : null };
}

export const linkTo = (job, t = null) => `#job=${job}${t === null ? "" : `&t=${Number(t.toFixed(2))}`}`;

/** Keep the time in the address without adding to the history. */
export function keepTime(job, t) {
  const hash = linkTo(job, t);
  if (location.hash !== hash) history.replaceState(null, "", hash);
}
