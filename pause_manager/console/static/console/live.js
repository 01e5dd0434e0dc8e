// The content of the page comes over the one stream that all tabs share; a hidden tab subscribes to nothing.
// `[data-live]` names a topic and the element that its updates replace.
(() => {
  "use strict";

  const root = document.documentElement, { liveUrl, worker, poll } = document.body.dataset;
  if (!liveUrl) return;
  const lives = () => [...document.querySelectorAll("[data-live]")];
  const topics = () => document.hidden ? [] : lives().map((live) => live.dataset.topic);
  const gone = new Set();
  let swaps = Promise.resolve(), heardAt = new Date(), lostTimer = 0;
  let send = shared() ?? own();
  const ask = () => send(topics());

  function own() { return self.ownStream(liveUrl, Number(poll), receive); }

  function shared() {
    try {
      const shared = new SharedWorker(worker, { name: liveUrl });
      shared.onerror = () => { send = own(); ask(); };
      shared.port.onmessage = ({ data }) => receive(data);
      return (topics, isSign) => shared.port.postMessage({ url: liveUrl, poll: Number(poll), topics, isSign });
    } catch { return null; }
  }

  function receive(message) {
    if (message.connection === "open") found();
    else if (message.connection) lost(message.connection === "refused");
    else if (message.gone) { gone.add(message.topic); lost(true); }
    else {
      gone.delete(message.topic);
      const live = lives().find((one) => one.dataset.topic === message.topic);
      if (live) swaps = swaps.then(() => show(live, message)).catch(() => {});
    }
  }

  async function show(live, { html, page }) {
    found();
    const target = document.querySelector(live.dataset.target);
    if (target) await swap(live, target, html);
    if (page === "" || page === live.dataset.version) return;
    live.dataset.version = page;
    htmx.trigger(live, "page");
  }

  // Changes in words, for those who do not see the page: what `data-announce` says before and after.
  async function swap(live, target, html) {
    const said = announced(), hadFocus = target.contains(document.activeElement);
    const unfolded = [...target.querySelectorAll("details[id][open]")].map((one) => one.id);
    await htmx.swap({ text: html, target, swap: "outerMorph", sourceElement: live });
    // What the reader has unfolded stays so: the server knows nothing of it.
    for (const id of unfolded) document.getElementById(id)?.setAttribute("open", "");
    // What had the focus may be gone: a button that no longer applies.
    if (hadFocus && document.activeElement === document.body)
      document.querySelector(`${live.dataset.target} [tabindex="-1"]`)?.focus({ preventScroll: true });
    const news = [...announced()].filter(([key, text]) => said.get(key) !== text && text).map(([, text]) => text);
    if (news.length) document.getElementById("announcer").textContent = news.slice(0, 3).join(" ");
    document.dispatchEvent(new CustomEvent("console:updated"));
  }
  const announced = () => new Map([...document.querySelectorAll("[data-announce]")].map((one) =>
    [one.dataset.announceKey ?? one.id, one.dataset.announce]));

  const exactTime = () => heardAt.toLocaleTimeString("en-GB");
  function lost(isRefused) {
    clearTimeout(lostTimer);
    lostTimer = setTimeout(() => {
      if (document.hidden) return;
      root.toggleAttribute("data-stale", true);
      const place = document.getElementById("connection");
      place.textContent = isRefused
        ? "You are signed out, or what this page shows was deleted. Reload the page."
        : `Connection lost: this is the state of ${exactTime()}. Reconnecting…`;
      place.hidden = false;
    }, 1500);
  }
  // Other topics of the page may still arrive when what it shows is gone.
  function found() {
    if (gone.size) return;
    clearTimeout(lostTimer);
    heardAt = new Date();
    root.removeAttribute("data-stale");
    document.getElementById("connection").hidden = true;
  }

  document.addEventListener("visibilitychange", ask);
  addEventListener("pagehide", () => send([]));
  addEventListener("pageshow", (event) => { if (event.persisted) ask(); });
  setInterval(() => send(topics(), !document.hidden), 10_000);
  ask();
})();
