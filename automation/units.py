"""What a loop works on at a time: one item, or one group of a ``GroupStage``; and one attempt at it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.db import connection

from automation import copying, definition, keys
from automation.checkpoint import Failure
from automation.context import StageContext, TookTooLong
from automation.definition import GROUP
from automation.models import StageRun
from automation.pipeline import AnyStage, Payload, TryLater
from pause_manager import database
from pause_manager.worker.slots import ATTEMPT, BEGUN, LIMIT

if TYPE_CHECKING:
    from automation.aside import Aside
    from automation.leases import Work

MAX_BACKOFF = 60.0
MAX_ERROR = 2_000


class GivenUp(Exception):
    """The last of ``attempts`` at a unit failed with ``error``."""

    def __init__(self, error: BaseException, attempts: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.attempts = attempts


class Unit:
    """``key`` is that of the first item, unique in the stage; outputs are keyed by it. ``last_key`` is the cursor's.

    ``given`` is what the stage's ``process`` takes: the payload, or those of the group. A plain class, for one is made
    for each item.
    """

    __slots__ = ("given", "items", "key", "last_key", "prefix", "size")

    def __init__(self, prefix: str, items: list[tuple[str, Payload]], given: Any) -> None:
        self.key = prefix + items[0][0]
        self.last_key = items[-1][0]
        self.items = items
        self.given = given
        self.size = len(items)
        self.prefix = prefix

    def failures(self, error: BaseException, attempts: int) -> list[Failure]:
        """One failure for each item of the unit."""
        return self.given_up(f"{type(error).__name__}: {error}", attempts)

    def given_up(self, why: str, attempts: int) -> list[Failure]:
        """``failures`` in the words of whoever gave the unit up."""
        return [Failure(self.prefix + key, payload, told(why), attempts) for key, payload in self.items]


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
    items = copying.read(work.source_id, first=work.first_key, after=work.cursor, up_to=work.last_key, ahead=ahead)
    if stage.interface != GROUP:
        for item in items:
            yield Unit(prefix, [item], item[1])
        return
    while group := list(islice(items, stage.group_size)):
        yield Unit(prefix, group, [payload for _, payload in group])


def prefix_of(stage_run: StageRun, source_id: int) -> str:
    """What the keys of the units begin with, before the key of the first item.

    Two branches make items of the same keys from the same items: where they meet, the keys say which is which.
    """
    sources = definition.of(stage_run).after
    if len(sources) < 2:
        return ""
    return keys.of_source(sources.index(StageRun.objects.values_list("slug", flat=True).get(pk=source_id)))


def attempt(stage: AnyStage, unit: Unit, ctx: StageContext, at: memoryview[float], tried: int = 0) -> list[bytes]:
    """The outputs of ``unit`` (``copying.output_rows``), tried as often as the stage allows; else :class:`GivenUp`.

    Waits between tries end with :class:`Interrupted` at a stop. ``at`` is told of each try, see ``Slot.work``;
    ``tried`` is how often it took too long before, at the cost of its process.
    """
    if tried > stage.retries:
        raise GivenUp(TookTooLong("item_timeout", at[LIMIT]), tried)
    attempts = tried + 1
    while True:
        at[ATTEMPT] = attempts
        at[BEGUN] = time.monotonic()
        try:
            return copying.output_rows(unit.key, stage.process(unit.given, ctx))
        except TryLater:
            raise
        except (Exception, TookTooLong) as error:
            if database.is_away(error) and (database.is_read_only(error) or not connection.is_usable()):
                raise
            ctx.logger.warning("Item %s failed (try %d): %s", unit.key, attempts, error)
            if attempts > stage.retries:
                raise GivenUp(error, attempts) from error
        finally:
            at[BEGUN] = 0.0
        ctx.back_off(min(stage.retry_backoff * 2 ** (attempts - 1), MAX_BACKOFF))
        attempts += 1
