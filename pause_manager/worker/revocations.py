"""What is revoked while it is parked stays revoked: a worker that forgets at its restart is told by the entry.

Celery keeps what was revoked in the memory of workers. Every worker that hears of a revoke marks the entries of those
tasks; a worker that receives a message sent on from a marked one lets Celery end it as it ends what is revoked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any

from celery.utils.functional import maybe_list
from celery.worker.control import Panel

from pause_manager.pausable import confirmations
from pause_manager.worker.decisions import decisions

Command = Callable[..., Any]


def listen() -> None:
    """Have the worker's remote control tell us of revokes too."""
    for name, mark in (("revoke", _by_id), ("terminate", _by_id), ("revoke_by_stamped_headers", _by_stamps)):
        command = Panel.data[name]
        if getattr(command, "marks", None) is None:
            Panel.data[name] = _marking(command, mark)


def _marking(command: Command, mark: Callable[[Mapping[str, Any]], None]) -> Command:
    @wraps(command)
    def told(state: Any, *args: Any, **named: Any) -> Any:
        answer = command(state, *args, **named)
        mark(named)
        return answer

    told.marks = mark  # type: ignore[attr-defined]
    return told


def _by_id(named: Mapping[str, Any]) -> None:
    if ids := [str(one) for one in maybe_list(named.get("task_id")) or []]:
        decisions.do(partial(_mark, task_ids=ids))


def _by_stamps(named: Mapping[str, Any]) -> None:
    headers = named.get("headers") or {}
    if isinstance(headers, list):  # as Celery reads a command line
        headers = dict(one.split("=", 1) for one in headers if "=" in one)
    if stamps := {str(name): [str(one) for one in maybe_list(values) or []] for name, values in headers.items()}:
        decisions.do(partial(_mark, stamps=stamps))


def _mark(**what: Any) -> None:
    confirmations.mark_revoked(**what)
