// The page of a run: a card that can be closed and brought back, and forms that htmx swaps into it.
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
    const target = event.target.closest("[data-card]");
    if (!target) return;
    remember(target.dataset.card === "show");
    showCard(target.dataset.card === "show");
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

  // A button keeps the focus while its request is in progress: it is busy, not disabled. A second press does nothing.
  const isBusy = (button) => button?.getAttribute("aria-disabled") === "true";
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (isBusy(button)) { event.preventDefault(); event.stopImmediatePropagation(); return; }
    if (button?.dataset.left === undefined) return;
    const place = document.getElementById("cancel-left");
    if (place) place.textContent = button.dataset.left;
  }, true);
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("#control-form, .answer, dialog form")) return;
    if (isBusy(event.submitter)) { event.preventDefault(); event.stopImmediatePropagation(); return; }
    event.submitter?.setAttribute("aria-disabled", "true");
    event.submitter?.classList.add("is-pressed");
  }, true);

  document.addEventListener("htmx:finally:request", (event) => setTimeout(() => {
    for (const button of document.querySelectorAll(".is-pressed")) {
      button.classList.remove("is-pressed");
      if (!button.classList.contains("pausing")) button.removeAttribute("aria-disabled");
    }
    if (document.activeElement !== document.body) return;
    if (!event.target.matches?.(".controls, dialog form")) return;
    // After a cancel its button is gone: the heading says what the run is now.
    const button = event.target.closest("dialog") ? null : document.getElementById("hold-control");
    (button ?? document.getElementById("card-title"))?.focus({ preventScroll: true });
  }));

  // A button that had the focus may go with an update: then the heading gets it, not the page's beginning.
  let wasInCard = false;
  for (const name of ["focusin", "pointerdown"])
    document.addEventListener(name, (event) => { wasInCard = Boolean(event.target.closest?.("#card, dialog")); });
  const refocus = () => {
    if (!wasInCard || document.activeElement !== document.body || document.querySelector("dialog[open]")) return;
    document.getElementById("card-title")?.focus({ preventScroll: true });
  };
  document.addEventListener("console:updated", refocus);
  document.addEventListener("htmx:finally:request", () => setTimeout(refocus, 50));

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
