"""What the agents of the tests do: note each start in a file, take a while, and answer. Needs nothing but Python.

Item 015 asks for patience first, once.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from agent import TryLater  # type: ignore[import-not-found]


def process(item: dict[str, Any], job: dict[str, Any]) -> list[dict[str, Any]]:
    asked = Path(os.environ["LEDGER"] + ".patience")
    if job["key"] == "015" and not asked.exists():
        asked.touch()
        raise TryLater(0, "HTTP 429")
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"{os.environ['AGENT_NAME']} {job['key']}\n")
    time.sleep(float(os.environ["ITEM_SECONDS"]))
    return [{"n": item["n"] * 10}]
