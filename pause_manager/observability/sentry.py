"""A task that leaves at a boundary has not failed, whatever is raised to leave it: Sentry is told so.

Sentry takes every exception that passes its spans for an error. OpenTelemetry goes by Celery's signals and does not.
"""

from __future__ import annotations

import sys
from typing import Any

_ABORTED, _FAILED, _WELL = "aborted", "internal_error", "ok"


def tell_of_park() -> None:
    """In a task that is about to leave: its transaction ends well, and so do the spans that it is in."""
    sdk: Any = sys.modules.get("sentry_sdk")
    if sdk is None or not hasattr(sdk, "get_isolation_scope"):
        return
    # Without its integration for Celery the scope is not the task's own.
    if sdk.get_client().get_integration("celery") is None:
        return
    innermost = getattr(sdk.get_current_span(), "span_id", None)

    def mend(event: Any, hint: Any) -> Any:
        trace = (event.get("contexts") or {}).get("trace") or {}
        if event.get("type") == "transaction" and trace.get("status") == _ABORTED:
            trace["status"] = _WELL
            spans = {span["span_id"]: span for span in event.get("spans") or ()}
            left = innermost
            while (span := spans.pop(left, None)) is not None:
                if span.get("status") == _FAILED:
                    span["status"] = _WELL
                    span.get("tags", {})["status"] = _WELL
                left = span.get("parent_span_id")
        return event

    sdk.get_isolation_scope().add_event_processor(mend)
