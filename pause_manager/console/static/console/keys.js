// Keyboard: the palette, "g" and a letter for pages, rows, and the main control of a page.
(() => {
  "use strict";

  const palette = document.getElementById("palette");
  if (!palette) return;
  const input = document.getElementById("palette-input"), list = document.getElementById("palette-list");
  let hits = [], chosen = 0, isAfterG = 0, asked = 0;

  const isTyping = (target) => target.closest?.("input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]");
  const letters = Object.fromEntries([...document.querySelectorAll("[data-key^='g ']")].map((one) => [one.dataset.key.slice(2), one.href]));

  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") { event.preventDefault(); open(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || document.querySelector("dialog[open]")) return;
    if (Date.now() - isAfterG < 1_500 && letters[event.key]) { location.assign(letters[event.key]); return; }
    isAfterG = event.key === "g" ? Date.now() : 0;
    const act = { "/": open, "?": () => document.getElementById("keys").showModal(), p: main, j: () => step(1), k: () => step(-1), x: tick }[event.key];
    if (act) { event.preventDefault(); act(); }
  });

  function main() { document.querySelector("#hold-control:not(:disabled), [data-primary]:not(:disabled)")?.click(); }

  const rows = () => [...document.querySelectorAll("[data-row]")];
  function step(by) {
    const all = rows(), at = all.findIndex((row) => row.contains(document.activeElement));
    const row = all[Math.max(0, Math.min(all.length - 1, at < 0 ? 0 : at + by))];
    row?.querySelector("a, button, input")?.focus();
    row?.scrollIntoView({ block: "nearest" });
  }
  function tick() { rows().find((row) => row.contains(document.activeElement))?.querySelector("input[type=checkbox]")?.click(); }

  for (const button of document.querySelectorAll("[data-palette]")) button.addEventListener("click", open);
  function open() {
    input.value = "";
    palette.showModal();
    input.focus();
    look();
  }
  input.addEventListener("input", () => { clearTimeout(asked); asked = setTimeout(look, 120); });
  palette.addEventListener("click", (event) => { if (event.target === palette) palette.close(); });

  async function look() {
    const text = input.value;
    try {
      const response = await fetch(`${document.body.dataset.find}?q=${encodeURIComponent(text)}`, { headers: { Accept: "application/json" } });
      if (!response.ok || text !== input.value) return;
      hits = (await response.json()).hits;
    } catch { hits = []; }
    chosen = 0;
    draw();
  }

  function draw() {
    list.replaceChildren(...hits.map((hit, index) => {
      const line = document.createElement("li");
      line.id = `hit-${index}`;
      line.setAttribute("role", "option");
      line.setAttribute("aria-selected", String(index === chosen));
      for (const [name, text] of [["hit-kind", hit.kind], ["hit-title", hit.title], ["hit-hint", hit.hint]])
        line.append(Object.assign(document.createElement("span"), { className: name, textContent: text }));
      line.addEventListener("click", () => take(index));
      return line;
    }));
    if (!hits.length) list.append(Object.assign(document.createElement("li"), { className: "muted", textContent: "Nothing found." }));
    input.setAttribute("aria-activedescendant", hits.length ? `hit-${chosen}` : "");
    list.children[chosen]?.scrollIntoView({ block: "nearest" });
  }

  input.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) { event.preventDefault(); chosen = (chosen + by + hits.length) % Math.max(1, hits.length); draw(); }
    else if (event.key === "Enter") { event.preventDefault(); take(chosen); }
  });

  function take(index) {
    const hit = hits[index];
    if (!hit) return;
    palette.close();
    if (hit.url) location.assign(hit.url);
    else self.ask(hit.ask);
  }
})();
