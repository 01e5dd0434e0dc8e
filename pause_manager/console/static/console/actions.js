// Forms and buttons that act. A button with `data-ask` opens the one dialog of the page, with the reason focused:
//   data-ask     the URL to post to          data-values   hidden fields, as JSON
//   data-title   the question                data-fields   id of a <template> with more fields
//   data-text    what will happen            data-reason   required, optional, or nothing
//   data-button  the word on the button      data-danger   it cannot be undone
//   data-now     acts at once, without the dialog
// A form with `data-act` posts itself the same way. The response is JSON: done or refused, and perhaps a location.
(() => {
  "use strict";

  const byId = (id) => document.getElementById(id);
  let opener = null;

  document.addEventListener("click", (event) => {
    const dialogs = event.target.closest("[data-dialog]"), button = event.target.closest("[data-ask]");
    if (event.target.closest("[data-notice]")) event.target.closest(".notice").remove();
    else if (dialogs?.dataset.dialog === "close") dialogs.closest("dialog").close();
    else if (dialogs) byId(dialogs.dataset.dialog)?.showModal();
    else if (button && !button.disabled) ask(button);
    else if (event.target.closest("[data-menu]")) toggleMenu();
    else if (!event.target.closest("#side")) toggleMenu(false);
    for (const open of document.querySelectorAll("details.who[open], details.row-menu[open]"))
      if (!open.contains(event.target)) open.open = false;
  });

  function toggleMenu(isOpen) {
    const button = document.querySelector("[data-menu]");
    const next = isOpen ?? !document.body.hasAttribute("data-menu-open");
    document.body.toggleAttribute("data-menu-open", next);
    button?.setAttribute("aria-expanded", String(next));
  }

  // The same from the palette: `ask` is an object with the names of the attributes. Acting at once, it resolves to the
  // answer.
  self.ask = ask;
  function ask(source) {
    const data = source instanceof Element ? source.dataset : source;
    opener = source instanceof Element ? source : null;
    const values = { ...JSON.parse(data.values || "{}"), ...selected(source) };
    if ("now" in data) return post(data.ask, toForm(values), opener);
    const dialog = byId("ask"), form = dialog.querySelector("form");
    form.reset();
    form.action = data.ask;
    byId("ask-title").textContent = data.title;
    byId("ask-text").textContent = data.text ?? "";
    byId("ask-text").hidden = !data.text;
    byId("ask-refusal").hidden = true;
    const fields = byId("ask-fields");
    fields.replaceChildren(...Object.entries(values).flatMap(([name, value]) => [value].flat().map((one) => hidden(name, one))));
    const more = data.fields ? byId(data.fields) : null;
    if (more) fields.append(more.content.cloneNode(true));
    const reason = byId("ask-reason");
    byId("ask-reason-field").hidden = !data.reason;
    reason.disabled = !data.reason;
    reason.required = data.reason === "required";
    dialog.querySelector("#ask-reason-field label").textContent = data.reason === "required" ? "Reason" : "Reason (optional)";
    byId("ask-submit").textContent = data.button;
    byId("ask-submit").className = data.danger ? "danger" : "primary";
    dialog.querySelector("[data-dialog=close]").textContent = data.keep || "Keep as it is";
    dialog.showModal();
    const first = more ? fields.querySelector("input:not([type=hidden]), select, textarea") : null;
    (data.reason ? reason : first ?? byId("ask-submit")).focus();
  }

  function hidden(name, value) {
    const input = document.createElement("input");
    Object.assign(input, { type: "hidden", name, value });
    return input;
  }

  function toForm(values) {
    const form = new FormData();
    for (const [name, value] of Object.entries(values)) for (const one of [value].flat()) form.append(name, one);
    return form;
  }

  // A button of a selection sends what is ticked.
  function selected(source) {
    if (!(source instanceof Element) || !source.dataset.selection) return {};
    const ticked = document.querySelectorAll(`input[name="${source.dataset.selection}"]:checked`);
    return { [source.dataset.selection]: [...ticked].map((one) => one.value) };
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.closest("#ask")) {
      event.preventDefault();
      post(form.action, new FormData(form), event.submitter, form.closest("dialog"));
    } else if (form.matches("[data-act]")) {
      event.preventDefault();
      post(form.action, new FormData(form, event.submitter), event.submitter);
    }
  });

  // Enter in a reason would do what cannot be undone: there, only the button does.
  document.addEventListener("keydown", (event) => {
    const dialog = event.target.closest?.("dialog");
    if (event.key === "Enter" && event.target.matches?.("input") && dialog?.querySelector("button[type=submit].danger")) event.preventDefault();
  });

  async function post(url, body, button, dialog) {
    if (button) { button.disabled = true; button.classList.add("is-busy"); }
    let answer;
    try {
      const headers = { "X-CSRFToken": document.body.dataset.csrf, "X-Requested-With": "fetch", Accept: "application/json" };
      const response = await fetch(url, { method: "POST", body, headers, redirect: "manual" });
      answer = await read(response);
    } catch {
      answer = { refused: "Cannot reach the server. Check the status before you try again." };
    }
    if (button) { button.disabled = false; button.classList.remove("is-busy"); }
    if (answer.location) { location.assign(answer.location); return answer; }
    if (dialog && answer.refused) {
      byId("ask-refusal").textContent = answer.refused;
      byId("ask-refusal").hidden = false;
      return answer;
    }
    dialog?.close();
    notify(answer);
    if (!answer.refused) htmx.trigger(document.body, "console:acted");
    if (document.activeElement === document.body) (opener?.isConnected ? opener : byId("main"))?.focus({ preventScroll: true });
    return answer;
  }

  async function read(response) {
    if (response.type === "opaqueredirect" || response.status === 401) return { refused: "Cannot do that: you are signed out. Reload the page." };
    if (response.headers.get("Content-Type")?.startsWith("application/json")) return response.json();
    if (response.status === 403) return { refused: "Cannot do that: you are signed out, or you do not have the permission." };
    if (response.status === 404) return { refused: "Cannot do that: it no longer exists." };
    if (response.status === 400) return { refused: await response.text() };
    return { refused: "Cannot do that: the server failed. Its log has the error." };
  }

  self.notify = notify;
  function notify({ done, refused, problems = [] }) {
    const place = byId("notices"), line = document.createElement("div"), close = document.createElement("button");
    line.className = `notice ${refused ? "error" : problems.length ? "warning" : "done"}`;
    line.setAttribute("role", refused ? "alert" : "status");
    const text = document.createElement("p");
    text.textContent = refused ?? done ?? "";
    line.append(text);
    if (problems.length) {
      const list = document.createElement("ul");
      list.append(...problems.map((problem) => Object.assign(document.createElement("li"), { textContent: problem })));
      line.append(list);
    }
    Object.assign(close, { type: "button", className: "link", textContent: "Dismiss" });
    close.dataset.notice = "close";
    line.append(close);
    place.replaceChildren(line);
    if (!refused && !problems.length) setTimeout(() => line.remove(), 8_000);
  }
})();
