"""Which runs are under a hold of some kind, read once for all statements of a page."""

from __future__ import annotations

import re
from collections.abc import Iterable

from django.db.models import BooleanField, F, Func, Q, TextField, Value

from pause_manager import scopes
from pause_manager.models import Hold

_RUN = re.compile(rf"{scopes.RUNS}([0-9a-f]{{8}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{12}})")


class Held:
    """Found from the holds, which are few where the runs are many, and given to each statement as an array.

    As a part of each statement, all nine counts of a page would look through the holds; as a join, for each run.
    """

    def __init__(self) -> None:
        self._ids: dict[tuple[str, ...], str] = {}

    def by(self, kinds: Iterable[str]) -> Q:
        """Runs that a hold of one of ``kinds`` is on."""
        wanted = tuple(kinds)
        if wanted not in self._ids:
            self._ids[wanted] = _read(wanted)
        array = Value(self._ids[wanted], TextField())
        is_one = Func(
            F("pk"), array, template="(%(expressions)s::uuid[]))", arg_joiner=" = ANY(", output_field=BooleanField()
        )
        return Q(is_one)


def _read(kinds: tuple[str, ...]) -> str:
    holds = Hold.objects.active().filter(kind__in=kinds, scope__startswith=scopes.RUNS).order_by()
    found = map(_RUN.fullmatch, holds.values_list("scope", flat=True))
    return f"{{{','.join({match[1] for match in found if match is not None})}}}"
