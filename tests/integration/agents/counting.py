"""What the agents of the tests do: note each start in a file, take a while, and answer. Needs nothing but Python."""

from __future__ import annotations

import os
import time
from typing import Any


def process(item: dict[str, Any], job: dict[str, Any]) -> list[dict[str, Any]]:
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"{os.environ['AGENT_NAME']} {job['key']}\n")
    time.sleep(float(os.environ["ITEM_SECONDS"]))
    return [{"n": item["n"] * 10}]
