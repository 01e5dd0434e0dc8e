"""How the API documentation is arranged: topics in the order in which people need them, and how to get a token."""

from __future__ import annotations

from typing import Any

DESCRIPTION = """\
Pausable pipelines and capacity-aware pausing for Celery fleets.

**Authentication.** Send `Authorization: Token <token>`. `manage.py drf_create_token USER` prints one, and an
administrator finds it in the admin under *Tokens*; `manage.py up` writes that of its operator to `credentials.json` in
its data folder. In a browser, the session of the console works as well. Remote agents send `Authorization: Agent
<token>` with the token of `manage.py create_agent NAME`.

**Errors** are JSON with a `code` for machines and a sentence for people. A command may carry an `Idempotency-Key`:
repeated with the same key it gets the same answer.
"""

TOPICS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("runs", "Start runs, follow them, pause, resume, cancel and retry them.", ("/api/v1/automation/",)),
    ("lanes", "Which runs take turns, how many at a time, and who is before whom.", ("lanes", "queue", "serial-gate")),
    ("schedules", "Runs that start by the clock.", ("schedules",)),
    ("holds", "What is stopped, by whom and why; pause windows.", ("holds", "pause-windows")),
    ("fleet", "The switch that drains all workers.", ("/api/system/worker-pause",)),
    ("pause queue", "What waits, for what, and what to do about it.", ("pause-queue", "waiting")),
    ("capacity", "How full each machine is; thresholds.", ("capacity", "nodes", "/api/v1/agents/")),
    ("resources", "Limits of services outside, and values that are set for a while.", ("resources", "overrides")),
    ("credits", "Prices, balances, payments and invoices.", ("credits",)),
    ("agents", "The pull protocol of remote agents.", ("/api/queue/jobs/", "/api/v1/automation/agents/")),
    ("audit", "Who did what, when and why.", ("audit",)),
    ("health", "Whether work flows and succeeds.", ("health",)),
)
"""Name, what it is about, and how its paths begin (below ``/api/v1/``, unless written in full)."""


def topic_of(path: str) -> str:
    """The topic of a path: that with the longest beginning that fits. Raises ``LookupError`` for one of none."""
    found = [
        (len(start), name)
        for name, _, starts in TOPICS
        for start in (one if one.startswith("/") else f"/api/v1/{one}/" for one in starts)
        if f"{path.rstrip('/')}/".startswith(start) or path == start
    ]
    if not found:
        raise LookupError(f"Cannot place {path} in the API documentation: add it to a topic of backend.api_docs.")
    return max(found)[1]


def arrange(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """A postprocessing hook: tag every operation with its topic, and order topics and paths."""
    order = [name for name, _, _ in TOPICS]
    for path, methods in result["paths"].items():
        for operation in methods.values():
            if isinstance(operation, dict) and "responses" in operation:
                operation["tags"] = [topic_of(path)]
    result["tags"] = [{"name": name, "description": about} for name, about, _ in TOPICS]
    result["paths"] = dict(sorted(result["paths"].items(), key=lambda item: _place(order, item[0])))
    return result


def _place(order: list[str], path: str) -> tuple[int, bool, str]:
    return order.index(topic_of(path)), not path.startswith("/api/v1/automation/runs/"), path
