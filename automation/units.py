"""What a loop works on at a time: one item, or one group of a ``GroupStage``; and one attempt at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from django.db import InterfaceError, OperationalError, connection

from automation import copying, keys
from automation.context import StageContext
from automation.models import ItemFailure, StageRun
from automation.pipeline import AnyStage, GroupStage, Payload, TryLater, get_pipeline

if TYPE_CHECKING:
    from automation.leases import Work

MAX_BACKOFF = 60.0
MAX_ERROR = 2_000


@dataclass(slots=True)
class Outcome:
    """What came of a unit: COPY rows, or the error of the last of ``attempts``."""

    outputs: list[bytes] = field(default_factory=list)
    error: BaseException | None = None
    attempts: int = 1


@dataclass(slots=True)
class Unit:
    """``key`` is that of the first item, unique in the stage; outputs are keyed by it. ``last_key`` is the cursor's."""

    key: str
    last_key: str
    items: list[tuple[str, Payload]]
    size: int
    prefix: str = ""

    def failures(self, stage_run: StageRun, outcome: Outcome) -> list[ItemFailure]:
        """One failure for each item of the unit."""
        error = f"{type(outcome.error).__name__}: {outcome.error}".replace("\x00", "")[:MAX_ERROR]
        attempts = outcome.attempts
        return [
            ItemFailure(stage_run=stage_run, key=self.prefix + key, payload=payload, error=error, attempts=attempts)
            for key, payload in self.items
        ]


def units_of(stage: AnyStage, work: Work, stage_run: StageRun) -> Iterator[Unit]:
    """The units of ``work``, a slice of ``stage_run``, that are left, in order. Slices are cut at group boundaries."""
    assert work.source_id is not None
    prefix = _prefix(stage_run, work.source_id)
    items = copying.read(work.source_id, first=work.first_key, after=work.cursor, up_to=work.last_key)
    if not isinstance(stage, GroupStage):
        for item in items:
            yield Unit(prefix + item[0], item[0], [item], 1, prefix)
        return
    while group := list(islice(items, stage.group_size)):
        yield Unit(prefix + group[0][0], group[-1][0], group, len(group), prefix)


def _prefix(stage_run: StageRun, source_id: int) -> str:
    """Two branches make items of the same keys from the same items: where they meet, the keys say which is which."""
    sources = get_pipeline(stage_run.run.pipeline).predecessors(stage_run.slug)
    if len(sources) < 2:
        return ""
    return keys.of_source(sources.index(StageRun.objects.values_list("slug", flat=True).get(pk=source_id)))


def attempt(stage: AnyStage, unit: Unit, ctx: StageContext, made_by: bytes) -> Outcome:
    """Try ``unit`` as often as the stage allows; waits between tries end with :class:`Interrupted` at a stop."""
    outcome = Outcome()
    backoff = stage.retry_backoff
    while True:
        try:
            made = (
                stage.process([item for _, item in unit.items], ctx)
                if isinstance(stage, GroupStage)
                else stage.process(unit.items[0][1], ctx)
            )
            outcome.outputs = copying.output_rows(made_by, unit.key, made)
            return outcome
        except TryLater:
            raise
        except Exception as error:
            if isinstance(error, OperationalError | InterfaceError) and not connection.is_usable():
                raise
            ctx.logger.warning("Item %s failed (try %d): %s", unit.key, outcome.attempts, error)
            if outcome.attempts > stage.retries:
                outcome.error = error
                return outcome
            outcome.attempts += 1
            ctx.back_off(min(backoff, MAX_BACKOFF))
            backoff *= 2
