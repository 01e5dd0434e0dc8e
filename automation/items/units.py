"""What a loop works on at a time: one item, or one group of a ``GroupStage``."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import Any, NamedTuple

from automation.items import keys, store
from automation.items.background_connection import BackgroundConnection
from automation.items.leased_slice import LeasedSlice
from automation.items.store import Chunk
from automation.models import StageRun
from automation.pipeline import definition
from automation.pipeline.definition import GROUP

MAX_ERROR = 2_000


class Failure(NamedTuple):
    """An item that is given up, for :class:`ItemFailure`. ``error`` has no NUL characters."""

    key: str
    payload: dict[str, Any]
    error: str
    attempts: int


Place = tuple[Chunk, int]
"""Where an item was read: chunk and row."""


class Unit:
    """``key`` is that of the first item, unique in the stage; outputs are keyed by it. ``last_key`` is the cursor's.

    ``given`` is what the stage's ``process`` takes: the payload, or those of the group.
    """

    __slots__ = ("_places", "given", "key", "last_key", "prefix", "size")

    def __init__(self, prefix: str, first: str, last: str, places: Sequence[Place], given: Any) -> None:
        self.key = prefix + first
        self.last_key = last
        self.given = given
        self.size = len(places)
        self.prefix = prefix
        self._places = places

    def reloaded(self) -> Any:
        """``given`` as it is stored, for another attempt: the one before may have changed what it was handed."""
        payloads = [chunk.stored(row) for chunk, row in self._places]
        return payloads if isinstance(self.given, list) else payloads[0]

    def failures(self, error: BaseException, attempts: int) -> list[Failure]:
        """One failure for each item of the unit, with the item as it is stored."""
        return self.given_up(f"{type(error).__name__}: {error}", attempts)

    def given_up(self, why: str, attempts: int) -> list[Failure]:
        """``failures`` in the words of the caller that gives the unit up."""
        why = error_text(why)
        return [
            Failure(self.prefix + chunk.rows[row][0], chunk.stored(row), why, attempts) for chunk, row in self._places
        ]


def error_text(why: str) -> str:
    """``why`` as it is kept with a failure."""
    return why.replace("\x00", "")[:MAX_ERROR].encode(errors="replace").decode()


class UnitReader:
    """What is left of ``work``, a slice of ``stage_run``, in order. Slices are cut at group boundaries.

    Items are read ahead on the connection ``ahead``, if there is one.
    """

    def __init__(self, work: LeasedSlice, stage_run: StageRun, ahead: BackgroundConnection | None = None) -> None:
        assert work.source_id is not None
        stage = definition.of(stage_run)
        self.prefix = prefix_of(stage_run, work.source_id)
        """What the keys of the units begin with, before the key of the first item."""
        self.is_grouped = stage.interface == GROUP
        self.pairs: Iterator[tuple[str, Any]]
        """(key, what the stage's ``process`` takes); the key is the item's or that of the group's first, and has no
        prefix."""
        self._places: Sequence[Place] = ()
        self._chunk: Chunk
        chunks = store.read_chunks(
            work.source_id, first=work.first_key, after=work.cursor, up_to=work.last_key, ahead=ahead
        )
        first = list(islice(chunks, 1))
        rows = self._rows(chain(first, chunks))
        self.pairs = self._groups(rows, stage.group_size) if self.is_grouped else chain.from_iterable(rows)

    def unit(self, key: str, given: Any) -> Unit:
        """The pair that was handed out last, with all that is known of it."""
        places = self._places
        if not self.is_grouped:
            places = ((self._chunk, bisect_left(self._chunk.rows, key, key=itemgetter(0))),)
        return Unit(self.prefix, key, self.last_key if self.is_grouped else key, places, given)

    @property
    def size(self) -> int:
        """Items of the group that was handed out last."""
        return len(self._places)

    @property
    def last_key(self) -> str:
        """The key of the last item of the group that was handed out last, without the prefix."""
        chunk, row = self._places[-1]
        return chunk.rows[row][0]

    def _rows(self, chunks: Iterable[Chunk]) -> Iterator[list[tuple[str, dict[str, Any]]]]:
        for chunk in chunks:
            self._chunk = chunk
            yield chunk.rows

    def _groups(
        self, rows: Iterable[list[tuple[str, dict[str, Any]]]], size: int
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        places = ((self._chunk, row) for some in rows for row in range(len(some)))
        while group := list(islice(places, size)):
            self._places = group
            items = [chunk.rows[row] for chunk, row in group]
            yield items[0][0], [payload for _, payload in items]


def units_of(work: LeasedSlice, stage_run: StageRun) -> Iterator[Unit]:
    """The units of ``work`` that are left, in order."""
    reading = UnitReader(work, stage_run)
    for key, given in reading.pairs:
        yield reading.unit(key, given)


def remaining_unit(work: LeasedSlice, stage_run: StageRun) -> Unit | None:
    """All that is left of ``work`` as one unit, for who gives it up. It takes no code of the stage."""
    assert work.source_id is not None
    chunks = store.read_chunks(work.source_id, first=work.first_key, after=work.cursor, up_to=work.last_key)
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
