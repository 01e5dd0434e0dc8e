"""The failed tasks of the page of tasks, and what may be done with them: run again, as they were or with changes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.db.models import BooleanField, ExpressionWrapper, Q

from pause_manager.console.pages import Done, Refused, Request
from pause_manager.console.viewer import Viewer
from pause_manager.models import FailedTask
from pause_manager.pausable import failed_tasks
from pause_manager.pausable.failed_tasks import Arguments, RetryRefused

VIEW, RETRY = "pause_manager.view_failedtask", "pause_manager.change_failedtask"
"""To see arguments, errors and tracebacks; to have a task run again. Changing arguments takes both."""
SHOWN = 50
MOST = 200
"""Tasks of one action."""
LONGEST_FORM = 4_096
"""Longer arguments are retried as they are: no form shows them."""


@dataclass(frozen=True)
class Failed:
    """One failed task as the page shows it; ``task`` has no message."""

    task: FailedTask
    error: str
    """As far as the viewer may see it."""
    arguments: str
    form: Arguments | None
    """What a form begins with; ``None`` if they cannot be changed here."""
    is_retryable: bool
    """Whether it can run again: it has not been retried, and was small enough to be kept whole."""

    @property
    def args(self) -> str:
        return _as_text(self.form.args) if self.form else ""

    @property
    def kwargs(self) -> str:
        return _as_text(self.form.kwargs) if self.form else ""


def listed(viewer: Viewer, name: str) -> tuple[list[Failed], bool]:
    """Return the last tasks that failed, of those called ``name`` if there is one; and whether there are more."""
    is_shown = viewer.has_perm(VIEW)
    rows = FailedTask.objects.annotate(is_kept=ExpressionWrapper(Q(envelope__isnull=False), BooleanField()))
    found = list(
        (rows.filter(task_name=name) if name else rows)
        .order_by("-id")
        .defer("message", "envelope", "body")[: SHOWN + 1]
    )
    forms = _forms([row.pk for row in found[:SHOWN]]) if is_shown and viewer.has_perm(RETRY) else {}
    return [_of(row, forms.get(row.pk), is_shown=is_shown) for row in found[:SHOWN]], len(found) > SHOWN


def _forms(pks: list[int]) -> dict[int, Arguments]:
    rows = FailedTask.objects.filter(pk__in=pks, retried_at=None, body__isnull=False).defer("envelope", "traceback")
    small = [row for row in rows if row.body is not None and len(row.body) <= LONGEST_FORM]
    return {row.pk: form for row in small if (form := failed_tasks.arguments_of(row)) is not None}


def _of(row: Any, form: Arguments | None, *, is_shown: bool) -> Failed:
    is_retryable = row.retried_at is None and row.is_kept
    if not is_shown:
        return Failed(row, row.error_class, "", None, is_retryable)
    error = f"{row.error_class}: {row.error}" if row.error else row.error_class
    named = "" if row.kwargs_text in ("", "{}") else f", {row.kwargs_text}"
    return Failed(row, error, f"{row.args_text}{named}", form, is_retryable)


def retry(request: Request) -> Done:
    """Have the chosen tasks run again with the arguments that they had."""
    done, problems = 0, []
    for pk in _chosen(request):
        try:
            failed_tasks.retry(pk, actor=request.actor, reason=request.reason)
            done += 1
        except RetryRefused as refusal:
            problems.append(str(refusal))
    if not done:
        raise Refused(" ".join(problems[:3]))
    return Done(
        f"Retried: {done:,}. {'They run' if done > 1 else 'It runs'} as soon as nothing holds.", "", tuple(problems)
    )


def retry_changed(request: Request) -> str:
    """Have one task run again with other arguments, given as JSON."""
    if not may_change(request.user):
        raise Refused("Cannot change the arguments: you do not have the permission to view failed tasks.")
    chosen = _chosen(request)
    if len(chosen) != 1:
        raise Refused("Cannot change the arguments of several tasks at once: select one.")
    args = _json(request, "args", "arguments", list, 'a JSON array, such as [17, "blue"]')
    kwargs = _json(request, "kwargs", "named arguments", dict, 'a JSON object, such as {"size": 3}')
    failed_tasks.retry(chosen[0], actor=request.actor, reason=request.reason, changed=Arguments(args, kwargs))
    return "Retried with other arguments. It runs as soon as nothing holds."


def may_change(user: Any) -> bool:
    """Whether ``user`` may change arguments, which takes seeing them."""
    return bool(user.has_perm(RETRY) and user.has_perm(VIEW))


def _chosen(request: Request) -> list[int]:
    given = list(dict.fromkeys(request.lists("failed")))
    if not given:
        raise Refused("Cannot retry: no failed task is selected.")
    if len(given) > MOST:
        raise Refused(f"Cannot retry {len(given):,} tasks at once: expected {MOST} at most.")
    if not all(text.isascii() and text.isdecimal() and len(text) < 19 for text in given):
        raise Refused("Cannot retry: expected the numbers of failed tasks.")
    return sorted(map(int, given))


def _json(request: Request, name: str, label: str, kind: type, expected: str) -> Any:
    text = request.values.get(name, "").strip()
    if len(text) > failed_tasks.LARGEST_BODY:
        raise Refused(f"Cannot retry: expected {label} of {failed_tasks.LARGEST_BODY:,} characters at most.")
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(
            f"Cannot retry: expected {expected} as {label}, got: {text[:60] or 'nothing'} ({error})."
        ) from error
    if not isinstance(found, kind):
        raise Refused(f"Cannot retry: expected {expected} as {label}, got: {text[:60]}.")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _as_text(value: Any) -> str:
    return json.dumps(value, indent=1 if len(json.dumps(value)) > 60 else None, ensure_ascii=False)
