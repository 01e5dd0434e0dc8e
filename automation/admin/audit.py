"""Audit events of the admin's forms: accounts, sites and memberships added, changed, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Model
from django.http import HttpRequest

from pause_manager.admin.base import actor_of
from pause_manager.observability import audit


def saved(request: HttpRequest, form: Any, formsets: Sequence[Any], *, is_new: bool) -> None:
    """Record one event for the form with its inlines, or none if nothing changed."""
    before = None if is_new else {name: _json_value(form.initial.get(name)) for name in form.changed_data}
    after = {name: _json_value(form.cleaned_data.get(name)) for name in form.changed_data}
    inlines: dict[str, list[str]] = {}
    for formset in formsets:
        for word, found in (
            ("added", formset.new_objects),
            ("changed", [row for row, _ in formset.changed_objects]),
            ("removed", formset.deleted_objects),
        ):
            if found:
                inlines.setdefault(word, []).extend(str(row) for row in found)
    if is_new or after or inlines:
        action = "created" if is_new else "changed"
        scope, actor = _scope(form.instance), actor_of(request)
        audit.record(action, scope=scope, actor=actor, details=inlines, before=before, after=after)


def deleted(request: HttpRequest, rows: Sequence[Model]) -> None:
    """Record one event for each of ``rows``, which are about to be deleted."""
    scopes = [_scope(row) for row in rows]
    changes: dict[str, audit.Change] = {_scope(row): ({"name": str(row)}, None) for row in rows}
    audit.record_each("deleted", [(scope, {}) for scope in scopes], actor=actor_of(request), changes=changes)


def _scope(row: Model) -> str:
    return f"{row._meta.model_name}:{row.pk}"


def _json_value(value: Any) -> Any:
    if isinstance(value, Model):
        return value.pk
    return value if value is None or isinstance(value, bool | int | float) else str(value)
