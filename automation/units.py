"""What a loop works on at a time: one item, or one group of a ``GroupStage``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from automation import copying, definition, keys
from automation.checkpoint import Failure
from automation.copying import Chunk
from automation.definition import GROUP
from automation.models import StageRun

if TYPE_CHECKING:
    from automation.aside import Aside
    from automation.leases import Work

MAX_ERROR = 2_000

Place = tuple[Chunk, int]
"""Where an item was read: chunk and row."""


class Unit:
    """``key`` is that of the first item, unique in the stage; outputs are keyed by it. ``last_key`` is the cursor's.

    ``given`` is what the stage's ``process`` takes: the payload, or those of the group. A plain class, for one is made
    for each item.
    """

    __slots__ = ("_places", "given", "key", "last_key", "prefix", "size")

    def __init__(self, prefix: str, first: str, last: str, places: Sequence[Place], given: Any) -> None:
        self.key = prefix + first
        self.last_key = last
        self.given = given
        self.size = len(places)
        self.prefix = prefix
        self._places = places

    def anew(self) -> Any:
        """``given`` as it is stored, for another attempt: the one before may have changed what it was handed."""
        payloads = [chunk.stored(row) for chunk, row in self._places]
        return payloads if isinstance(self.given, list) else payloads[0]

    def failures(self, error: BaseException, attempts: int) -> list[Failure]:
        """One failure for each item of the unit, with the item as it is stored."""
        return self.given_up(f"{type(error).__name__}: {error}", attempts)

    def given_up(self, why: str, attempts: int) -> list[Failure]:
        """``failures`` in the words of whoever gave the unit up."""
        why = told(why)
        return [
            Failure(self.prefix + chunk.rows[row][0], chunk.stored(row), why, attempts) for chunk, row in self._places
        ]


def told(why: str) -> str:
    """``why`` as it is kept with a failure."""
    return why.replace("\x00", "")[:MAX_ERROR].encode(errors="replace").decode()


def units_of(work: Work, stage_run: StageRun, ahead: Aside | None = None) -> Iterator[Unit]:
    """The units of ``work``, a slice of ``stage_run``, that are left, in order. Slices are cut at group boundaries.

    Items are read ahead on the connection ``ahead``, if there is one.
    """
    assert work.source_id is not None
    stage = definition.of(stage_run)
    prefix = prefix_of(stage_run, work.source_id)
    chunks = copying.read_chunks(
        work.source_id, first=work.first_key, after=work.cursor, up_to=work.last_key, ahead=ahead
    )
    if stage.interface != GROUP:
        for chunk in chunks:
            for row, (key, payload) in enumerate(chunk.rows):
                yield Unit(prefix, key, key, ((chunk, row),), payload)
        return
    places = ((chunk, row) for chunk in chunks for row in range(len(chunk.rows)))
    while group := list(islice(places, stage.group_size)):
        rows = [chunk.rows[row] for chunk, row in group]
        yield Unit(prefix, rows[0][0], rows[-1][0], group, [payload for _, payload in rows])


def rest_of(work: Work, stage_run: StageRun) -> Unit | None:
    """All that is left of ``work`` as one unit, for who gives it up. It takes no code of the stage."""
    assert work.source_id is not None
    chunks = copying.read_chunks(work.source_id, first=work.first_key, after=work.cursor, up_to=work.last_key)
    found = [(key, (chunk, row)) for chunk in chunks for row, (key, _) in enumerate(chunk.rows)]
    if not found:
        return None
    places = [place for _, place in found]
    return Unit(prefix_of(stage_run, work.source_id), found[0][0], found[-1][0], places, [])


def prefix_of(stage_run: StageRun, source_id: int) -> str:
    """What the keys of the units begin with, before the key of the first item.

    Two branches make items of the same keys from the same items: where they meet, the keys say which is which.
    """
    sources = definition.of(stage_run).after
    if len(sources) < 2:
        return ""
    return keys.of_source(sources.index(StageRun.objects.values_list("slug", flat=True).get(pk=source_id)))
