"""A resource that says "too much" is let alone by all who use it, asked again by one, and used by all again."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import connections
from django.db.models import F

from automation import dispatch, gate
from automation.errors import PipelineError, TryLater
from automation.models import AutomationRun, ItemFailure, Lifecycle, Ticket, WorkSlice
from automation.pipeline import Pipeline, Stage, definition, register
from automation.runs import reconciler
from automation.worker import throttling
from pause_manager import holds, resources
from pause_manager.actor import Actor
from pause_manager.models import ControlEvent, Hold, Resource
from pause_manager.models.clock import database_now
from tests.support.agent_calls import Caller, done, make_agent
from tests.support.endpoint_server import Answer, Asked, EndpointServer, endpoint_server
from tests.support.factories import OPERATOR, claim, events, make_run, outputs, run_loop, stage_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]

STAGE = Actor("stage:ask/ask", "worker")


class Provider:
    """Says 429 to whatever asks while ``is_full``; notes the time of each question."""

    def __init__(self, retry_after: float = 2.0) -> None:
        self.is_full = False
        self.retry_after = retry_after
        self.asked: list[tuple[float, bool]] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append((time.monotonic(), self.is_full))
        if self.is_full:
            return Answer({}, 429, {"Retry-After": f"{self.retry_after:g}"})
        return Answer({})

    def refused(self) -> list[float]:
        return [at for at, was_full in self.asked if was_full]


@pytest.fixture
def provider() -> Iterator[tuple[Provider, EndpointServer]]:
    given = Provider()
    with endpoint_server(given) as server:
        yield given, server


def state() -> str:
    return Resource.objects.get(name="provider").state


def let_time_pass() -> None:
    """The wait of the resource is over by the database's clock, and beat has come by."""
    past = database_now() - timedelta(seconds=1)
    Hold.objects.active().filter(kind="throttled").update(expires_at=past)
    Resource.objects.filter(state="held").update(next_probe_at=past)
    beat()


def beat() -> None:
    holds.expire()
    resources.advance()


def ramp(steps: int) -> None:
    Resource.objects.filter(state="ramping").update(ramping_since=F("ramping_since") - timedelta(seconds=5 * steps))


@pytest.mark.parametrize("pipeline", ["ask", "ask-hook", "ask-async", "ask-groups"])
def test_no_item_fails_waits_or_is_lost_by_it(pipeline, provider):
    given, server = provider
    run = make_run(pipeline, items=8, params={"url": server.url})
    given.is_full = True

    run_loop(run)

    assert state() == "held"
    hold = Hold.objects.active().get(scope="resource:provider")
    assert (hold.kind, hold.mode, hold.on_expiry) == ("throttled", "quiesce", "resume")
    assert claim(run) is None
    assert not WorkSlice.objects.leased().exists()
    assert [reason.code for reason in gate.explain(run)] == ["throttled"]
    assert not WorkSlice.objects.exclude(waits=0, crashes=0, expiries=0).exists()

    given.is_full = False
    let_time_pass()
    assert state() == "probing"
    run_loop(run)
    assert state() == "ramping"
    for _ in range(20):
        run.refresh_from_db()
        if run.finished_at:
            break
        if Ticket.objects.exists() or dispatch.dispatch():
            run_loop(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert not ItemFailure.objects.exists()
    asked_for = sum(output["n"] for output in outputs(run)) if pipeline == "ask-groups" else len(outputs(run))
    assert asked_for == 8


def test_the_reason_tells_what_it_said_when_and_to_whom(provider):
    given, server = provider
    run = make_run("ask", items=8, params={"url": server.url})
    given.is_full = True

    run_loop(run)

    (reason,) = gate.explain(run)
    assert reason.sentence.startswith("The resource provider said “too much” at ")
    assert "to stage ask/ask." in reason.sentence
    assert "It is asked again at " in reason.sentence
    (told,) = events(run, "resource_throttled")
    assert "answered 429" in told.reason
    # What it said to one account is not for all.
    assert "429" not in Hold.objects.active().get(scope="resource:provider").reason


def test_each_time_it_says_so_again_it_is_let_alone_for_twice_as_long_up_to_the_longest(settings):
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "longest_throttle_seconds": 30.0}
    waits = []

    for _ in range(5):
        resources.throttle("provider", 5, actor=STAGE, told="a test")
        waits.append(Resource.objects.get().wait_seconds)
        let_time_pass()

    assert waits == [5, 10, 20, 30, 30]
    assert Resource.objects.get().strikes == 5


