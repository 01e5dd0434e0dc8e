"""``python -m benchmarks.console``: p50 and p95 of every page of the console on a million runs.

``--share 0.01`` makes a hundredth of the rows; ``--only PATTERN`` asks only pages whose label has it;
``--keep DIRECTORY`` keeps the filled database there, and uses it again.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil

from benchmarks.console import asking, control, filling, ledger, people, urls, work
from benchmarks.console.asking import Asked, Browser
from benchmarks.harness import Claim, Servers, system

LIMIT_MS, GOAL_MS = 300.0, 100.0
ROUNDS = 20


def main(arguments: list[str] | None = None) -> None:
    """Fill, ask, print: a line for each page, then the claims."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="")
    parser.add_argument("--who", default="")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args(arguments)
    with system(options.keep) as servers:
        _count_statements(servers)
        if not _is_filled():
            _fill(filling.Size().scaled(options.share) if options.share != 1 else filling.Size())
            people.make()
        with asking.server() as (port, web):
            assert servers.postgres.process is not None
            cpu = partial(asking.cpu_of, web, psutil.Process(servers.postgres.process.pid))
            found = list(_all(port, cpu, options.only, options.who, options.rounds))
    slow = [one for one in found if one.p95 > LIMIT_MS]
    print(f"{len(found)} pages, {len(slow)} of them over {LIMIT_MS:.0f} ms")
    for claim in claims(found):
        print(claim.as_json())


def claims(found: list[Asked]) -> list[Claim]:
    """The slowest page of each kind, by its p95."""
    made = []
    kinds = {"overview": "overview", "list of runs": "runs", "every other page": ""}
    for title, start in kinds.items():
        some = [
            one
            for one in found
            if (one.label.startswith(start) if start else not one.label.startswith(("overview", "runs")))
        ]
        if some:
            worst = max(some, key=lambda one: one.p95)
            note = f"the slowest of {len(some)}: {worst.label} as {worst.who}"
            made.append(
                Claim(f"{title}, p95 (peer: p50)", worst.p95, worst.p50, "ms", LIMIT_MS, GOAL_MS, False, False, note)
            )
    return made


def _all(port: int, cpu: Callable[[], float], only: str, whose: str, rounds: int) -> Iterator[Asked]:
    for who in people.EVERYBODY:
        if whose not in ("", who):
            continue
        browser = Browser(port)
        browser.sign_in(who)
        for label, path in urls.for_user(who):
            if re.search(only, label):
                control.sample_nodes()
                asked = asking.ask(browser, cpu, who, label, path, rounds)
                print(asked, flush=True)
                yield asked


def _fill(size: filling.Size) -> None:
    from automation.pipeline import definition, get_pipeline
    from automation.worker import stage_loop

    drill = get_pipeline("drill")
    values = {
        **vars(size),
        "definition": json.dumps(definition.as_json(definition.declared(drill, drill.stage("work")))),
        "counters": [stage_loop.PROCESSED.name, stage_loop.FAILED.name],
    }
    filling.fill([*work.STEPS, *control.STEPS, *ledger.STEPS], values)


def _is_filled() -> bool:
    from automation.models import Account

    return Account.objects.filter(name=work.SMALL).exists()


def _count_statements(servers: Servers) -> None:
    """Have the database keep what each statement took; that takes a start of it."""
    from django.db import connection, connections

    with connection.cursor() as cursor:
        cursor.execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
        cursor.execute("ALTER SYSTEM SET max_wal_size = '8GB'")
    connections.close_all()
    servers.postgres.stop()
    servers.postgres.start()
    with connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")


if __name__ == "__main__":
    main()
