"""The run that the target of an override names, by any of its names."""

from __future__ import annotations

from automation.models import AutomationRun
from automation.runs import run_names
from pause_manager import scopes
from pause_manager.overrides import OverrideKind, OverrideTargetUnknown


def id_of(kind: OverrideKind, text: str, name: str) -> str:
    """The id of the run called ``name`` (see ``run_names``), which may begin with ``run:``.

    Raises ``InvalidOverride`` for a ``text`` that names no run or several, ``OverrideTargetUnknown`` if there is none.
    """
    try:
        return str(run_names.find(name.removeprefix(scopes.RUNS), AutomationRun.objects.present()).pk)
    except (run_names.NotARunName, run_names.AmbiguousRunName):
        raise kind.invalid_target(text) from None
    except run_names.NoSuchRun as error:
        raise OverrideTargetUnknown(str(error)) from None