def test_what_it_asks_for_is_obeyed_however_long(settings):
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "longest_throttle_seconds": 30.0}

    first = resources.throttle("provider", 7_200, actor=STAGE, told="a test")

    assert 7_190 < (first.until - database_now()).total_seconds() <= 7_200
    assert Hold.objects.active().get().expires_at == first.until


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e300])
def test_a_senseless_wait_ends_after_a_day(seconds):
    outcome = resources.throttle("provider", seconds, actor=STAGE, told="a test")

    assert 86_300 < (outcome.until - database_now()).total_seconds() <= 86_400


def test_those_who_were_at_work_are_told_too_and_that_is_no_news():
    first = resources.throttle("provider", 5, actor=STAGE, told="one")
    second = resources.throttle("provider", 5.2, actor=STAGE, told="another")
    later = resources.throttle("provider", 60, actor=STAGE, told="a third")

    assert (first.is_new, second.is_new, later.is_new) == (True, False, False)
    assert second.until == first.until
    assert 55 < (later.until - first.until).total_seconds() < 60
    assert Hold.objects.active().get().expires_at == later.until
    assert Resource.objects.get().strikes == 1
    assert ControlEvent.objects.filter(scope="resource:provider", action="hold_placed").count() == 1


def test_after_the_wait_one_loop_asks_and_the_others_follow_in_doubles(provider):
    _, server = provider
    run = make_run("ask", items=60, params={"url": server.url})
    held = [claim(run, name) for name in "abcdefgh"]
    assert all(held)
    resources.throttle("provider", 5, actor=STAGE, told="a test")
    assert claim(run, "i") is None
    WorkSlice.objects.update(lease_token=None, leased_at=None, lease_expires_at=None)
    let_time_pass()

    first, second = claim(run, "a"), claim(run, "b")

    assert first is not None
    assert first.probes == ("provider",)
    assert second is None
    assert "one loop or task asks it again" in " ".join(reason.sentence for reason in gate.explain(run))
    assert resources.answered(["provider"]) == ["provider"]
    counts = []
    for _ in range(3):
        names = iter("abcdefghijklmnop")
        while claim(run, next(names)) is not None:
            pass
        counts.append(WorkSlice.objects.leased().count())
        ramp(1)
    assert counts == [2, 4, 8]
    resources.advance()
    assert state() == "open"


def test_it_is_asked_again_by_one_only_though_others_were_in_long_items(provider):
    """They hold leases all the while: at their next item they give them back, and one of them begins again."""
    _, server = provider
    run = make_run("ask", items=60, params={"url": server.url})
    assert all(claim(run, name) for name in "abc")
    resources.throttle("provider", 5, actor=STAGE, told="a test")

    let_time_pass()

    assert set(WorkSlice.objects.leased().values_list("lease_yield", flat=True)) != {""}
    assert claim(run, "d") is None


def test_a_resource_that_is_held_without_a_hold_is_asked_again():
    resources.throttle("provider", 5, actor=STAGE, told="a test")
    Hold.objects.all().delete()
    Resource.objects.update(next_probe_at=database_now() - timedelta(seconds=1))

    assert resources.advance() == ["provider"]

    assert state() == "probing"


def test_an_operator_may_have_it_asked_at_once():
    resources.throttle("provider", 500, actor=STAGE, told="a test")

    assert resources.ask_again("provider", actor=OPERATOR, reason="it is back")
    assert not resources.ask_again("provider", actor=OPERATOR)

    assert state() == "probing"


def test_a_hold_by_hand_outlasts_the_wait():
    run = make_run("ask", items=8)
    resources.throttle("provider", 5, actor=STAGE, told="a test")
    holds.place(["resource:provider"], actor=OPERATOR, reason="the bill")

    let_time_pass()

    assert claim(run) is None
    assert [reason.code for reason in gate.explain(run)] == ["operator"]
    holds.release(["resource:provider"], actor=OPERATOR)
    assert claim(run) is not None


