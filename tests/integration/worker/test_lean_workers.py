"""What a worker's process loads: nothing that only the web or one stage needs."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.architecture.test_imports import HEAVY

WEB = (
    "rest_framework",
    "drf_spectacular.views",
    "automation.api",
    "pause_manager.api",
    "backend.console.urls",
    "backend.urls",
    "automation.admin",
    "pause_manager.admin",
    "django_stubs_ext",
    "requests",
    "prometheus_client",
    "markdown_it",
    "PIL",
    "numpy",
    "sklearn",
    "rich",
)
LOADS_A_WORKER = """
import json, sys
import celery.bin.worker
from backend.celery import app
app.loader.import_default_modules()
app.finalize()
print(json.dumps(sorted(sys.modules)))
"""


def test_a_worker_loads_nothing_of_the_web():
    loaded = subprocess.run([sys.executable, "-c", LOADS_A_WORKER], capture_output=True, check=True, timeout=60)
    modules = set(json.loads(loaded.stdout))

    assert "automation.worker.stage_loop" in modules
    assert sorted(modules & set(WEB)) == ["rest_framework"]  # the package alone: it is an installed app
    assert modules & set(HEAVY) == set()
