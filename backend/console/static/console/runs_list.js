// The list of runs: what is ticked and which menu is open survive an update, and a choice filters at once.
(() => {
  "use strict";

  const ticked = new Set();
  const boxes = () => document.querySelectorAll("input[data-select]");
  let openMenu = "";

  function count() {
    const place = document.querySelector("[data-selected-count]");
    const chosen = [...boxes()].filter((box) => box.checked).length;
    if (place) place.textContent = `${chosen} selected`;
  }

  document.addEventListener("change", (event) => {
    const box = event.target.closest?.("input[data-select]");
    if (box) {
      if (box.checked) ticked.add(box.value); else ticked.delete(box.value);
      count();
    } else if (event.target.matches("#run-filter select")) event.target.form.requestSubmit();
  });

  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-unselect]")) return;
    ticked.clear();
    for (const box of boxes()) box.checked = false;
    count();
  });

  document.addEventListener("toggle", (event) => {
    if (!event.target.matches?.("details[id]")) return;
    if (event.target.open) openMenu = event.target.id;
    else if (openMenu === event.target.id && !isUpdating) openMenu = "";
  }, true);

  let isUpdating = false;
  document.addEventListener("htmx:before:swap", () => { isUpdating = true; });
  document.addEventListener("console:updated", () => {
    for (const box of boxes()) box.checked = ticked.has(box.value);
    const menu = openMenu && document.getElementById(openMenu);
    if (menu) menu.open = true;
    count();
    setTimeout(() => { isUpdating = false; });
  });
})();