def in_threads(count: int, work: Callable[[], None]) -> list[threading.Thread]:
    def whole() -> None:
        try:
            work()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=whole, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.slow
@pytest.mark.parametrize("is_guarded", [True, pytest.param(False, id="without-the-places")])
def test_eight_loops_ask_a_full_provider_once_a_period_and_all_are_back(is_guarded, provider, monkeypatch):
    given, server = provider
    if not is_guarded:
        # Every one of them may use it when the wait is over.
        for part in ("automation.leases.claims._OPEN", "automation.dispatch.dispatcher._WANTED"):
            module, _, name = part.rpartition(".")
            loaded = __import__(module, fromlist=[name])
            kept = getattr(loaded, name)
            replaced = kept.replace if isinstance(kept, str) else kept.replaced
            monkeypatch.setattr(loaded, name, replaced(gate.resource_limits.HAVE_PLACES, "true"))
    run = make_run("ask", items=120, params={"url": server.url, "seconds": 0.05})
    is_over = threading.Event()

    def loops() -> None:
        while not is_over.is_set():
            try:
                run_loop(AutomationRun.objects.get(pk=run.pk))
            except IndexError:
                return  # it is complete
            time.sleep(0.05)

    threads = in_threads(8, loops)
    try:
        wait(lambda: len(given.asked) > 20)
        given.is_full = True
        began = time.monotonic()
        while time.monotonic() < began + 9:
            beat()
            time.sleep(0.1)
        given.is_full = False
        freed = time.monotonic()
        while time.monotonic() < freed + 60 and run.finished_at is None:
            beat()
            reconciler.reconcile()
            run.refresh_from_db()
            time.sleep(0.1)
    finally:
        is_over.set()
        for thread in threads:
            thread.join(20)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert len(outputs(run)) == 120
    assert not ItemFailure.objects.exists()
    refused = given.refused()
    # The first wave is what was on its way when it was full; then it is asked after 2, 4 and 8 s.
    probes = [at for at in refused if at > refused[0] + 1.5]
    gaps = [after - before for before, after in pairwise(probes)]
    is_one_a_period = len(probes) <= 3 and all(gap > 1.9 for gap in gaps)
    assert is_one_a_period == is_guarded, (probes, gaps)
    back = min(at for at, was_full in given.asked if not was_full and at > freed)
    assert back - freed < 10


