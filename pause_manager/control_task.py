"""What the control tasks share: of messages that come together one is acted on, and an outage is not an error."""

from __future__ import annotations

import json
from typing import Any

from celery import Task

from pause_manager import database
from pause_manager.observability import counters, metrics
from pause_manager.schedule import INTERVAL

DONE = metrics.counter("slackwater_control_tasks_total", "Control tasks that were carried out.", ("task",))
SHARE = 0.5
"""Of its interval must have passed, by the database's clock, since a task was last begun."""


class ControlTask(Task):  # type: ignore[type-arg]
    """The base of a task that beat asks for.

    A backlog of messages after an outage costs one statement each. A message that does not say how often it comes (sent
    by hand, or by another scheduler) is always acted on.
    """

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with database.skip_if_away(f"the control task {self.name}"):
            if self._is_due():
                return self.run(*args, **kwargs)
        return None

    def _is_due(self) -> bool:
        told = getattr(self.request, INTERVAL, None) or (self.request.headers or {}).get(INTERVAL)
        interval = _interval(told)
        if not interval:
            return True
        labels = json.dumps({"task": str(self.name)}, separators=(",", ":"))
        return counters.add_unless_lately(DONE.name, labels, SHARE * interval)


def _interval(told: object) -> float:
    try:
        return float(told)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0
