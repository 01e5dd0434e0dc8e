"""Names of runs at every entry point: the id, the beginning of the id, or ``latest``."""

from __future__ import annotations

from uuid import UUID

from automation.errors import AutomationError
from automation.models import AutomationRun
from automation.models.runs import RunQuerySet

LATEST = "latest"
SHORTEST_PREFIX = 4
MOST_CANDIDATES = 5
RULE = f"the id of a run, its first {SHORTEST_PREFIX} or more digits, or '{LATEST}'"


class NoSuchRun(AutomationError):
    """No run that the caller may see has this name."""

    code = "not_found"

    def __init__(self, name: str, fact: str = "there is no such run") -> None:
        super().__init__(f"Cannot find run {name[:64]}: {fact}.")


class NotARunName(NoSuchRun):
    """The text cannot be the name of a run."""

    def __init__(self, name: str) -> None:
        AutomationError.__init__(self, f"Cannot find run {name[:64]!r}: expected {RULE}.")


class AmbiguousRunName(AutomationError):
    """Several ids begin with this text; the message lists them, the newest first."""

    code = "run_ambiguous"

    def __init__(self, name: str, candidates: list[UUID]) -> None:
        listed = ", ".join(map(str, candidates[:MOST_CANDIDATES]))
        more = ", …" if len(candidates) > MOST_CANDIDATES else ""
        super().__init__(f"Cannot tell which run {name} is: several ids begin so: {listed}{more}.")


def find(name: str | UUID, runs: RunQuerySet) -> AutomationRun:
    """Return the run of ``runs`` named ``name``.

    Raises :class:`NotARunName`, :class:`NoSuchRun` or :class:`AmbiguousRunName`.
    """
    if name == LATEST:
        newest: AutomationRun | None = runs.order_by("-created_at", "-id").first()
        if newest is None:
            raise NoSuchRun("latest", "there is none yet")
        return newest
    digits = str(name).lower().replace("-", "")
    if not SHORTEST_PREFIX <= len(digits) <= 32 or not set(digits) <= set("0123456789abcdef"):
        raise NotARunName(str(name))
    if len(digits) == 32:
        found = list(runs.filter(pk=UUID(digits)))
    else:
        among = runs.filter(pk__gte=UUID(digits.ljust(32, "0")), pk__lte=UUID(digits.ljust(32, "f")))
        found = list(among.order_by("-created_at", "-id")[: MOST_CANDIDATES + 1])
    if not found:
        raise NoSuchRun(str(name))
    if len(found) > 1:
        raise AmbiguousRunName(str(name), [run.pk for run in found])
    return found[0]


def is_id(name: str) -> bool:
    """Return whether ``name`` is a whole id, which always means the same run."""
    try:
        UUID(name)
    except ValueError:
        return False
    return True


def short(run_id: UUID | str) -> str:
    """The beginning of an id, as used in messages."""
    return str(run_id)[:8]
