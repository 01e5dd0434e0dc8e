// What the pages need beyond htmx: a card that can be closed, the cancel dialog, times, ticking clocks, a lost connection.
(() => {
  "use strict";

  const root = document.documentElement;
  const cardKey = () => `card-closed:${document.querySelector("[data-run]")?.dataset.run}`;

  function showCard(isShown) {
    root.toggleAttribute("data-card-closed", !isShown);
    document.querySelector(isShown ? "#card [data-card]" : "#show-card")?.focus();
  }

  function remember(isShown) {
    try {
      if (isShown) localStorage.removeItem(cardKey());
      else localStorage.setItem(cardKey(), "1");
    } catch { /* storage may be disabled: then the choice lasts for this page */ }
  }

  function isRememberedClosed() {
    try { return localStorage.getItem(cardKey()) === "1"; } catch { return false; }
  }

  root.toggleAttribute("data-card-closed", isRememberedClosed());

  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-card], [data-dialog], [data-notice]");
    if (!target) return;
    if (target.dataset.card) {
      remember(target.dataset.card === "show");
      showCard(target.dataset.card === "show");
    } else if (target.dataset.notice) {
      target.closest(".notice").remove();
    } else if (target.dataset.dialog === "close") {
      target.closest("dialog").close();
    } else {
      document.getElementById(target.dataset.dialog)?.showModal();
    }
  });

  document.addEventListener("htmx:after:request", (event) => {
    const form = event.target.closest?.("dialog form");
    if (form) {
      form.closest("dialog").close();
      form.reset();
    }
    const reason = document.getElementById("reason");
    if (reason && event.target.matches?.(".controls")) reason.value = "";
  });

  // htmx enables what it disabled for a request, even where the response disables it.
  document.addEventListener("htmx:finally:request", (event) => setTimeout(() => {
    for (const element of document.querySelectorAll("[data-off]")) element.disabled = true;
    if (document.activeElement !== document.body) return;
    if (!event.target.matches?.(".controls, dialog form")) return;
    const button = document.getElementById("hold-control");
    (button && !button.disabled ? button : document.getElementById("card"))?.focus({ preventScroll: true });
  }));

  // Enter in the reason would cancel the run for good: only the button does.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches?.("dialog input")) event.preventDefault();
  });

  // Times come in UTC. They are shown as "3 min ago", with the exact time in the reader's own zone as the title; a
  // click on one shows all of them exactly, and back.
  const parts = new Intl.DateTimeFormat("en-GB", {
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    hourCycle: "h23", timeZoneName: "short",
  });
  function exact(at) {
    const found = Object.fromEntries(parts.formatToParts(at).map(({ type, value }) => [type, value]));
    const { year, month, day, hour, minute, second, timeZoneName } = found;
    return `${year}-${month}-${day} ${hour}:${minute}:${second} ${timeZoneName}`;
  }
  const units = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];
  function relative(at) {
    const seconds = Math.round((Date.now() - at.getTime()) / 1000), distance = Math.abs(seconds);
    if (distance < 5) return "just now";
    const [length, unit] = units.find(([length]) => distance >= length);
    const text = `${Math.floor(distance / length)} ${unit}`;
    return seconds > 0 ? `${text} ago` : `in ${text}`;
  }
  function showTime(time) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) return;
    const full = exact(at), text = root.hasAttribute("data-exact-times") ? full : relative(at);
    if (time.title !== full) time.title = full;
    if (time.textContent !== text) time.textContent = text;
  }
  const showTimes = () => document.querySelectorAll("time[datetime]").forEach(showTime);
  new MutationObserver(showTimes).observe(document.body, { childList: true, subtree: true, characterData: true });
  document.addEventListener("click", (event) => {
    if (!event.target.closest("time")) return;
    root.toggleAttribute("data-exact-times");
    showTimes();
  });
  setInterval(showTimes, 5_000);
  showTimes();

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
    for (const clock of document.querySelectorAll("[data-ticking]")) {
      const known = written.get(clock);
      const base = known?.from === clock.dataset.elapsed ? known : { from: clock.dataset.elapsed, at: performance.now() };
      written.set(clock, base);
      clock.textContent = duration(Number(base.from) + Math.floor((performance.now() - base.at) / 1000));
    }
  }, 1000);

  const connection = () => document.getElementById("connection");
  let lostTimer = 0;
  function lost(isRefused) {
    const sentence = isRefused ? "You are signed out, or this run was deleted. Reload the page." : "Connection lost. Reconnecting…";
    clearTimeout(lostTimer);
    lostTimer = setTimeout(() => {
      if (document.hidden) return;
      connection().textContent = sentence;
      connection().hidden = false;
    }, 1500);
  }
  function found() {
    clearTimeout(lostTimer);
    connection().hidden = true;
  }
  // The content of the page comes over the one stream that all tabs share; a hidden tab subscribes to nothing.
  const live = document.getElementById("live");
  if (live) {
    let swaps = Promise.resolve();
    let send = shared() ?? own();
    const ask = () => send(document.hidden ? "" : live.dataset.topic);

    function own() { return self.ownStream(live.dataset.url, receive); }

    function shared() {
      try {
        const worker = new SharedWorker(live.dataset.worker, { name: live.dataset.url });
        worker.onerror = () => { send = own(); ask(); };
        worker.port.onmessage = ({ data }) => receive(data);
        return (topic, isSign) => worker.port.postMessage({ url: live.dataset.url, topic, isSign });
      } catch { return null; }
    }

    function receive(message) {
      if (message.connection === "open") found();
      else if (message.connection) lost(message.connection === "refused");
      else if (message.topic !== live.dataset.topic) return;
      else if (message.gone) lost(true);
      else swaps = swaps.then(() => show(message)).catch(() => {});
    }

    async function show({ html, page }) {
      found();
      const target = document.querySelector(live.dataset.target);
      if (target) await htmx.swap({ text: html, target, swap: "outerMorph", sourceElement: live });
      if (page === live.dataset.version) return;
      live.dataset.version = page;
      htmx.trigger(live, "page");
    }

    document.addEventListener("visibilitychange", ask);
    addEventListener("pagehide", () => send(""));
    addEventListener("pageshow", (event) => { if (event.persisted) ask(); });
    setInterval(() => send(document.hidden ? "" : live.dataset.topic, !document.hidden), 10_000);
    ask();
  }
  document.addEventListener("htmx:error", (event) => {
    if (event.target.matches?.("form")) refuse("Cannot reach the server. Check the status before you try again.");
  });
  document.addEventListener("htmx:response:error", (event) => {
    const status = event.detail.ctx?.response?.raw?.status ?? event.detail.ctx?.response?.status;
    if (!event.target.matches?.("form") || status === 409) return;
    if (status === 403 || status === 401) refuse("Cannot do that: you are signed out, or you do not have permission to operate this run.");
    else if (status === 404) refuse("Cannot do that: this run no longer exists.");
    else refuse("Cannot do that: the server failed. Its log has the error.");
  });
  function refuse(sentence) {
    const place = document.getElementById("refusal");
    if (!place) return;
    const line = document.createElement("p");
    line.className = "notice error";
    line.textContent = sentence;
    place.replaceChildren(line);
  }
})();
