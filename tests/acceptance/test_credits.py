"""A content run on a real system: it spends credits, stops at its budget, continues after a payment, and is billed."""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.system import REPOSITORY, System, eventually, launch, unused_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("up"), pytest.mark.timeout(900)]

SECRET = "a secret of this test alone"
KEYWORDS = 40
AFFORDS = 48
"""Credits: what the start asks for, 40 articles and a margin of 20 %."""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with tempfile.TemporaryDirectory(prefix="sw-credits-") as directory:
        data, port = Path(directory) / "data", unused_port()
        running = launch(data, port=port, DUMMY_WEBHOOK_SECRETS=SECRET, WATCH_CAPACITY="0")
        try:
            assert eventually(running.is_ready, 240), running.printed
            yield running
        finally:
            running.process.terminate()
            running.process.wait(60)


def manage(system: System, *arguments: str) -> str:
    """What a command prints."""
    env = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    env |= {"DATA_DIR": str(system.data_dir), "DJANGO_SETTINGS_MODULE": "backend.settings.dev"}
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tell_paid(system: System, payment: dict[str, Any]) -> str:
    """The dummy provider's webhook."""
    cents = int(payment["amount"].replace(".", ""))
    told = {"id": "1", "kind": "paid", "reference": payment["id"], "payment": "p1", "amount": cents, "currency": "EUR"}
    body, at = json.dumps(told).encode(), str(int(time.time()))
    v1 = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    request = urllib.request.Request(
        f"http://127.0.0.1:{system.port}/webhooks/payments/dummy/",
        headers={"Dummy-Signature": f"t={at},v1={v1}", "Content-Type": "application/json"},
        data=body,
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        outcome: str = json.load(response)["outcome"]
    return outcome


PRICE = """
from datetime import timedelta
from django.utils import timezone
from automation.contrib.credits.models import Price
Price.objects.create(pipeline="content", stage="content", charge=1000, valid_from=timezone.now() - timedelta(days=1))
"""
LAST_MONTH = """
from django.db import connection, transaction
with transaction.atomic(), connection.cursor() as cursor:
    cursor.execute("SELECT set_config('credits.erasing_in', pg_current_xact_id()::text, true)")
    cursor.execute("UPDATE credits_transfer SET created_at = date_trunc('month', now()) - interval '3 days'")
"""


@pytest.mark.req("A-24")
@pytest.mark.req("A-29")
@pytest.mark.req("A-39")
def test_a_content_run_spends_stops_at_its_budget_continues_and_is_billed(system: System):
    with (REPOSITORY / "automation/contrib/content/sample/keywords-400.csv").open() as sample:
        keywords = [row["keyword"] for row in csv.DictReader(sample)][:KEYWORDS]
    manage(system, "shell", "-c", PRICE)
    account = system.call("credits/accounts/")[0]
    manage(system, "credits", "top-up", account["name"], str(AFFORDS), "--key", "first")
    params = {"keywords_per_cluster": 2, "ideas_per_cluster": 4, "words": 200}
    given = {"pipeline": "content", "site": "default", "items": [{"keyword": word} for word in keywords]}
    run = system.call("automation/runs/", {**given, "params": params})

    def credits_of_run() -> dict[str, Any]:
        found: dict[str, Any] = system.call(f"credits/runs/{run['id']}/")
        return found

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = system.call(f"automation/runs/{run['id']}/")
        return found

    seen: set[float] = set()

    def is_parked() -> bool:
        seen.add(float(credits_of_run()["used"]))
        return bool(shown()["status"] == "paused")

    assert eventually(is_parked, 300), shown()
    assert len(seen) > 1, "the card shows more and more"
    parked = credits_of_run()
    assert (parked["used"], parked["reserved"]) == (f"{AFFORDS}.000", f"{AFFORDS}.000")
    reason = system.call(f"automation/runs/{run['id']}/explain/")["reasons"][0]
    assert reason["code"] == "budget"
    assert "for the next item of content, and 0 are available to it" in reason["sentence"]
    stages = system.call(f"automation/runs/{run['id']}/progress/")["stages"]
    (stage,) = (one for one in stages if one["slug"] == "content")
    assert stage["processed_items"] == AFFORDS < stage["total_items"]

    order = {"credits": "500", "provider": "dummy", "key": "cart"}
    payment = system.call(f"credits/accounts/{account['account_id']}/payments/", order)
    assert [tell_paid(system, payment) for _ in range(2)] == ["booked", "repeated"]
    time.sleep(6)  # the sweep comes every 5 s, and the policy is to ask
    assert shown()["status"] == "paused"
    system.call(f"automation/runs/{run['id']}/resume/", {})
    assert eventually(lambda: shown()["status"] == "completed", 300), shown()

    used = credits_of_run()
    assert float(used["used"]) == stage["total_items"] > AFFORDS
    assert "Every balance is what the ledger says." in manage(system, "credits", "check")
    balance = float(system.call("credits/accounts/")[0]["balance"])
    assert balance == AFFORDS + 500 - stage["total_items"]
    manage(system, "shell", "-c", LAST_MONTH)
    printed = manage(system, "credits", "invoice", "--json")
    issued = json.loads(printed.splitlines()[0]) if printed.strip() else None
    (invoice,) = system.call("credits/invoices/")["results"]
    assert (
        float(invoice["credits"]) == stage["total_items"] == sum(line["credits"] for line in invoice["lines"]) / 1_000
    )
    assert issued is None or issued["number"] == invoice["number"]
