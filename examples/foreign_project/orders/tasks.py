"""Tasks as anybody writes them, and one that leaves at a boundary when the fleet is quiesced."""

import time

from celery import shared_task


@shared_task
def charge(order: int) -> int:
    """Take the money."""
    if order < 1:
        raise ValueError(f"Cannot charge order {order}: orders are numbered from 1.")
    time.sleep(0.2)
    return order


@shared_task
def ship(order: int) -> str:
    """Send the goods."""
    time.sleep(0.2)
    return f"order {order} is on its way"


@shared_task(bind=True)
def restock(self, shelves: int, first: int = 0) -> str:
    """Fill shelf after shelf; at a quiesce leave between two, and continue there after the resume."""
    for shelf in range(first, shelves):
        should_stop, _reason = self.check_should_stop()
        if should_stop:
            raise self.park(shelves, first=shelf)
        time.sleep(0.2)
    return f"{shelves} shelves are full"
