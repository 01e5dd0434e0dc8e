"""What credits cost: the same items without the app's trigger, with it and no price, and with a price for each item.

Items of 100 µs show the most that it can cost; those that have a price in practice take a second rather than 1 ms.
"""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from benchmarks.harness import Claim, median, system, worker
from benchmarks.site import create_run, start, wait_until_finished

ROUNDS = 3
CASES = {"short": (100, 20_000), "usual": (1_000, 3_000)}
"""Microseconds of an item, and items of a run."""
WITHOUT, IDLE, PRICED = "without the trigger", "no price", "a price for each item"


def main() -> list[Claim]:
    """Interleaved rounds on one worker process; medians."""
    with system():
        from django.utils import timezone

        from automation.contrib.credits import ledger
        from automation.models import Account
        from pause_manager.actor import Actor

        account, _ = Account.objects.get_or_create(name="bench")
        ledger.top_up(account, 10**12, key="bench", actor=Actor("system", "benchmark"))
        rates: dict[tuple[str, str], list[float]] = {}
        with worker("backend", "-Q", "stages", processes=1):
            for how in (PRICED, IDLE, WITHOUT):
                _run(how, 100, 2_000, timezone.now())
            for _ in range(ROUNDS):
                for case, (microseconds, items) in CASES.items():
                    for how in (WITHOUT, IDLE, PRICED):
                        rate = items / _run(how, microseconds, items, timezone.now())
                        rates.setdefault((case, how), []).append(rate)
    claims = []
    for case, (microseconds, items) in CASES.items():
        peer = median(rates[case, WITHOUT])
        for how, must, aim in ((IDLE, 0.98, 1.0), (PRICED, 0.95, 0.99)):
            note = f"{items:,} items, one worker process, against {WITHOUT}"
            name = f"items of {microseconds:,} µs with credits, {how}"
            claims.append(Claim(name, median(rates[case, how]), peer, "items/s", must, aim, note=note))
    return claims


def _run(how: str, microseconds: int, items: int, now: datetime) -> float:
    """Seconds from start to end."""
    from automation.contrib.credits.models import Price

    with connection.cursor() as cursor:
        verb = "DISABLE" if how == WITHOUT else "ENABLE"
        cursor.execute(f"ALTER TABLE automation_workslice {verb} TRIGGER credits_charge")
    Price.objects.all().delete()
    if how == PRICED:
        Price.objects.create(pipeline="bench-spin", stage="spin", charge=1, valid_from=now)
    run = create_run("bench-spin", start=False, items=items, microseconds=microseconds)
    start(run)
    return wait_until_finished(run)


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
