"""What ``Ctrl K`` finds of the fleet: the switch, machines, holds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.http import HttpRequest
from django.urls import reverse

from pause_manager import fleet
from pause_manager.console.palette import MOST_HITS, Ask, Hit
from pause_manager.console.shell import UNDRAINED
from pause_manager.fleet import drain
from pause_manager.models import Hold, WorkerNode
from pause_manager.models.fleet import OPERATE
from pause_manager.scopes import RUNS

REMEMBERED = timedelta(hours=1)
_WORDS = {
    "drain": "What is running ends by itself; nothing new starts.",
    "quiesce": "Loops stop at their next item; nothing new starts.",
}


def switch_found(request: HttpRequest, text: str) -> Iterable[Hit]:
    """``Pause the fleet`` or ``Resume the fleet``, for operators."""
    titles = ("pause the fleet (drain)", "pause the fleet (quiesce)", "resume the fleet")
    if not request.user.has_perm(OPERATE) or not any(text in title for title in titles):
        return
    state = fleet.state()
    if not state.is_readable:
        return
    url = reverse("console:fleet")
    if not state.is_paused:
        for mode, words in _WORDS.items():
            title = f"Pause the fleet ({mode})"
            if text in title.lower():
                ask = Ask(url, f"{title}?", "Pause the fleet", {"do": "pause", "mode": mode}, words, "required")
                yield Hit(title, "action", ask=ask.attributes())
    elif text in titles[2]:
        is_drained = drain.measure(state.mode).is_drained
        ask = Ask(
            url,
            "Resume the fleet?" if is_drained else "Resume although work is still running?",
            "Resume" if is_drained else "Resume anyway",
            {"do": "resume"} | ({} if is_drained else {"force": "1"}),
            "Workers take work again." + ("" if is_drained else f" {UNDRAINED}"),
            "required",
        )
        yield Hit("Resume the fleet", "action", ask=ask.attributes())


def machines_found(request: HttpRequest, text: str) -> Iterable[Hit]:
    """Machines by name, and what an operator can do with each."""
    if len(text) < 2:
        return
    wanted = text.removeprefix("hold ").removeprefix("release ").strip()
    url = reverse("console:fleet")
    names = WorkerNode.objects.seen_within(REMEMBERED).filter(name__icontains=wanted).order_by("name")
    listed = list(names.values_list("name", flat=True)[:MOST_HITS])
    held = set(Hold.objects.covering(f"node:{name}" for name in listed).values_list("scope", flat=True))
    for name in listed:
        scope = f"node:{name}"
        yield Hit(name, "machine", f"{url}#machine-{name}", "held" if scope in held else "")
        if request.user.has_perm(OPERATE):
            verb = "Release" if scope in held else "Hold"
            words = "Its workers take new work again." if scope in held else "Its workers take no new work."
            ask = Ask(url, f"{verb} {name}?", verb, {"do": verb.lower(), "scope": scope}, words, "optional")
            yield Hit(f"{verb} {name}", "action", ask=ask.attributes())


def holds_found(request: HttpRequest, text: str) -> Iterable[Hit]:
    """Holds in force by what they hold and why, for operators."""
    if len(text) < 2 or not request.user.has_perm(OPERATE):
        return
    wanted = text.removeprefix("release ").strip()
    rows = Hold.objects.active().filter(kind=Hold.Kind.OPERATOR).exclude(scope__startswith=RUNS)
    rows = rows.exclude(scope="fleet").exclude(scope__startswith="node:").filter(scope__icontains=wanted)
    for hold in rows.order_by("-id")[:MOST_HITS]:
        values = {"do": "release", "scope": hold.scope}
        words = "Work under it continues, unless another hold keeps it."
        ask = Ask(reverse("console:fleet"), f"Release {hold.scope}?", "Release", values, words, "optional")
        yield Hit(f"Release {hold.scope}", "hold", "", hold.reason[:80], ask.attributes())
