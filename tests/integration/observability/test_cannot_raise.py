"""Whatever breaks in the instrumentation, for real: the work that it tells of goes on as if it were not there."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

import pytest
from django.db import ProgrammingError, transaction
from django.test import Client

from automation.models import Lifecycle
from pause_manager import holds
from pause_manager.models import ControlEvent, CounterTotal, Hold
from pause_manager.observability import audit, counters, metrics, statsd
from tests.support.factories import OPERATOR, make_run, outputs, settle
from tests.support.scrape import METRICS, renamed

pytestmark = [pytest.mark.django_db, pytest.mark.req("W-42")]

COUNTER = metrics.counter("slackwater_test_total", "For a test.", ("what",))
DURATION = metrics.histogram("slackwater_test_seconds", "For a test.", ("what",))

DEGRADED = (metrics.DEGRADED.name, '{"layer":"telemetry"}')
"""What is counted in place of what could not be."""


@pytest.fixture(autouse=True)
def complaints(caplog: Any) -> Any:
    """What the instrumentation complained of."""
    metrics._next_complaint = 0.0
    caplog.set_level(logging.WARNING, "pause_manager.observability.metrics")
    return lambda: [
        record.getMessage() for record in caplog.records if record.name == "pause_manager.observability.metrics"
    ]


class Exploding:
    """A label whose text cannot be had, nor what is wrong with it."""

    def __str__(self) -> str:
        raise RuntimeError(self)

    __repr__ = __str__


BAD_LABELS: dict[str, dict[str, Any]] = {
    "exploding": {"what": Exploding()},
    "none": {},
    "too many": {"what": "a", "more": "b"},
    "another": {"which": "a"},
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_a_label_that_cannot_be_used_raises_nothing(case, complaints):
    labels = BAD_LABELS[case]

    COUNTER.add(**labels)
    DURATION.observe(1.0, **labels)
    with DURATION.timed(**labels):
        done = True

    assert done
    assert len(complaints()) <= 1  # once a minute
    assert set(counters._counted) == {DEGRADED}


def test_an_amount_that_is_none_raises_nothing():
    COUNTER.add("many", what="a")  # type: ignore[arg-type]
    DURATION.observe(None, what="a")  # type: ignore[arg-type]

    assert set(counters._counted) == {DEGRADED}


def test_a_timer_passes_on_what_the_work_raises():
    with pytest.raises(KeyError), DURATION.timed(what="a"):
        raise KeyError("of the work")

    counters.flush()
    assert CounterTotal.objects.filter(name="slackwater_test_seconds_bucket").count() == 1


@pytest.mark.django_db(transaction=True)
def test_without_its_table_nothing_is_lost_and_no_transaction_is_harmed(complaints):
    with renamed("pause_manager_countertotal"):
        with transaction.atomic():
            COUNTER.add(3, what="a")
            metrics.guarded(counters.flush)()  # even if somebody did so here
            holds.place(["queue:a"], actor=OPERATOR)
        run = settle(make_run(items=5))
        metrics.guarded(counters.flush)()
        answer = Client().get(METRICS)

    assert Hold.objects.active().count() == 1
    assert run.lifecycle == Lifecycle.COMPLETED
    assert len(outputs(run)) == 5
    assert complaints()
    assert 'slackwater_scrape_errors{group="tallies"} 1.0' in answer.content.decode()
    assert 'slackwater_scrape_errors{group="holds"} 0.0' in answer.content.decode()
    assert 'slackwater_holds{kind="operator",mode="quiesce",scope="queue"} 1.0' in answer.content.decode()
    counters.flush()
    assert CounterTotal.objects.get(name="slackwater_test_total").value == 3
    assert CounterTotal.objects.get(name="slackwater_items_processed_total").value == 5


@pytest.mark.django_db(transaction=True)
def test_a_run_is_worked_to_its_end_while_every_count_fails(settings, complaints):
    """A socket that is closed, a host that is none, and a full memory of series."""
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "statsd_url": "udp://127.0.0.1:9/x"}
    COUNTER.add(what="a")
    assert statsd._connection is not None
    statsd._connection[1].udp_sock.close()
    counters.add(*((f"filler_{n}", "", 1.0) for n in range(counters.MOST_SERIES)))

    run = settle(make_run(items=5))
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "statsd_url": "udp://no.such.host.invalid:1/x"}
    again = settle(make_run(items=5))
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "statsd_url": "udp://[::1"}
    third = settle(make_run(items=5))

    assert {run.lifecycle, again.lifecycle, third.lifecycle} == {Lifecycle.COMPLETED}
    assert sum(len(outputs(each)) for each in (run, again, third)) == 15
    assert len(complaints()) == 1


def test_a_log_that_fails_raises_nothing():
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    handler = Broken()
    logging.getLogger("pause_manager.observability.metrics").addHandler(handler)
    try:
        COUNTER.add(what=Exploding())
    finally:
        logging.getLogger("pause_manager.observability.metrics").removeHandler(handler)


def test_a_child_does_not_write_what_its_parent_counted():
    COUNTER.add(what="a")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, str(len(counters._counted)).encode())
        os._exit(0)
    os.waitpid(child, 0)

    assert os.read(reader, 10) == b"0"
    assert len(counters._counted) == 1


def test_two_processes_add_up(settings):
    for _ in range(2):  # each as a process that had counted nothing before
        COUNTER.add(2, what="a")
        DURATION.observe(0.03, what="a")
        counters.flush()
        counters._forget()

    assert CounterTotal.objects.get(name="slackwater_test_total").value == 4
    assert CounterTotal.objects.get(name="slackwater_test_seconds_bucket").value == 2


@pytest.mark.django_db(transaction=True)
def test_an_event_of_a_transaction_that_fails_is_not_counted():
    with transaction.atomic():
        audit.record("undone", scope="fleet", actor=OPERATOR)
        transaction.set_rollback(True)
    audit.record("done", scope="fleet", actor=OPERATOR)

    counters.flush()
    counted = CounterTotal.objects.filter(name="slackwater_control_events_total").values_list("labels", flat=True)
    assert list(counted) == ['{"action":"done"}']
    assert ControlEvent.objects.get().action == "done"


def test_what_is_counted_is_sent_to_statsd(settings):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        port = server.getsockname()[1]
        settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "statsd_url": f"udp://127.0.0.1:{port}/team.slack"}

        COUNTER.add(3, what="a b/c")
        DURATION.observe(0.25, what="a")

        assert server.recv(1_000) == b"team.slack.test.a_b_c:3|c"
        assert server.recv(1_000) == b"team.slack.test.a:250.000|ms"


def test_the_guard_is_what_keeps_it_from_raising():
    """The same without it, so that the tests above show something."""
    with pytest.raises(RuntimeError):
        metrics.Counter.add.__wrapped__(COUNTER, 1, what=Exploding())  # type: ignore[attr-defined]
    COUNTER.add(what="a")
    with renamed("pause_manager_countertotal"), pytest.raises(ProgrammingError, match="pause_manager_countertotal"):
        counters.flush()
