"""What may be done with entries of the pause queue: with one, or with those that are ticked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pause_manager import manager, workloads
from pause_manager.console.access import refusing
from pause_manager.console.pages import Done, Refused, Request
from pause_manager.models import PauseQueueEntry
from pause_manager.pause_queue import stuck

MOST = 200
"""Entries of one action."""


@refusing("it takes the permission to change pause queue entries, or the work that waits in them")
def may_change(user: Any) -> bool:
    """Return whether ``user`` may change any entries; which ones, each action asks."""
    return any(user.has_perm(name) for name in workloads.change_permissions())


@refusing("To see this page, you need the permission to view pause queue entries, or the work that waits in them.")
def may_view(user: Any) -> bool:
    """Return whether ``user`` may read any entries."""
    return any(user.has_perm(name) for name in workloads.view_permissions())


def _chosen(request: Request) -> list[PauseQueueEntry]:
    """Return the entries that are meant and that the user may change. Raises ``Refused``."""
    given = request.lists("entry")
    if not given:
        raise Refused("Cannot do that: no entry is selected.")
    if len(given) > MOST:
        raise Refused(f"Cannot do that with {len(given):,} entries at once: expected {MOST} at most.")
    if not all(text.isascii() and text.isdecimal() and len(text) < 19 for text in given):
        raise Refused("Cannot do that: expected the numbers of entries.")
    rows = workloads.changeable_entries(request.user).unfinished().light().filter(pk__in=map(int, given))
    found = list(rows.order_by("priority", "paused_at", "id"))
    if not found:
        raise Refused("Cannot do that: it does not wait any more.")
    return found


def _told(verb: str, done: int, problems: list[str]) -> Done:
    if not done and problems:
        raise Refused(" ".join(problems[:3]))
    return Done(f"{verb}: {done:,}.", problems=tuple(problems))


def force(request: Request) -> Done:
    """Start them anyway, whatever the capacity says."""
    reason = request.required("reason", "a reason")
    done, problems = 0, []
    for entry in _chosen(request):
        if manager.force_resume(entry.pk, actor=request.actor, reason=reason):
            done += 1
        else:
            problems.append(f"Cannot start {_name(entry)}: it does not wait any more.")
    return _told("Started anyway", done, problems)


def hold(request: Request) -> Done:
    """Hold the runs that wait until an operator resumes them."""
    reason = request.required("reason", "a reason")
    done, problems = 0, []
    for entry in _chosen(request):
        if not entry.is_run:
            problems.append(f"Cannot hold {_name(entry)}: it is not a run; hold its queue.")
        elif manager.force_pause(entry.pk, actor=request.actor, reason=reason):
            done += 1
        else:
            problems.append(f"Cannot hold {_name(entry)}: it does not wait any more.")
    return _told("Held", done, problems)


def _on_messages(verb: str, act: Callable[[Request, stuck.Selection], list[int]]) -> Callable[[Request], Done]:
    def run(request: Request) -> Done:
        request.required("reason", "a reason")
        found = _chosen(request)
        messages = [entry for entry in found if not entry.is_run]
        problems = [f"Cannot change {_name(entry)}: pause or cancel the run." for entry in found if entry.is_run]
        changed = act(request, stuck.Selection(tuple(entry.pk for entry in messages))) if messages else []
        problems += [
            f"Cannot change {_name(entry)}: a worker has taken it up." for entry in messages if entry.pk not in changed
        ]
        return _told(verb, len(changed), problems)

    return run


def _meant(request: Request) -> dict[str, Any]:
    among = workloads.changeable_entries(request.user)
    return {"actor": request.actor, "reason": request.reason, "among": among}


drop = _on_messages("Dropped", lambda request, meant: stuck.drop(meant, **_meant(request)))
reroute = _on_messages(
    "Rerouted", lambda request, meant: stuck.reroute(meant, request.required("queue", "the queue"), **_meant(request))
)
rename = _on_messages(
    "Renamed",
    lambda request, meant: stuck.rename_entries(meant, request.required("task", "the task"), **_meant(request)),
)


def _name(entry: PauseQueueEntry) -> str:
    return f"entry {entry.pk} ({entry.task_name})"
