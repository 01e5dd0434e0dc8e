"""Holds runs whose parameters this release does not accept, before any of their items fails for it."""

from __future__ import annotations

from automation.errors import InvalidParams
from automation.gate import installed_code
from automation.models import AutomationRun
from automation.runs import lifecycle
from pause_manager.actor import SYSTEM


def hold_if_unfit(run: AutomationRun) -> bool:
    """Pause ``run`` if its parameters do not fit what its pipeline declares now; returns whether it did.

    The hold is an operator's, placed by the system: an operator resumes the run once a release that accepts them runs.
    """
    try:
        installed_code.params_of(run)
    except InvalidParams as error:
        lifecycle.pause_runs([run.pk], actor=SYSTEM, reason=sentence(run, error))
        return True
    return False


def sentence(run: AutomationRun, error: InvalidParams) -> str:
    """The reason, for people."""
    return f"This release of pipeline {run.pipeline} does not accept its parameters. {error}"
