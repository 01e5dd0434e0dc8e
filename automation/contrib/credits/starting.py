"""The start of a run that has prices: they are fixed, and what it is expected to cost is set aside."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction

from automation.contrib.credits import budgets, estimates, funds, ledger
from automation.contrib.credits.amounts import written
from automation.contrib.credits.errors import CreditsShort, NoCredits
from automation.contrib.credits.estimates import Estimate
from automation.contrib.credits.models import Price, RunCredits, StagePrice
from automation.items import keys
from automation.models import AutomationRun, StageRun
from automation.pipeline import definition
from automation.runs import start_conditions
from automation.runs.start_conditions import StartCondition
from pause_manager.actor import SYSTEM, Actor
from pause_manager.models import Hold
from pause_manager.observability import audit


class CoveredByCredits(StartCondition):
    """The credits that are available cover the estimate with its margin; ``max_credits_per_run`` caps that."""

    kind = Hold.Kind.BUDGET

    def check(self, run: AutomationRun) -> None:
        found = _demand(run)
        if found is None:
            return
        needed, _, _ = found
        available = funds.of_account(_account_of(run)).available
        if needed > available:
            raise CreditsShort(run.pk, needed, available)

    def take(self, run: AutomationRun) -> str:
        found = _demand(run)
        if found is None:
            return ""
        needed, estimate, prices = found
        account_id = _account_of(run)
        ledger.billing_of(account_id)
        available = funds.of_account(account_id).available
        if needed > available:
            return f"it needs {written(needed)} credits to start and {written(available)} are available"
        _fix_prices(run, prices)
        limit = budgets.of_site(run.site_id, account_id).max_per_run
        RunCredits.objects.create(
            run_id=run.pk,
            account_id=account_id,
            site_id=run.site_id,
            estimate=estimate.amount,
            reserved=needed,
            limit=limit,
        )
        if needed:
            ledger.reserve(account_id, run.pk, needed, actor=SYSTEM)
        return ""

    def unmet(self, run_id: UUID) -> str:
        run = AutomationRun.objects.get(pk=run_id)
        if run.started_at is None:
            try:
                self.check(run)
            except CreditsShort as short:
                return f"needs {written(short.needed)} credits to start and {written(short.balance)} are available"
            return ""
        return short_of(run_id)


CONDITION = start_conditions.register(CoveredByCredits())


def short_of(run_id: UUID) -> str:
    """Why ``run_id``, which has started, cannot pay for the next pass of its current stages; empty if it can."""
    running = StageRun.objects.filter(run=run_id, lifecycle="running").values_list("pk", flat=True)
    prices = list(StagePrice.objects.filter(pk__in=list(running), expected__gt=0))
    for price in prices:
        if (why := why_not(price)) is not None:
            return why
    return ""


def why_not(price: StagePrice, wanted: int = 1) -> str | None:
    """Why not even ``wanted`` passes of the stage can be paid for; ``None`` if they can."""
    room = room_of(price)
    needed = wanted * price.expected
    if room.amount >= needed:
        return None
    left = written(max(0, room.amount))
    limit = {
        "balance": f"{left} are available to it",
        "run": f"{left} are left of the most that this run may use",
        "site": f"{left} are left of its site's budget for this month",
        "function": f"{left} are left of its site's budget for {price.function} this month",
    }[room.limited_by]
    return f"needs {written(needed)} credits for the next item of {price.stage}, and {limit}"


def room_of(price: StagePrice) -> funds.Room:
    """What may still be begun of the stage."""
    budget = budgets.of_site(price.site_id, price.account_id)
    share = budget.shares.get(price.function)
    return funds.of_run(price.run_id, price.account_id, price.site_id, price.function, share, budget.is_split)


def _demand(run: AutomationRun) -> tuple[int, Estimate, dict[str, Price]] | None:
    """(credits that must be available, estimate, prices); ``None`` if nothing of the run has a price."""
    prices = estimates.prices_of(run.pipeline)
    if not prices:
        return None
    estimate = estimates.of_run(run, prices)
    limit = budgets.of_site(run.site_id, _account_of(run)).max_per_run
    needed = estimate.needed if limit is None else min(estimate.needed, limit)
    return needed, estimate, prices


def _account_of(run: AutomationRun) -> int:
    if run.account_id is None:  # a row that was just made: a trigger fills it
        run.refresh_from_db(fields=["account"])
    assert run.account_id is not None
    return run.account_id


def _fix_prices(run: AutomationRun, prices: dict[str, Price]) -> None:
    stages = list(run.stages.order_by("position"))
    ids = {one.slug: one.pk for one in stages}
    words = estimates.per_unit_of_words(run.pipeline)
    rows = []
    for one in stages:
        price = prices.get(one.slug)
        if price is None or not one.definition:
            continue
        declared = definition.of(one)
        rows.append(
            StagePrice(
                stage_run_id=one.pk,
                run_id=run.pk,
                account_id=_account_of(run),
                site_id=run.site_id,
                pipeline=run.pipeline,
                stage=one.slug,
                function=price.function or one.slug,
                price_id=price.pk,
                unit=price.unit,
                charge=price.charge,
                cost=price.cost,
                charges_failed=price.charges_failed,
                text_field=price.text_field,
                group_size=declared.group_size,
                expected=estimates.expected_of_pass(price, declared.group_size, words.get(one.slug)),
                prefixes=_prefixes(declared.after, ids),
            )
        )
    StagePrice.objects.bulk_create(rows, ignore_conflicts=True)


def _prefixes(sources: Sequence[str], ids: dict[str, int]) -> dict[str, str]:
    """What the keys of a stage's items begin with, by the id of the stage that made them; see ``items.units``."""
    if len(sources) < 2:
        return {}
    return {str(ids[slug]): keys.of_source(index) for index, slug in enumerate(sources)}


def change_limit(run: AutomationRun, limit: int | None, *, actor: Actor) -> None:
    """Set the most that ``run`` may use, in thousandths of a credit; ``None``: no limit. Raises ``NoCredits``."""
    with transaction.atomic():
        open_rows = RunCredits.objects.select_for_update().filter(pk=run.pk, settled_at__isnull=True)
        kept = open_rows.first()
        if kept is None:
            raise NoCredits(run.pk)
        if kept.limit == limit:
            return
        open_rows.update(limit=limit)
        audit.record(
            "credits_limited",
            scope=run.scope,
            actor=actor,
            before={"limit": None if kept.limit is None else written(kept.limit)},
            after={"limit": None if limit is None else written(limit)},
        )
