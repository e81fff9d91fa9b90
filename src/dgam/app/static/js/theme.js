// A classic script in the head, so that the page never flashes in the other colours.
(() => {
  try {
    const kept = localStorage.getItem("dgam.theme");
    if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
  } catch {
    // Storage may be forbidden; the system's choice then holds.
  }
})();
