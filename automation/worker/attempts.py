"""The outcome of an attempt: whose fault it is that a stage's code ended as it did, and whether it is tried again.

One answer for items, groups and hooks, whatever the code raises. What a remote agent reports of an attempt is judged
where it is handed in: a failure is the item's, "try later" asks for patience, silence is nobody's fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum, auto
from itertools import count
from typing import TypeVar

from celery.exceptions import SoftTimeLimitExceeded

from automation.errors import FreezeLane, LeaseLost, NeedsInput
from automation.pipeline import AnyStage, TryLater
from automation.pipeline.context import Interrupted, StageContext
from automation.pipeline.retry_policy import backoff, is_tried_again
from pause_manager import database
from pause_manager.holds.stops import SHUTDOWN, Stop

Result = TypeVar("Result")


class Fault(Enum):
    """Whose fault an error is."""

    ITEM = auto()
    """The item's: it is tried again as often as its stage allows, then it has failed."""
    LATER = auto()
    """Nobody's: somebody outside asks to come again later."""
    PERSON = auto()
    """Nobody's: a person must look, or answer, before the item is done again."""
    OURS = auto()
    """Ours: the loop is to stop, or has lost its slice. The item is done again."""
    AWAY = auto()
    """The database's, which is away. The item is done again."""


class GivenUp(Exception):
    """The last of ``attempts`` failed with ``error``."""

    def __init__(self, error: BaseException, attempts: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.attempts = attempts


def cause_of(error: BaseException) -> BaseException:
    """What is to be judged of the errors that ended a task group together: a stop first, and the only one if it is one.

    They are an item's own as soon as one of them is, stops and what only a person can settle aside.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    errors = list(_leaves(error))
    stops = [each for each in errors if isinstance(each, Interrupted | LeaseLost | SoftTimeLimitExceeded)]
    asks = [each for each in errors if isinstance(each, FreezeLane | NeedsInput)]
    waits = [each for each in errors if isinstance(each, TryLater)]
    if stops:
        return stops[0]
    if asks:
        return asks[0]
    if len(waits) == len(errors):
        return max(waits, key=lambda later: later.seconds)
    return errors[0] if len(errors) == 1 else error


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def fault_of(error: BaseException, stop: Stop | None) -> Fault:
    """Whose fault ``error``, raised by the code of a stage, is. ``stop`` is why its loop must stop, if it must.

    An exit, a cancelled coroutine or the panic of a compiled extension is the item's like any other error: only when
    the process has been told to end does an exit mean what it says. An error of a database is one of ours only if our
    own connection is gone with it; else it speaks of what was asked for.
    """
    if isinstance(error, TryLater):
        return Fault.LATER
    if isinstance(error, FreezeLane | NeedsInput):
        return Fault.PERSON
    if isinstance(error, Interrupted | LeaseLost | SoftTimeLimitExceeded):
        return Fault.OURS
    if isinstance(error, SystemExit | KeyboardInterrupt) and stop is not None and stop.code == SHUTDOWN.code:
        return Fault.OURS
    if database.is_away(error) and not database.is_usable():
        return Fault.AWAY
    return Fault.ITEM


def attempt(
    do: Callable[[int], Result], stage: AnyStage, ctx: StageContext, stop: Callable[[], Stop | None], tried: int = 0
) -> Result:
    """What ``do(number of the attempt)`` returns, tried as often as ``stage`` allows; else :class:`GivenUp`.

    ``tried`` is how often it was before. Raises unchanged what is not the item's fault; a wait between two tries ends
    with :class:`Interrupted` at a stop.
    """
    try:
        return do(tried + 1)
    except BaseException as error:
        return again(do, error, tried + 1, stage, ctx, stop)


def again(
    do: Callable[[int], Result],
    error: BaseException,
    failed: int,
    stage: AnyStage,
    ctx: StageContext,
    stop: Callable[[], Stop | None],
) -> Result:
    """``attempt`` after attempt ``failed`` has ended with ``error``."""
    for number in count(failed):
        error = cause_of(error)
        if fault_of(error, stop()) is not Fault.ITEM:
            raise error
        ctx.logger.warning("%s failed (try %d): %s: %s", ctx.item_key, number, type(error).__name__, error)
        if number > stage.retries or not is_tried_again(stage, error):
            raise GivenUp(error, number) from error
        ctx.back_off(backoff(stage, number))
        try:
            return do(number + 1)
        except BaseException as next_error:
            error = next_error
    raise AssertionError
