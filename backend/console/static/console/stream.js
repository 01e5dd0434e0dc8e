// One stream for all tabs of a browser: HTTP/1.1 gives a browser six connections per host, and a stream keeps one busy.
// This is the shared worker that holds it. In a browser without shared workers, each page holds a stream of its own.
(() => {
  "use strict";

  const SETTLE_MS = 60, SILENT_MS = 45_000, GONE_MS = 35_000, SLOWEST_MS = 5_000;

  class Stream {
    tabs = new Map(); // the topic of each visible tab: send -> {topic, at}
    open = new Set();
    latest = new Map();
    delay = 500;

    constructor(url) {
      this.url = url;
      setInterval(() => this.dropGone(), 5_000);
    }

    // A tab that is hidden or closed sends an empty topic.
    want(tab, topic) {
      const known = this.tabs.get(tab)?.topic;
      if (topic) this.tabs.set(tab, { topic, at: Date.now() });
      else this.tabs.delete(tab);
      if (known === topic || (!known && !topic)) return;
      if (topic && this.isOpen && this.latest.has(topic)) tab(this.latest.get(topic));
      clearTimeout(this.settling);
      this.settling = setTimeout(() => this.settle(), SETTLE_MS);
    }

    // Renews a tab; one that was dropped while it slept subscribes again.
    alive(tab, topic) {
      const known = this.tabs.get(tab);
      if (known) known.at = Date.now();
      else this.want(tab, topic);
    }

    dropGone() {
      for (const [tab, { at }] of this.tabs) if (Date.now() - at > GONE_MS) this.want(tab, "");
      if (this.abort && Date.now() - this.heardAt > SILENT_MS) this.lose();
    }

    settle() {
      const wanted = new Set([...this.tabs.values()].map(({ topic }) => topic));
      const isSame = wanted.size === this.open.size && [...wanted].every((topic) => this.open.has(topic));
      if (this.abort && isSame) return;
      this.close();
      if (wanted.size) this.connect(wanted);
    }

    close() {
      clearTimeout(this.retry);
      this.abort?.abort();
      this.abort = null;
      this.isOpen = false;
      this.open = new Set();
      this.latest.clear();
    }

    async connect(topics) {
      const abort = this.abort = new AbortController();
      this.open = topics;
      this.heardAt = Date.now();
      const asked = [...topics].map((topic) => `&topic=${encodeURIComponent(topic)}`).join("");
      try {
        const options = { signal: abort.signal, cache: "no-store", headers: { Accept: "text/event-stream" } };
        const response = await fetch(this.url + asked, options);
        if ([400, 401, 403, 404].includes(response.status)) {
          this.close();
          this.notify({ connection: "refused" });
          return;
        }
        if (!response.ok) throw new Error(`status ${response.status}`);
        this.isOpen = true;
        this.delay = 500;
        this.notify({ connection: "open" });
        await this.read(response.body.getReader(), abort);
      } catch { /* reported below */ }
      if (this.abort === abort) this.lose();
    }

    async read(reader, abort) {
      const decoder = new TextDecoder();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done || this.abort !== abort) return;
        this.heardAt = Date.now();
        const events = (rest + decoder.decode(value, { stream: true })).split("\n\n");
        rest = events.pop();
        for (const event of events) if (event.startsWith("data: ")) this.update(JSON.parse(event.slice(6)));
      }
    }

    update(message) {
      this.latest.set(message.topic, message);
      for (const [tab, { topic }] of this.tabs) if (topic === message.topic) tab(message);
    }

    // The server ends long streams by itself: only a stream that cannot be reopened is lost.
    lose() {
      const wasOpen = this.isOpen;
      this.close();
      if (!wasOpen) this.notify({ connection: "lost" });
      this.retry = setTimeout(() => this.settle(), wasOpen ? 200 : this.delay * (0.7 + Math.random() * 0.6));
      this.delay = Math.min(this.delay * 2, SLOWEST_MS);
    }

    notify(message) {
      for (const tab of this.tabs.keys()) tab(message);
    }
  }

  const isWorker = typeof SharedWorkerGlobalScope !== "undefined" && self instanceof SharedWorkerGlobalScope;
  if (!isWorker) {
    self.ownStream = (url, tab) => {
      const stream = new Stream(url);
      return (topic, isSign) => isSign ? stream.alive(tab, topic) : stream.want(tab, topic);
    };
    return;
  }
  let stream;
  self.onconnect = ({ ports: [port] }) => {
    const tab = (message) => port.postMessage(message);
    port.onmessage = ({ data }) => {
      stream ??= new Stream(data.url);
      if (data.isSign) stream.alive(tab, data.topic);
      else stream.want(tab, data.topic);
    };
  };
})();
