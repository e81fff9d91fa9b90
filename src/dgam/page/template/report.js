"use strict";
(() => {
  // The hash is an anchor and, behind "?", what was sorted and filtered: #videos?filter=dive&class-ap=2d
  const read = () => {
    const [anchor, query] = location.hash.slice(1).split("?");
    return { anchor, state: new URLSearchParams(query || "") };
  };
  const write = (change, anchor) => {
    const now = read();
    for (const [key, value] of Object.entries(change)) {
      if (value) now.state.set(key, value); else now.state.delete(key);
    }
    const query = now.state.toString();
    const place = anchor || now.anchor || "";
    history.replaceState(null, "", query ? `#${place}?${query}` : place ? `#${place}` : location.pathname + location.search);
  };

  const articles = document.getElementById("articles");
  const index = document.getElementById("video-index");

  const keyOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent.trim() : Number(cell.dataset.v);
  };
  const sort = (table, column, descending) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row, place) => ({ row, place, key: keyOf(row, column) }));
    rows.sort((a, b) => {
      const order = typeof a.key === "number" && typeof b.key === "number" ? a.key - b.key
        : String(a.key).localeCompare(String(b.key), undefined, { numeric: true });
      return (descending ? -order : order) || a.place - b.place;
    });
    body.append(...rows.map(({ row }) => row));
    [...table.tHead.rows[0].cells].forEach((head, at) => {
      if (at === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    if (table === index && articles) {
      articles.append(...rows.map(({ row }) => document.getElementById(row.dataset.anchor))
        .filter((article) => article && article.parentElement === articles));
    }
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const numeric = table.tBodies[0].rows[0]?.cells[column].dataset.v !== undefined;
        const was = head.getAttribute("aria-sort");
        const descending = was ? was === "ascending" : numeric;
        sort(table, column, descending);
        write({ [table.id]: `${column}${descending ? "d" : "a"}` });
      });
    });
  }

  const input = document.getElementById("filter");
  const output = document.getElementById("filter-count");
  const filter = (text) => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (element) => words.every((word) => element.dataset.words.includes(word));
    let shown = 0;
    for (const row of index.tBodies[0].rows) {
      row.hidden = !fits(row);
      shown += !row.hidden;
    }
    for (const article of articles.children) article.hidden = !fits(article);
    const all = index.tBodies[0].rows.length;
    output.textContent = words.length ? `${shown} of ${all} videos` : `${all} videos`;
  };
  input.form.addEventListener("submit", (event) => event.preventDefault());
  input.addEventListener("input", () => {
    filter(input.value);
    write({ filter: input.value.trim() });
  });

  const apply = () => {
    const { anchor, state } = read();
    input.value = state.get("filter") || "";
    filter(input.value);
    for (const table of document.querySelectorAll("table.sortable")) {
      const match = /^(\d+)([ad])$/.exec(state.get(table.id) || "");
      if (match && Number(match[1]) < table.tHead.rows[0].cells.length) sort(table, Number(match[1]), match[2] === "d");
    }
    const target = anchor && document.getElementById(anchor);
    if (target) {
      if (target.hidden) { input.value = ""; filter(""); write({ filter: "" }); }
      target.scrollIntoView();
    }
  };
  // A link to a place keeps what was sorted and filtered.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const anchor = link.getAttribute("href").slice(1);
    const target = document.getElementById(anchor);
    if (!target) return;
    event.preventDefault();
    write({}, anchor);
    target.scrollIntoView();
    if (!target.hasAttribute("tabindex")) target.setAttribute("tabindex", "-1");
    target.focus({ preventScroll: true });
  });
  window.addEventListener("hashchange", apply);
  apply();

  const told = (seconds) => {
    const minutes = Math.floor(seconds / 60);
    return minutes ? `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")}` : `${seconds.toFixed(1)} s`;
  };
  for (const timeline of document.querySelectorAll(".timeline")) {
    const cursor = timeline.querySelector(".cursor");
    timeline.addEventListener("pointermove", (event) => {
      const ticks = timeline.querySelector(".ticks").getBoundingClientRect();
      const share = (event.clientX - ticks.left) / ticks.width;
      cursor.hidden = share < 0 || share > 1;
      if (cursor.hidden) return;
      cursor.style.left = `${event.clientX - timeline.getBoundingClientRect().left}px`;
      cursor.classList.toggle("flip", share > 0.85);
      cursor.firstElementChild.textContent = told(share * Number(timeline.dataset.duration));
    });
    timeline.addEventListener("pointerleave", () => { cursor.hidden = true; });
  }

  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("article details.why:first-of-type:not([open])")];
    for (const element of closed) element.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const element of closed) element.open = false;
  });
})();
