"""Tasks of the shop: long ones, some that use a resource, and some that fail."""

from __future__ import annotations

import time

from celery import shared_task

from pause_manager.pausable import PausableTask


@shared_task(base=PausableTask, name="shop.sync_stock", queue="stages")
def sync_stock(warehouse: str) -> str:
    """Take a few minutes."""
    time.sleep(400)
    return warehouse


@shared_task(base=PausableTask, name="shop.send_invoice", queue="stages", uses=("mail-api",))
def send_invoice(order: int) -> int:
    return order


@shared_task(base=PausableTask, name="shop.charge_card", queue="stages")
def charge_card(order: int, *, cents: int) -> int:
    if order % 2:
        raise ValueError(f"card of order {order} was refused: insufficient funds")
    return cents
