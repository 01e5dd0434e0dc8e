// One stream for all tabs of a browser: HTTP/1.1 gives a browser six connections per host, and a stream keeps one busy.
// This is the shared worker that holds it. In a browser without shared workers, each page holds a stream of its own.
(() => {
  "use strict";

  const SETTLE_MS = 60, SILENT_MS = 45_000, GONE_MS = 35_000, SLOWEST_MS = 5_000, OPENING_MS = 2_500, POLLS_BEFORE_A_STREAM = 100;

  class Stream {
    tabs = new Map(); // what each visible tab follows: send -> {topics, at}
    open = new Set();
    latest = new Map();
    delay = 500;
    isPolling = false;

    constructor(url, pollSeconds) {
      this.url = url;
      this.pollMs = Math.max(1, pollSeconds || 3) * 1_000;
      setInterval(() => this.dropGone(), 5_000);
    }

    // A tab that is hidden or closed follows nothing.
    want(tab, topics) {
      const known = this.tabs.get(tab)?.topics ?? [];
      if (topics.length) this.tabs.set(tab, { topics, at: Date.now() });
      else this.tabs.delete(tab);
      if (known.length === topics.length && known.every((topic, index) => topic === topics[index])) return;
      if (this.isOpen) for (const topic of topics) if (this.latest.has(topic)) tab(this.latest.get(topic));
      clearTimeout(this.settling);
      this.settling = setTimeout(() => this.settle(), SETTLE_MS);
    }

    // Renews a tab; one that was dropped while it slept subscribes again.
    alive(tab, topics) {
      const known = this.tabs.get(tab);
      if (known) known.at = Date.now();
      else this.want(tab, topics);
    }

    dropGone() {
      for (const [tab, { at }] of this.tabs) if (Date.now() - at > GONE_MS) this.want(tab, []);
      if (this.abort && Date.now() - this.heardAt > SILENT_MS) this.lose();
    }

    settle() {
      const wanted = new Set([...this.tabs.values()].flatMap(({ topics }) => topics));
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
      // A proxy that collects a stream until its end lets nothing through: then the tabs poll.
      const opening = setTimeout(() => { if (!this.isHeard) { this.isPolling = true; abort.abort(); } }, OPENING_MS);
      this.isHeard = false;
      try {
        const options = { signal: abort.signal, cache: "no-store", headers: { Accept: "text/event-stream" } };
        const response = await fetch(this.url + asked + (this.isPolling ? "&once=1" : ""), options);
        if ([400, 401, 403, 404].includes(response.status)) {
          this.close();
          this.notify({ connection: "refused" });
          return;
        }
        if (!response.ok) throw new Error(`status ${response.status}`);
        await this.read(response.body.getReader(), abort);
      } catch { /* reported below */ } finally { clearTimeout(opening); }
      if (this.abort === abort) this.lose();
    }

    async read(reader, abort) {
      const decoder = new TextDecoder();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done || this.abort !== abort) return;
        this.heardAt = Date.now();
        if (!this.isHeard) this.opened();
        const events = (rest + decoder.decode(value, { stream: true })).split("\n\n");
        rest = events.pop();
        for (const event of events) if (event.startsWith("data: ")) this.update(JSON.parse(event.slice(6)));
      }
    }

    opened() {
      this.isHeard = this.isOpen = true;
      this.delay = 500;
      this.notify({ connection: "open" });
    }

    update(message) {
      if (message.poll) {
        this.nextPollMs = this.pollMs;
        this.polls = (this.polls ?? 0) + 1;
        if (this.polls % POLLS_BEFORE_A_STREAM === 0) this.isPolling = false;
        return;
      }
      this.latest.set(message.topic, message);
      for (const [tab, { topics }] of this.tabs) if (topics.includes(message.topic)) tab(message);
    }

    // The server ends long streams by itself: only a stream that cannot be reopened is lost.
    lose() {
      const wasOpen = this.isOpen, pollMs = this.nextPollMs;
      this.nextPollMs = 0;
      this.close();
      if (pollMs) {
        this.retry = setTimeout(() => this.settle(), pollMs);
        return;
      }
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
    self.ownStream = (url, poll, tab) => {
      const stream = new Stream(url, poll);
      return (topics, isSign) => isSign ? stream.alive(tab, topics) : stream.want(tab, topics);
    };
    return;
  }
  let stream;
  self.onconnect = ({ ports: [port] }) => {
    const tab = (message) => port.postMessage(message);
    port.onmessage = ({ data }) => {
      stream ??= new Stream(data.url, data.poll);
      if (data.isSign) stream.alive(tab, data.topics);
      else stream.want(tab, data.topics);
    };
  };
})();
