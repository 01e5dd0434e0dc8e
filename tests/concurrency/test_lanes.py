"""Places of lanes under concurrency: never more than there are, in order, and every run ends."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from uuid import UUID

import pytest
from django.db import connection
from django.db.models import Count

from automation import gate, tasks
from automation.errors import AutomationError
from automation.models import AutomationRun, Lane, RunDependency, Site, Ticket
from automation.runs import advancing, dependencies, lane_moves, lanes, lifecycle, reconciler
from pause_manager import holds
from pause_manager.models import ControlEvent, Hold
from tests.support.factories import OPERATOR, drain
from tests.support.lane_runs import has_place, in_lane, make_lane
from tests.support.race import Racer, in_thread, race, wait_until_blocked

pytestmark = pytest.mark.django_db(transaction=True)


def started_while_another_is_moved_before_it(monkeypatch: pytest.MonkeyPatch, *, is_guarded: bool) -> list[bool]:
    """A run is judged to be the next; another is moved before it and starts; then the first does. Who has a place?"""
    if not is_guarded:
        for module in (advancing, lanes, lane_moves):
            monkeypatch.setattr(module, "lock_lane", lambda name: None)
    running, first, second = in_lane(make_lane("acme"), 3)
    is_judged, may_go = threading.Event(), threading.Event()
    judge = gate.may_start

    def slowly(run: AutomationRun) -> bool:
        verdict = judge(run)
        if run.pk == first.pk and verdict and not is_judged.is_set():
            is_judged.set()
            may_go.wait(10)
        return verdict

    monkeypatch.setattr(gate, "may_start", slowly)

    def move() -> None:
        lane_moves.to_front(second.pk, actor=OPERATOR)
        lanes.fill("acme")

    starting = in_thread(lambda: drain(running))
    assert is_judged.wait(10)
    moving = in_thread(move)
    if is_guarded:
        wait_until_blocked(moving)
    else:
        moving.join()
    may_go.set()
    starting.join()
    moving.join()
    return [has_place(first), has_place(second)]


def test_a_place_is_not_given_twice(monkeypatch):
    assert started_while_another_is_moved_before_it(monkeypatch, is_guarded=True) == [True, False]


def test_without_the_lock_of_the_lane_it_is(monkeypatch):
    assert started_while_another_is_moved_before_it(monkeypatch, is_guarded=False) == [True, True]


def test_all_who_fill_a_lane_at_once_start_its_runs_in_order():
    site = make_lane("acme")
    holds.place(["lane:acme"], actor=OPERATOR, reason="not yet")
    chance = random.Random(3)
    runs = [in_lane(site, priority=chance.randint(1, 5))[0] for _ in range(12)]
    wanted = [run.pk for run in sorted(runs, key=lambda run: (run.priority, run.created_at))]
    holds.release(["lane:acme"], actor=OPERATOR)

    while AutomationRun.objects.unfinished().exists():
        race(*[partial(lanes.fill, "acme")] * 3, *[work_once] * 2)
        assert AutomationRun.objects.filter(lane_seat_at__isnull=False).count() <= 1

    assert started() == wanted


def started() -> list[UUID]:
    """The runs, in the order of their starts."""
    scopes = ControlEvent.objects.filter(action="start").order_by("pk").values_list("scope", flat=True)
    return [UUID(scope.partition(":")[2]) for scope in scopes]


def work_once() -> bool:
    """Answer one message, as a worker would; False if there is none."""
    ticket = Ticket.objects.order_by("?").first()
    if ticket is None:
        time.sleep(0.01)
        return False
    tasks.stage_loop(ticket.stage_run_id, ticket.pk)
    return True


@pytest.mark.req("S-14")
@pytest.mark.parametrize(
    ("lane_count", "runs", "meddlers", "workers"),
    [
        (3, 24, 2, 2),
        pytest.param(50, 1_000, 4, 4, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)]),
    ],
)
def test_whatever_people_do_no_lane_is_overfull_and_every_run_ends(lane_count, runs, meddlers, workers):
    chance = random.Random(11)
    sites = [
        make_lane(f"lane-{number}", policy=chance.choice(Lane.Policy.values), width=chance.choice((1, 1, 2, 3)))
        for number in range(lane_count)
    ]
    widths = {lane.name: lane.width for lane in Lane.objects.all()}
    Site.objects.update(account=sites[0].account)
    is_over = threading.Event()
    overfull: list[tuple[str, int]] = []

    def watch() -> None:
        while not is_over.is_set():
            seated = AutomationRun.objects.filter(lane_seat_at__isnull=False).order_by().values("lane")
            rows = seated.annotate(places=Count("pk")).values_list("lane", "places")
            overfull.extend((lane, places) for lane, places in rows if places > widths[lane])
            time.sleep(0.002)

    def until_over(step: Callable[[], object]) -> Callable[[], None]:
        def loop() -> None:
            while not is_over.is_set():
                with suppress(AutomationError):
                    step()

        return loop

    watching = in_thread(watch)
    working = [in_thread(until_over(work_once)) for _ in range(workers)]
    each = runs // meddlers
    meddling = [in_thread(partial(meddle, random.Random(number), sites, each)) for number in range(meddlers)]
    for racer in meddling:
        racer.join(timeout=900)
    settle(timeout=900)
    is_over.set()
    for racer in (watching, *working):
        Racer.join(racer, timeout=60)

    assert overfull == []
    assert AutomationRun.objects.count() == each * meddlers
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM automation_automationrun WHERE lane_seat_at IS NOT NULL")
        assert cursor.fetchone() == (0,)


def meddle(chance: random.Random, sites: list[Site], count: int) -> None:
    """Create runs, and do to some of all what operators do."""
    for _ in range(count):
        after = list(unfinished(chance)[:1].values_list("pk", flat=True)) if chance.random() < 0.2 else []
        with suppress(AutomationError):
            in_lane(chance.choice(sites), priority=chance.randint(1, 5), after=after)
            after = []
        if after:
            in_lane(chance.choice(sites))
        for _ in range(2):
            with suppress(AutomationError):
                act(chance, chance.choice(sites))


def unfinished(chance: random.Random):
    return AutomationRun.objects.unfinished().order_by("?")


def act(chance: random.Random, site: Site) -> None:
    run = unfinished(chance).first()
    if run is None:
        return
    lane = f"lane:{site.slug}"
    verb = chance.randrange(10)
    if verb < 3:
        lifecycle.pause(run.pk, actor=OPERATOR)
    elif verb < 5:
        lifecycle.resume(run.pk, actor=OPERATOR)
    elif verb == 5:
        holds.place([lane], kind=Hold.Kind.FREEZE, actor=OPERATOR, reason="a check failed")
    elif verb == 6:
        holds.release([lane], kind=Hold.Kind.FREEZE, actor=OPERATOR)
    elif verb == 7:
        lane_moves.set_priority(run.pk, chance.randint(1, 5), actor=OPERATOR)
    elif verb == 8:
        lane_moves.to_front(run.pk, actor=OPERATOR)
    elif chance.random() < 0.5:
        lifecycle.cancel(run.pk, actor=OPERATOR)
    else:
        lanes.change(site.slug, policy=chance.choice(Lane.Policy.values), actor=OPERATOR)


def settle(timeout: float) -> None:
    """Release whatever was held, decide what nobody else would, and wait until every run has ended."""
    until = time.monotonic() + timeout
    while AutomationRun.objects.unfinished().exists():
        for scope, kind in list(Hold.objects.active().values_list("scope", "kind")):
            holds.release([scope], kind=kind, actor=OPERATOR, reason="the test is over")
        for row in RunDependency.objects.filter(satisfied_at=None, released_at=None, run__finished_at=None):
            after = AutomationRun.objects.get(pk=row.after_id)
            if after.finished_at is not None:
                with suppress(AutomationError):
                    dependencies.release(row.run_id, row.after_id, actor=OPERATOR, reason="nobody comes")
        reconciler.reap()
        reconciler.reconcile()
        assert time.monotonic() < until, [
            (run.lane, run.lifecycle, [one.sentence for one in gate.explain(run)])
            for run in AutomationRun.objects.unfinished()[:5]
        ]
        time.sleep(0.1)
