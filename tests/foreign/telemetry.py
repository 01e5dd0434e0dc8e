"""Sentry and OpenTelemetry as a project has them, but that what they would send goes into a file, a JSON line each."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import sentry_sdk
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport


def start(path: str) -> None:
    sentry_sdk.init(
        dsn="http://nobody@127.0.0.1:9/1",
        transport=Lines(path),
        integrations=[CeleryIntegration()],
        traces_sample_rate=1.0,
    )
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Spans(path))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()


def write(path: str, line: dict[str, Any]) -> None:
    # One write to the end of the file: several processes do so.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, json.dumps(line, default=str).encode() + b"\n")
    finally:
        os.close(descriptor)


class Lines(Transport):
    """Sentry's events and transactions."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def capture_envelope(self, envelope: Envelope) -> None:
        for item in envelope.items:
            event: Any = item.get_event() or item.get_transaction_event()
            if event is not None:
                trace_of = event.get("contexts", {}).get("trace", {})
                spans: Sequence[Any] = event.get("spans") or ()
                write(
                    self.path,
                    {
                        "from": "sentry",
                        "is": event.get("type") or "error",
                        "name": event.get("transaction"),
                        "status": trace_of.get("status"),
                        "trace": trace_of.get("trace_id"),
                        "spans": [[span.get("op"), span.get("status")] for span in spans],
                    },
                )


class Spans(SpanProcessor):
    """OpenTelemetry's spans, as they start and as they end."""

    def __init__(self, path: str) -> None:
        self.path = path

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        self._tell(span, "start")

    def on_end(self, span: ReadableSpan) -> None:
        self._tell(span, "end")

    def _tell(self, span: ReadableSpan, what: str) -> None:
        context = span.get_span_context()
        assert context is not None
        write(
            self.path,
            {
                "from": "otel",
                "is": what,
                "name": span.name,
                "span": f"{context.span_id:x}",
                "trace": f"{context.trace_id:x}",
                "status": span.status.status_code.name,
                "events": [event.name for event in span.events],
            },
        )
