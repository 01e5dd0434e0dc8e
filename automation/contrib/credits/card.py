"""What a run's card and a site's estimate say of credits."""

from __future__ import annotations

from typing import Any

from automation.contrib.credits import budgets, estimates, funds, reports
from automation.contrib.credits.amounts import credits_of, written
from automation.models import AutomationRun, Site
from automation.pipeline import definition, get_pipeline
from automation.reports import estimates as engine_estimates
from automation.reports import run_figures


@run_figures.register
def figures(run: AutomationRun) -> list[tuple[str, str]]:
    """Credits used, of its limit or of those set aside while they suffice, for a run that has prices."""
    found = reports.of_run(run.pk)
    if found is None:
        return []
    of = found.limit if found.limit is not None else found.reserved
    if found.limit is None and found.used > of:
        return [("Credits", written(found.used))]
    return [("Credits", f"{written(found.used)} of {written(of)}")]


@engine_estimates.register
def demand(site: Site, pipeline: str, items: int | None) -> dict[str, Any]:
    """``needed``, ``balance`` and ``sufficient`` for a run over ``items``: the first two in credits."""
    available = funds.of_account(site.account_id).available
    told: dict[str, Any] = {"needed": None, "balance": credits_of(available), "sufficient": None}
    if items is None:
        return told
    declared = get_pipeline(pipeline)
    stages = [(stage.slug, definition.declared(declared, stage)) for stage in declared.stages]
    needed = estimates.of(pipeline, items, stages, estimates.prices_of(pipeline)).needed
    limit = budgets.of_site(site.pk, site.account_id).max_per_run
    if limit is not None:
        needed = min(needed, limit)
    return told | {"needed": credits_of(needed), "sufficient": needed == 0 or needed <= available}
