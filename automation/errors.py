"""Every refusal and failure of the engine, each with a code for machines and a sentence for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pause_manager.times import written


class AutomationError(Exception):
    """Base of the engine's own errors; ``str(error)`` is a sentence a person can act on."""

    code = "automation_error"


class PipelineError(AutomationError):
    """A pipeline or stage is declared wrongly; the sentence names the class and the mistake."""

    code = "pipeline_invalid"


class UnknownPipeline(AutomationError):
    """No installed pipeline has this slug."""

    code = "pipeline_unknown"


class InvalidParams(AutomationError):
    """Parameters of a run break their declaration; the sentence names the parameter and what is allowed."""

    code = "params_invalid"


class InvalidInput(AutomationError):
    """The input of a run cannot be used; the sentence names the line and the reason."""

    code = "input_invalid"


class InvalidPacing(AutomationError):
    """Batches, delays or limits of a run cannot be used; the sentence names the value and what is allowed."""

    code = "pacing_invalid"


class TransitionRefused(AutomationError):
    """A verb does not apply to the run as it is now; nothing was changed.

    ``status`` is the derived status at the time of refusal.
    """

    code = "transition_refused"

    def __init__(self, verb: str, run_id: UUID | str, fact: str, status: str) -> None:
        super().__init__(f"Cannot {verb} run {run_id}: it {fact}.")
        self.verb = verb
        self.run_id = run_id
        self.status = status


class StartRefused(AutomationError):
    """A condition that an app has for starts is not met; nothing was changed. ``figures`` say by how much."""

    code = "start_refused"

    def __init__(self, sentence: str, **figures: Any) -> None:
        super().__init__(sentence)
        self.figures = figures


class NotParked(AutomationError):
    """A run was forced that does not wait for capacity. Nothing was changed."""

    code = "not_parked"

    def __init__(self, run_id: UUID | str) -> None:
        super().__init__(
            f"Cannot force run {run_id}: it does not wait for capacity. Resume it without force if it is paused."
        )


class NotFrozen(AutomationError):
    """A lane is to be unfrozen that is not frozen. Nothing was changed."""

    code = "not_frozen"

    def __init__(self, lane: str) -> None:
        super().__init__(f"Cannot unfreeze lane {lane}: it is not frozen.")


class InvalidFreeze(AutomationError):
    """A lane is to be frozen without a reason."""

    code = "freeze_invalid"


class NothingAsked(AutomationError):
    """The run waits for no answer."""

    code = "nothing_asked"

    def __init__(self, run_id: UUID | str) -> None:
        super().__init__(f"Cannot answer run {run_id}: it asks nothing.")


class QuestionNotFound(AutomationError):
    """The run never asked the question that is to be answered."""

    code = "question_not_found"

    def __init__(self, run_id: UUID | str, question: int) -> None:
        super().__init__(f"Cannot answer question {question}: run {run_id} has none of this number.")


class AmbiguousQuestion(AutomationError):
    """The run asks several questions, and the answer does not say to which it belongs; the sentence names them."""

    code = "question_ambiguous"


class QuestionClosed(AutomationError):
    """The question was answered before, or its run has ended. Nothing was changed."""

    code = "question_closed"


class InvalidAnswer(AutomationError):
    """The answer is none of the choices; the sentence names them. Nothing was changed."""

    code = "answer_invalid"


class LaneRefused(AutomationError):
    """A lane cannot be like that; the sentence says what is allowed. Nothing was changed."""

    code = "lane_refused"

    def __init__(self, name: str, fact: str) -> None:
        super().__init__(f"Cannot change lane {name}: {fact}.")


class MoveRefused(AutomationError):
    """A run cannot have that place or priority in its lane. Nothing was changed."""

    code = "move_refused"

    def __init__(self, run_id: UUID | str, fact: str) -> None:
        super().__init__(f"Cannot move run {run_id}: {fact}.")


class DependencyRefused(AutomationError):
    """A run cannot wait for that run, or does not. Nothing was changed."""

    code = "dependency_refused"

    def __init__(self, verb: str, run_id: UUID | str, fact: str) -> None:
        super().__init__(f"Cannot {verb} of run {run_id}: {fact}.")


class SiteClosed(AutomationError):
    """The site, or its account, is closed: it takes no runs."""

    code = "site_closed"

    def __init__(self, site: str, since: datetime) -> None:
        super().__init__(
            f"Cannot create a run for site {site}: it has been closed since {written(since)}. "
            "An operator can reopen it (close --reopen)."
        )


class InvalidSchedule(AutomationError):
    """A schedule breaks a rule; the sentence names the field and what is allowed. Nothing was changed."""

    code = "schedule_invalid"


class ScheduleRefused(AutomationError):
    """A verb does not apply to the schedule, or to the occurrence, as it is now; nothing was changed."""

    code = "schedule_refused"


