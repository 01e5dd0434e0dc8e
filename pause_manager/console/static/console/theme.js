// The choice of colours, before anything is shown.
(() => {
  "use strict";
  const root = document.documentElement;
  const read = (key) => { try { return localStorage.getItem(key) ?? ""; } catch { return ""; } };
  self.choose = (key, value) => {
    try { localStorage.setItem(key, value); } catch { /* storage may be disabled: then the choice lasts for this page */ }
    root.dataset[key] = value;
  };
  root.dataset.theme = read("theme") || "auto";
  root.dataset.times = read("times") || "relative";
})();
