"""Runs whose parameters this release does not take: held by the system, before an item of theirs fails for it."""

from __future__ import annotations

from automation.errors import InvalidParams
from automation.gate import installed
from automation.models import AutomationRun
from automation.runs import lifecycle
from pause_manager.observability.actor import SYSTEM


def held(run: AutomationRun) -> bool:
    """Pause ``run`` if it was created with parameters that do not fit what its pipeline declares now; whether it was.

    It is an operator's hold by the system: an operator resumes it when a release that takes them is installed.
    """
    try:
        installed.params_of(run)
    except InvalidParams as error:
        lifecycle.pause_runs([run.pk], actor=SYSTEM, reason=sentence(run, error))
        return True
    return False


def sentence(run: AutomationRun, error: InvalidParams) -> str:
    """Why, for people."""
    return f"This release of pipeline {run.pipeline} does not take its parameters. {error}"