def wait(condition: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_of_two_resources_the_one_that_is_named_is_held_and_without_a_name_the_item_waits(monkeypatch):
    stage = stage_of(make_run("ask", items=2))

    two = definition.of(stage)
    two = type(two)(**{**vars(two), "uses": ("provider", "search")})

    assert throttling.resource_of(two, TryLater(1, resource="search")) == "search"
    assert throttling.resource_of(two, TryLater(1)) is None
    assert throttling.resource_of(two, TryLater(1, resource="serach")) is None
    assert throttling.resource_of(two, TryLater(1, resource="")) is None


def test_a_content_run_uses_openai_where_its_parameters_say_so(settings):
    settings.TEXT_PROVIDER_BASE_URL = "http://127.0.0.1:9/v1"
    keywords = [{"keyword": f"shoes {n}"} for n in range(3)]

    written = make_run("content", items=keywords, params={"provider": "openai"}, start=False)
    offline = make_run("content", items=keywords, start=False)

    uses = {stage.slug: definition.of(stage).uses for stage in written.stages.filter(position__gte=0)}
    assert {slug for slug, names in uses.items() if names} == {"ideas", "content", "prompts"}
    assert all(names in ((), ("openai",)) for names in uses.values())
    assert not any(definition.of(stage).uses for stage in offline.stages.filter(position__gte=0))


def test_the_openai_provider_of_the_content_pipeline_is_let_alone_by_all_its_runs(settings, provider):
    given, server = provider
    settings.TEXT_PROVIDER_BASE_URL = server.url
    given.is_full = True
    keywords = [{"keyword": word} for word in ("red shoes", "blue shoes", "green hats")]
    one, other = (make_run("content", items=keywords, params={"provider": "openai"}) for _ in range(2))

    for run in (one, other):
        for _ in range(4):
            if Ticket.objects.filter(stage_run__run=run).exists():
                run_loop(run)

    assert len(given.asked) == 1
    assert Resource.objects.get(name="openai").state == "held"
    for run in (one, other):
        assert [reason.code for reason in gate.explain(run)] == ["throttled"]


def test_names_of_resources_are_checked_where_they_are_declared():
    def declared(uses):
        stage = type("Uses", (Stage,), {"slug": "uses", "title": "Uses", "uses": uses, "process": lambda s, i, c: []})
        register(type("UsesPipeline", (Pipeline,), {"slug": "uses-pipeline", "title": "Uses", "stages": (stage,)}))

    for uses, said in (
        ("openai", "expected a tuple of names of resources"),
        (("Open AI",), "expected names of resources"),
        (("a", "a"), "expected each resource once"),
    ):
        with pytest.raises(PipelineError, match=said):
            declared(uses)


@pytest.mark.parametrize("scope", ["resource:provider", "resource:search"])
@pytest.mark.parametrize("mode", ["drain", "quiesce"])
def test_claim_dispatch_and_explain_agree_on_holds_and_limits(scope, mode):
    """In every combination of a hold, a limit that is reached or not, a next start, and a state of the resource."""
    run = make_run("ask", items=30)
    (stage,) = run.stages.filter(position=0)
    busy = make_run("ask", items=30)
    assert claim(busy) is not None
    resources.set_limits("provider", {"max_at_once": 5}, actor=OPERATOR)
    now = database_now()
    times = {"probing_since": now, "ramping_since": now, "next_probe_at": now}

    for is_held in (False, True):
        if is_held:
            holds.place([scope], mode=mode, actor=OPERATOR)
        for at_once, later, state_ in itertools.product((1, 2, None), (False, True), ("open", "probing", "ramping")):
            paced = {"max_per_minute": 1, "next_start_at": now + timedelta(minutes=1)} if later else {}
            Resource.objects.update(
                max_at_once=at_once,
                state=state_,
                **{"max_per_minute": None, "next_start_at": None, **paced},
                **times,
            )
            Ticket.objects.all().delete()

            sent = dispatch.dispatch([stage.pk])
            work = claim(run)
            if work is not None:
                WorkSlice.objects.filter(pk=work.slice_id).update(
                    lease_token=None, leased_at=None, lease_expires_at=None
                )

            may = gate.may_proceed(gate.explain(AutomationRun.objects.get(pk=run.pk)))
            assert (work is not None) == may == (sent > 0), (is_held, at_once, later, state_)
            expected = not (is_held and scope == "resource:provider") and not later and at_once != 1
            assert may == (expected and state_ != "probing")


def test_an_agent_that_is_told_too_much_stops_the_others_and_the_first_that_is_answered_frees_them():
    make_run("ask-remote", items=30)
    one, other = (Caller(make_agent(name, pipelines=["ask-remote"])[1]) for name in ("one", "other"))
    job, second = one.claim(), other.claim()

    assert one.to(job, "fail", error="HTTP 429", retryAfter=60)[0] == 200

    assert state() == "held"
    assert one.claim() is None
    assert other.to(second, "heartbeat")[1]["stop"]["code"] == "held"
    other.to(second, "checkpoint", **done(second, last=1), release=True)
    assert not WorkSlice.objects.exclude(waits=0, crashes=0).exists()
    let_time_pass()
    probe = one.claim()
    assert other.claim() is None
    one.to(probe, "checkpoint", **done(probe, last=1))
    assert state() == "ramping"
    assert other.claim() is not None


def test_an_agent_that_gives_a_job_back_for_no_reason_holds_nothing():
    make_run("ask-remote", items=30)
    agent = Caller(make_agent(pipelines=["ask-remote"])[1])

    agent.to(agent.claim(), "fail", error="it was told to end", retryAfter=0)

    assert not Resource.objects.exists()
