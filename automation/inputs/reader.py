"""What every reader of an input has in common, and the input that it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

from automation import conf
from automation.errors import InvalidInput
from automation.inputs.report import BLANK, DUPLICATE, FIRST_ITEMS, Payload, Report, Tally

Check = Callable[[Payload], object]
"""Raises :class:`InvalidInput` with the reason if the item cannot be used; readers add name and place."""
Numbered = Callable[[Tally], Iterator[tuple[int, Payload]]]
"""Yields each item with its place (line, row or number), and counts in the tally what it leaves out."""


def no_check(item: Payload) -> None:
    """Every item will do."""


@dataclass(frozen=True)
class Input:
    """A checked input. Iterating yields the same items in the same order, any number of times."""

    report: Report
    _numbered: Numbered

    def items(self) -> Iterator[Payload]:
        for _, item in self._numbered(Tally()):
            yield item

    def __iter__(self) -> Iterator[Payload]:
        return self.items()

    @property
    def count(self) -> int:
        return self.report.count

    @property
    def duplicates(self) -> int:
        return self.report.number_left_out(DUPLICATE)

    @property
    def blank(self) -> int:
        return self.report.number_left_out(BLANK)

    @property
    def encoding(self) -> str:
        return self.report.encoding


class Reader(ABC):
    """How a pipeline reads its input, and what forms say about it."""

    label: ClassVar[str] = "Input file"
    hint: ClassVar[str] = ""
    text_label: ClassVar[str] = "or paste it"
    accept: ClassVar[str] = ""
    """What a file chooser offers: extensions, separated by commas."""
    needs: ClassVar[str] = "a file or some text"
    """What is missing where nothing was given."""
    things: ClassVar[str] = "items"
    """What the items are called where there are none."""

    @abstractmethod
    def read(self, file: BinaryIO, name: str, check: Check = no_check) -> Input:
        """Read ``file``, which must be seekable and stay open while items are read; ``name`` is for messages.

        Every item is passed to ``check`` once. Raises :class:`InvalidInput` naming file, place and reason.
        """

    def from_records(self, records: Iterable[Any], name: str = "items", check: Check = no_check) -> Input:
        """Read items that came as JSON: objects, taken as they are."""
        given = list(records)

        def numbered(tally: Tally) -> Iterator[tuple[int, Payload]]:
            for number, record in enumerate(given, start=1):
                if not isinstance(record, dict):
                    raise refusal(name, f"expected an object, got: {record!r:.80}", "item", number)
                yield number, record

        return checked(Report(name, "items", unit="item"), numbered, check)


def checked(report: Report, numbered: Numbered, check: Check, things: str = "items") -> Input:
    """Read everything once: check every item, count, and keep the first few for a preview."""
    limit = conf.settings().max_input_items
    tally = Tally()
    first: list[Payload] = []
    count = 0
    for number, item in numbered(tally):
        count += 1
        if count > limit:
            raise refusal(report.name, f"expected at most {limit:,} items, got more", report.unit, number)
        if count <= FIRST_ITEMS:
            first.append(dict(item))
        try:
            check(item)
        except InvalidInput as error:
            raise refusal(report.name, str(error), report.unit, number) from None
    if not count:
        raise refusal(report.name, f"it has no {things}")
    return Input(report.counted(tally, count, first), numbered)


def refusal(name: str, reason: str, unit: str = "", number: int | None = None) -> InvalidInput:
    """The error that names the input, the place where it cannot be used, and why."""
    place = f"{unit} {number:,}: " if number is not None else ""
    return InvalidInput(f"Cannot use {name}: {place}{reason.removesuffix('.')}.")
