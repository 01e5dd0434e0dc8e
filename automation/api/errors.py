"""HTTP responses for the engine's refusals."""

from __future__ import annotations

from typing import Any

from rest_framework import status
from rest_framework.response import Response

from automation.errors import (
    AmbiguousQuestion,
    AutomationError,
    CheckpointConflict,
    DependencyRefused,
    JobIncomplete,
    JobNotFound,
    LeaseLost,
    MoveRefused,
    NotFrozen,
    NothingAsked,
    NotParked,
    QuestionClosed,
    QuestionNotFound,
    ScheduleRefused,
    SiteBusy,
    SiteClosed,
    StartRefused,
    TransitionRefused,
)
from pause_manager.api.http import errors


class RunNotFound(AutomationError):
    """The run does not exist, or the caller may not see it."""

    code = "not_found"

    def __init__(self, run_id: str, sentence: str = "") -> None:
        super().__init__(sentence or f"Cannot find run {run_id[:64]}: there is none that you may see.")


class SiteNotFound(AutomationError):
    """The site does not exist, or the caller may not see it."""

    code = "not_found"

    def __init__(self, site: str) -> None:
        super().__init__(f"Cannot find site {site[:64]!r}: there is none that you may see.")


class LaneNotFound(AutomationError):
    """There is no such lane, or none that the caller may see."""

    code = "not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"Cannot find lane {name[:64]!r}: there is none that you may see.")


class ScheduleNotFound(AutomationError):
    """The schedule does not exist, or the caller may not see it."""

    code = "not_found"

    def __init__(self, schedule: str) -> None:
        super().__init__(f"Cannot find schedule {schedule[:64]!r}: there is none that you may see.")


class NoRun(AutomationError):
    """The site has no run to which the verb could apply."""

    code = "no_run"


class AmbiguousRun(AutomationError):
    """The verb could apply to several runs; the message names them."""

    code = "run_ambiguous"


_STATUS: dict[type[AutomationError], int] = {
    RunNotFound: status.HTTP_404_NOT_FOUND,
    SiteNotFound: status.HTTP_404_NOT_FOUND,
    LaneNotFound: status.HTTP_404_NOT_FOUND,
    QuestionNotFound: status.HTTP_404_NOT_FOUND,
    MoveRefused: status.HTTP_409_CONFLICT,
    NothingAsked: status.HTTP_409_CONFLICT,
    AmbiguousQuestion: status.HTTP_409_CONFLICT,
    QuestionClosed: status.HTTP_409_CONFLICT,
    NotFrozen: status.HTTP_409_CONFLICT,
    ScheduleNotFound: status.HTTP_404_NOT_FOUND,
    NoRun: status.HTTP_404_NOT_FOUND,
    AmbiguousRun: status.HTTP_409_CONFLICT,
    JobNotFound: status.HTTP_404_NOT_FOUND,
    LeaseLost: status.HTTP_409_CONFLICT,
    ScheduleRefused: status.HTTP_409_CONFLICT,
    SiteBusy: status.HTTP_409_CONFLICT,
    NotParked: status.HTTP_409_CONFLICT,
    DependencyRefused: status.HTTP_409_CONFLICT,
    SiteClosed: status.HTTP_409_CONFLICT,
    CheckpointConflict: status.HTTP_409_CONFLICT,
    JobIncomplete: status.HTTP_409_CONFLICT,
}


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """Respond to the engine's refusals with their status, to everything else as every view does."""
    if isinstance(error, TransitionRefused):
        if error.status == "unknown":
            return handle(RunNotFound(str(error.run_id)), context)
        return errors.answer(status.HTTP_409_CONFLICT, error.code, str(error), status=error.status)
    if isinstance(error, StartRefused):
        return errors.answer(status.HTTP_409_CONFLICT, error.code, str(error), **error.figures)
    if isinstance(error, AutomationError):
        status_code = _STATUS.get(type(error), status.HTTP_400_BAD_REQUEST)
        return errors.answer(status_code, error.code, str(error))
    return errors.handle(error, context)
