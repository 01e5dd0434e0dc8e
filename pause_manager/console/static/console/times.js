// Times come in UTC. They are shown as "3 min ago", in the reader's zone or in UTC; the title always has the exact
// time. A click on one changes between relative and exact for all.
(() => {
  "use strict";

  const root = document.documentElement;
  const options = {
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    hourCycle: "h23", timeZoneName: "short",
  };
  const local = new Intl.DateTimeFormat("en-GB", options), utc = new Intl.DateTimeFormat("en-GB", { ...options, timeZone: "UTC" });
  function exact(at) {
    const format = root.dataset.times === "utc" ? utc : local;
    const found = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, value]));
    const { year, month, day, hour, minute, second, timeZoneName } = found;
    return `${year}-${month}-${day} ${hour}:${minute}:${second} ${timeZoneName}`;
  }

  const units = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];
  function relative(at) {
    const seconds = Math.round((Date.now() - at.getTime()) / 1000), distance = Math.abs(seconds);
    if (distance < 5) return "just now";
    const [length, unit] = units.find(([length]) => distance >= length);
    const text = `${seconds > 0 ? Math.floor(distance / length) : Math.round(distance / length)} ${unit}`;
    return seconds > 0 ? `${text} ago` : `in ${text}`;
  }

  function showTime(time) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) return;
    const full = exact(at), isExact = root.dataset.times !== "relative" || time.hasAttribute("data-exact");
    const text = isExact ? full : relative(at);
    if (time.title !== full) time.title = full;
    if (time.textContent !== text) time.textContent = text;
  }
  const showTimes = () => document.querySelectorAll("time[datetime]").forEach(showTime);
  new MutationObserver(showTimes).observe(document.body, { childList: true, subtree: true, characterData: true });

  function show(times) {
    choose("times", times);
    showTimes();
    mark();
  }
  const mark = () => {
    for (const key of ["times", "theme"])
      for (const button of document.querySelectorAll(`button[data-${key}]`))
        button.setAttribute("aria-pressed", String(button.dataset[key] === root.dataset[key]));
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-times], button[data-theme]");
    if (button?.dataset.times) show(button.dataset.times);
    else if (button) { choose("theme", button.dataset.theme); mark(); }
    else if (event.target.closest("time[datetime]:not([data-exact])") && !event.target.closest("a, button"))
      show(root.dataset.times === "relative" ? "local" : "relative");
  });
  setInterval(showTimes, 5_000);
  showTimes();
  mark();

  // Clocks tick between two updates; each update corrects them.
  const written = new WeakMap();
  function duration(seconds) {
    const hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds / 60) % 60, rest = seconds % 60;
    const two = (number) => String(number).padStart(2, "0");
    if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
    if (hours) return `${hours} h ${two(minutes)} min`;
    return minutes ? `${minutes} min ${two(rest)} s` : `${rest} s`;
  }
  setInterval(() => {
    if (root.hasAttribute("data-stale")) return;
    for (const clock of document.querySelectorAll("[data-ticking]")) {
      const known = written.get(clock);
      const base = known?.from === clock.dataset.elapsed ? known : { from: clock.dataset.elapsed, at: performance.now() };
      written.set(clock, base);
      clock.textContent = duration(Number(base.from) + Math.floor((performance.now() - base.at) / 1000));
    }
  }, 1000);
})();
