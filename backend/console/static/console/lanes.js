// Waiting runs are dragged by their handle, with mouse or finger; the buttons beside it do the same by keyboard.
// The rows stay in the server's order: the dragged one is only drawn elsewhere, until the server has answered.
(() => {
  "use strict";

  const EDGE = 70, STEP = 14, LONGEST_MS = 4_000;
  let drag = null;

  document.addEventListener("pointerdown", (event) => {
    const grip = event.target.closest?.("[data-grip]");
    if (!grip || event.button || drag) return;
    event.preventDefault();
    const row = grip.closest("tr");
    drag = { id: row.id, grip, pointer: event.pointerId, y: event.clientY, scroll: scrollY, at: event.clientY, place: null };
    grip.setPointerCapture(event.pointerId);
    drag.timer = setInterval(scroll, 16);
    draw();
  });
  document.addEventListener("pointermove", (event) => {
    if (drag?.pointer !== event.pointerId) return;
    drag.at = event.clientY;
    draw();
  });
  document.addEventListener("pointerup", (event) => { if (drag?.pointer === event.pointerId) drop(); });
  document.addEventListener("pointercancel", (event) => { if (drag?.pointer === event.pointerId) cancel(); });
  document.addEventListener("keydown", (event) => { if (drag && event.key === "Escape") cancel(); });
  // An update has come in between: the row is perhaps elsewhere, or gone.
  document.addEventListener("console:updated", () => {
    if (drag) rowOf(drag.id) ? draw() : cancel();
  });
  const rowOf = (id) => document.querySelector(`tr[id="${id}"]`);

  function scroll() {
    const by = drag.at < EDGE + 56 ? -STEP : drag.at > innerHeight - EDGE ? STEP : 0;
    if (!by) return;
    scrollBy(0, by);
    draw();
  }

  // The handle may be another element after an update: what is drawn follows the id.
  function draw() {
    const row = rowOf(drag.id), body = row.parentElement;
    const others = [...body.rows].filter((one) => one !== row);
    const under = others.find((one) => drag.at < middle(one));
    // The last that is listed is not the last of all where more wait.
    const after = under ?? ("all" in body.dataset ? null : others.at(-1));
    clean(body);
    drag.place = after === undefined ? null : { row, after, isMoved: after !== following(row) };
    row.classList.add("is-dragged");
    row.style.transform = `translateY(${drag.at - drag.y + scrollY - drag.scroll}px)`;
    if (!drag.place?.isMoved) return;
    if (after) after.classList.add("drop-before");
    else others.at(-1).classList.add("drop-after");
  }
  const middle = (row) => { const box = row.getBoundingClientRect(); return box.top + box.height / 2; };
  const following = (row) => row.nextElementSibling;

  function clean(body) {
    for (const row of body.rows) row.classList.remove("drop-before", "drop-after");
  }

  function end() {
    const { place, id, timer } = drag;
    clearInterval(timer);
    drag = null;
    const row = rowOf(id);
    if (row) clean(row.parentElement);
    return { row, place };
  }

  function back(id) {
    const row = drag?.id === id ? null : rowOf(id);
    row?.classList.remove("is-dragged", "is-moving");
    if (row) row.style.transform = "";
  }

  function cancel() {
    const { id } = drag;
    end();
    back(id);
  }

  async function drop() {
    const { id } = drag, { row, place } = end();
    if (!row || !place?.isMoved) { back(id); return; }
    row.classList.add("is-moving");
    const run = id.replace("lane-run-", ""), other = place.after?.id.replace("lane-run-", "");
    const values = { do: "move", run, ...(other ? { where: "before", other } : { where: "back" }) };
    const answer = await self.ask({ ask: row.parentElement.dataset.order, now: "", values: JSON.stringify(values) });
    if (answer.refused) back(id);
    else setTimeout(back, LONGEST_MS, id); // the update that shows it takes the drawing away
  }
})();
