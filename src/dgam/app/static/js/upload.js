// Adding videos: dropped, chosen, or from the server's folder.
import * as api from "./api.js";
import { announce, byId, el, setText, showProblem } from "./dom.js";
import { icon } from "./icons.js";
import { percent, plural, size } from "./format.js";

const SEARCH_FROM = 8;

/** `onJob(job, open)` is told of each new job; `open` says whether to show it. */
export function startUploads(limits, onJob) {
  const [input, drop, veil, errors] = ["file", "drop", "drop-veil", "upload-errors"].map(byId);
  input.accept = limits.suffixes.join(",");
  setText(byId("limits"), `Up to ${size(limits.max_bytes)} each`);

  const refused = (file) => {
    const known = limits.suffixes.some((suffix) => file.name.toLowerCase().endsWith(suffix));
    if (!known) return `${file.name}: not a video this server takes. It takes ${limits.suffixes.join(", ")}.`;
    if (file.size > limits.max_bytes) return `${file.name}: ${size(file.size)}, but the most is ${size(limits.max_bytes)}.`;
    if (file.size === 0) return `${file.name}: the file is empty.`;
    return null;
  };

  async function add(files) {
    errors.replaceChildren();
    const problems = files.map(refused).filter(Boolean);
    if (problems.length) showProblem(errors, problems.join(" "));
    const good = files.filter((file) => !refused(file));
    for (const file of good) await send(file, good.length === 1);
  }

  async function send(file, open) {
    const share = el("span", {}, "0 %");
    const fill = el("span");
    const stop = el("button", { type: "button", class: "quiet icon-button", "aria-label": `Cancel the upload of ${file.name}` }, icon("close"));
    const row = el("li", { class: "job-item" },
      el("div", { class: "job-link" }, el("span", { class: "file-name", dir: "auto" }, file.name), el("span", { class: "job-state" }, "Uploading ", share)),
      stop, el("div", { class: "bar", "aria-hidden": "true" }, fill));
    byId("uploads").append(row);
    announce(`Uploading ${file.name}`);
    const { done, abort } = api.upload(file, (sent) => {
      setText(share, sent < 1 ? percent(sent) : "· checking the file");
      fill.style.width = `${100 * sent}%`;
    });
    stop.addEventListener("click", abort);
    try {
      onJob(await done, open);
    } catch (error) {
      if (error.name !== "AbortError") showProblem(errors, `${file.name}: ${error.message}`);
    } finally {
      row.remove();
    }
  }

  input.addEventListener("change", () => {
    add([...input.files]);
    input.value = "";
  });

  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0;
  const veiled = (by) => {
    depth = Math.max(0, depth + by);
    veil.hidden = depth === 0;
    drop.classList.toggle("over", depth > 0);
  };
  addEventListener("dragenter", (event) => carriesFiles(event) && veiled(1));
  addEventListener("dragleave", (event) => carriesFiles(event) && veiled(-1));
  addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    veiled(-depth);
    add([...event.dataTransfer.files]);
  });
}

/** The folder given with --videos, if there is one. */
export async function startFolder(onJob) {
  const [place, list, search] = ["folder", "folder-list", "folder-search"].map(byId);
  let videos = [];

  async function choose(video, button) {
    button.disabled = true;
    try {
      onJob(await api.fromFolder(video.id), true);
    } catch (error) {
      showProblem(byId("folder-error"), `${video.name}: ${error.message}`);
    } finally {
      button.disabled = false;
    }
  }

  function draw() {
    const wanted = search.value.trim().toLowerCase();
    const shown = videos.filter((video) => video.name.toLowerCase().includes(wanted));
    list.replaceChildren(...shown.slice(0, 200).map((video) => {
      const button = el("button", { type: "button", title: video.name, on: { click: () => choose(video, button) } },
        el("span", { class: "file-name", dir: "auto" }, video.name), el("span", { class: "note" }, size(video.size)));
      return el("li", {}, button);
    }));
    if (!shown.length) list.append(el("li", { class: "note" }, "No video of that name."));
    if (shown.length > 200) list.append(el("li", { class: "note" }, `and ${shown.length - 200} more: search by name`));
  }

  search.addEventListener("input", draw);
  place.addEventListener("toggle", () => place.open && load());

  async function load() {
    try {
      videos = await api.folder();
      byId("folder-error").replaceChildren();
    } catch (error) {
      showProblem(byId("folder-error"), error.message);
    }
    place.hidden = videos.length === 0;
    byId("folder-search-field").hidden = videos.length < SEARCH_FROM;
    setText(byId("folder-count"), plural(videos.length, "video"));
    draw();
  }
  await load();
}

