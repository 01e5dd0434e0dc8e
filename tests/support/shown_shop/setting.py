"""What only a shell can set up for the pictures: prices, credits, limits, schedules, and the tasks of the shop."""

from __future__ import annotations

from automation.contrib.credits import ledger
from automation.contrib.credits.models import Price
from automation.models import Site
from automation.runs import lanes
from pause_manager import resources
from pause_manager.actor import Actor
from pause_manager.models.clock import database_now
from tests.support.shown_shop.tasks import charge_card, send_invoice, sync_stock

ME = Actor.shell()


def before_the_runs() -> None:
    """Prices, credits, places and limits."""
    for stage, charge in (("describe", 1_500), ("illustrate", 800)):
        Price.objects.create(pipeline="catalogue", stage=stage, charge=charge, cost=charge, valid_from=database_now())
    site = Site.objects.get(slug="default")
    ledger.top_up(site.account, 20_000_000, key="pictures", actor=ME, reason="paid in advance")
    lanes.change(site.slug, width=2, actor=ME)
    resources.set_limits("model-api", {"max_at_once": 4, "max_per_minute": 600}, actor=ME, reason="our plan")
    resources.set_limits("mail-api", {"max_per_minute": 120}, actor=ME, reason="our plan")


def tasks() -> None:
    """Tasks that run for a while, that wait for a held resource, and that fail."""
    sync_stock.delay("north")
    for order in range(4711, 4716):
        charge_card.delay(order, cents=100 * order)
    for order in range(4711, 4718):
        send_invoice.delay(order)
