// The HTTP API of the server that this page came from.

const BASE = new URL("api/v1/", document.baseURI);

/** What went wrong, in words. `status` is 0 where there was no answer at all. */
export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const AWAY = "The server does not answer.";

export const url = (path) => new URL(path, BASE).href;

async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(url(path), { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    document.dispatchEvent(new CustomEvent("server-away"));
    throw new ApiError(AWAY, 0);
  }
  if (!answer.ok) throw new ApiError(await reason(answer), answer.status);
  return answer;
}

async function reason(answer) {
  try {
    const { detail } = await answer.json();
    if (typeof detail === "string" && detail) return detail;
  } catch {
    // Not the API's own answer, as from a proxy.
  }
  return `The server answered ${answer.status} ${answer.statusText}`.trim() + ".";
}

const json = async (path, options) => (await request(path, options)).json();
const sent = (method, value) => ({ method, headers: { "content-type": "application/json" }, body: JSON.stringify(value) });

/** A file's name without the signs that turn text around, which could make "exe.mp4" of another ending. */
const named = (one) => ({ ...one, name: one.name.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "") });

export const model = () => json("model");
export const folder = async () => (await json("videos")).videos.map(named);
export const jobs = async () => (await json("jobs?limit=300")).jobs.map(named);
export const job = async (id) => named(await json(`jobs/${id}`));
export const result = (id, signal) => json(`jobs/${id}/result`, { signal });
export const explanation = (id, number) => json(`jobs/${id}/explanations/${number}`);
export const fromFolder = (video) => json("jobs/from-folder", sent("POST", { video }));
export const cancel = (id) => json(`jobs/${id}/cancel`, { method: "POST" });
export const remove = (id) => request(`jobs/${id}`, { method: "DELETE" });
export const saveCorrection = (id, value) => json(`jobs/${id}/correction`, sent("PUT", value));
export const dropCorrection = (id) => request(`jobs/${id}/correction`, { method: "DELETE" });
export const mediaUrl = (id) => url(`jobs/${id}/media`);

/** A download: its bytes and the name that the server gives it. */
export async function exported(id, format, query) {
  const answer = await request(`jobs/${id}/export/${format}?${new URLSearchParams(query)}`);
  const given = answer.headers.get("content-disposition") ?? "";
  const name = /filename\*=UTF-8''([^;]+)/i.exec(given)?.[1];
  const plain = /filename="([^"]*)"/i.exec(given)?.[1];
  return { name: name ? decodeURIComponent(name) : (plain ?? `detections.${format}`), data: await answer.blob() };
}

/** Upload a file; `onProgress` is told the share that was sent. Returns {done: Promise of the job, abort}. */
export function upload(file, onProgress) {
  const call = new XMLHttpRequest(); // fetch does not tell how much was sent
  const done = new Promise((resolve, reject) => {
    call.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    call.onload = () => {
      let answer = {};
      try {
        answer = JSON.parse(call.responseText);
      } catch {
        // As in reason().
      }
      if (call.status === 202) resolve(answer);
      else reject(new ApiError(answer.detail ?? `The server answered ${call.status}.`, call.status));
    };
    call.onerror = () => reject(new ApiError("The upload broke off: the server does not answer, or refused it.", 0));
    call.onabort = () => reject(new DOMException("cancelled", "AbortError"));
  });
  const form = new FormData();
  form.append("file", file, file.name);
  call.open("POST", url("jobs"));
  call.send(form);
  return { done, abort: () => call.abort() };
}
