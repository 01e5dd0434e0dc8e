// A file that is dropped anywhere on the page goes into the form's file field, as if it had been chosen there.
(() => {
  "use strict";

  const form = document.querySelector("[data-drop]");
  if (!form) return;
  const field = form.querySelector(form.dataset.drop);
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    form.classList.add("is-over");
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) form.classList.remove("is-over"); });
  document.addEventListener("drop", (event) => {
    form.classList.remove("is-over");
    if (!hasFiles(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files.length !== 1) {
      self.notify({ refused: `Cannot use ${event.dataTransfer.files.length} files: expected one.` });
      return;
    }
    field.files = event.dataTransfer.files;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  });
})();
