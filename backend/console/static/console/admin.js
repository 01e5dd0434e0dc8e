// Names for fields of Django's admin that have none for a screen reader: the search, dates and times, choices with search.
// Django makes some of them when the page is loaded, and some by jQuery, which may be after that.
(() => {
  "use strict";

  addEventListener("load", name);
  self.django?.jQuery?.(() => setTimeout(name));

  function name() {
    const textOf = (id) => document.querySelector(`label[for="${id}"]`)?.textContent.trim().replace(/:$/, "");
    document.getElementById("searchbar")?.setAttribute("aria-label", "Search");
    for (const field of document.querySelectorAll(".vDateField, .vTimeField")) {
      const row = field.closest(".form-row, td"), name = row?.querySelector("legend, label")?.textContent.trim().replace(/:$/, "");
      const part = field.matches(".vDateField") ? "date" : "time";
      if (!textOf(field.id)) field.setAttribute("aria-label", `${name ?? field.name}, ${part}`);
    }
    for (const choice of document.querySelectorAll("select.admin-autocomplete + .select2 .select2-selection")) {
      const select = choice.closest(".select2").previousElementSibling, name = textOf(select.id) ?? select.name;
      choice.removeAttribute("aria-labelledby");
      choice.setAttribute("aria-label", name);
      choice.querySelector("[role=textbox]")?.setAttribute("aria-label", name);
    }
    for (const hint of document.querySelectorAll(".help-tooltip[aria-label]")) hint.setAttribute("role", "img");
  }
})();