class SiteBusy(AutomationError):
    """A run was to start at once, and the site has an unfinished one."""

    code = "site_busy"

    def __init__(self, schedule: object, run_id: UUID, site: str) -> None:
        super().__init__(
            f"Cannot run schedule {schedule} now: site {site} has the unfinished run {run_id}. "
            "Let it end, or ask for the new run to be queued behind it."
        )


class ClosingRefused(AutomationError):
    """A site or an account has unfinished runs, and the caller did not ask to cancel them."""

    code = "closing_refused"

    def __init__(self, name: str, runs: int) -> None:
        super().__init__(
            f"Cannot close {name}: it has {runs} unfinished {'run' if runs == 1 else 'runs'}. "
            "Let them end, or have them cancelled with it."
        )


class JobNotFound(AutomationError):
    """The slice does not exist, or the agent may not hold it."""

    code = "job_not_found"


class FileNameRefused(AutomationError, ValueError):
    """A name that no file of a stage can have; nothing was read, written or deleted."""

    code = "file_name_refused"

    def __init__(self, name: str, fact: str) -> None:
        super().__init__(
            f"Cannot use the file name {name}: it {fact}. Expected a relative path like pages/shoes.html; "
            "slug_name(text) makes a part of one from any text."
        )


class InvalidCheckpoint(AutomationError):
    """An agent's results do not fit its slice; the sentence names the item. Nothing was kept."""

    code = "checkpoint_invalid"


class CheckpointConflict(AutomationError):
    """An agent's results differ from those it submitted before, up to the same item."""

    code = "checkpoint_conflict"


class JobIncomplete(AutomationError):
    """An agent says that its slice is done while items of it are left."""

    code = "job_incomplete"


class CheckpointRefused(AutomationError):
    """The database refuses the outputs: ``cause`` is its error, see ``database.is_refused``. Nothing is committed."""

    code = "checkpoint_refused"

    def __init__(self, slice_id: int, cause: Exception) -> None:
        super().__init__(f"Cannot commit slice {slice_id}: {cause}")
        self.cause = cause


class LeaseLost(AutomationError):
    """The slice is no longer held under this fencing token; the caller must discard what it has and leave."""

    code = "lease_lost"


class NoRoom(Exception):
    """The node is held, or has no room for another loop of the stage; the sentence has the figures."""


class TryLater(Exception):
    """Raised by a stage when a provider asks for patience (HTTP 429/503): the item is tried again after ``seconds``.

    With a ``resource`` (by default the only one that the stage uses) all who use that stop until then; then one asks it
    again, and the others follow step by step. It counts no attempt and no wait, however often it happens.

    Of a stage that uses none, or several and names none, the item waits alone: no worker is held meanwhile, and it
    counts neither as processed nor as failed, up to the stage's ``max_waits`` and ``max_wait_seconds``. The items after
    it continue; if the next one must wait too, the slice waits as it is.
    """

    def __init__(
        self, seconds: float, message: str = "the provider asks to try later", *, resource: str | None = None
    ) -> None:
        super().__init__(message)
        self.seconds = max(0.0, seconds)
        self.resource = resource


class FreezeLane(Exception):
    """Raised by a stage whose check has failed: nothing of the run's lane starts until an operator lifts the freeze.

    ``why`` is shown to everybody who may see the lane: name the item in it, not what the item contains. The item is not
    counted as failed, and is tried again once the freeze is lifted.
    """

    def __init__(self, why: str) -> None:
        if not isinstance(why, str) or not why.strip():
            raise ValueError(f"FreezeLane expected a reason, got: {why!r}")
        super().__init__(why)
        self.why = why.strip()


MOST_CHOICES = 20
LONGEST_QUESTION, LONGEST_CHOICE = 2_000, 200


class NeedsInput(Exception):
    """Raised by a stage that asks a person: its run is held until the question is answered, and the item tried again.

    ``choices`` are the allowed answers; ``None`` allows any text. The answer is in ``ctx.answer`` when the item, or
    hook, is tried again. The item is not counted as failed.
    """

    def __init__(self, question: str, choices: Sequence[str] | None = None) -> None:
        if not isinstance(question, str) or not 0 < len(question.strip()) <= LONGEST_QUESTION:
            expected = f"a question of 1 to {LONGEST_QUESTION:,} characters"
            raise ValueError(f"NeedsInput expected {expected}, got: {question!r:.80}")
        given = () if choices is None else choices
        if isinstance(given, str) or not all(_is_choice(one) for one in given):
            expected = f"choices of 1 to {LONGEST_CHOICE} printable characters without spaces around them"
            raise ValueError(f"NeedsInput expected {expected}, got: {choices!r:.200}")
        if choices is not None and not 0 < len(set(given)) == len(given) <= MOST_CHOICES:
            raise ValueError(f"NeedsInput expected 1 to {MOST_CHOICES} different choices, got: {choices!r:.200}")
        super().__init__(question)
        self.question = question.strip()
        self.choices = tuple(given)


def _is_choice(text: object) -> bool:
    return isinstance(text, str) and text == text.strip() and text.isprintable() and 0 < len(text) <= LONGEST_CHOICE
