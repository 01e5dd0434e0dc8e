"""Pause windows: what is held while they are open, by which hold, and what it does to work."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from automation import gate
from automation.models import Lifecycle
from pause_manager import fleet, holds, times
from pause_manager.fleet import bulk_holds
from pause_manager.holds import windows
from pause_manager.models import ControlEvent, Hold, PauseWindow
from pause_manager.tasks import keep_windows
from tests.support.factories import OPERATOR, claim, drain, make_run, run_loop
from tests.support.pipelines import scripted
from tests.support.race import race
from tests.support.windows import clock_in, its_time_passes, make_window, open_window

pytestmark = pytest.mark.django_db(transaction=True)


def in_force(scope: str = "") -> list[tuple[str, str, str]]:
    rows = Hold.objects.active().filter(**({"scope": scope} if scope else {}))
    return sorted(rows.values_list("scope", "kind", "mode"))


@pytest.mark.parametrize("scope", ["fleet", "pipeline:few", "queue:stages", "lane:{site}"])
def test_work_stops_while_a_window_is_open_and_continues_after_it(scope: str):
    run = make_run("few", items=4)
    window = open_window(scope.format(site=run.site.slug))

    assert claim(run) is None
    [reason] = [one for one in gate.explain(run) if one.keeps]
    until = times.written(Hold.objects.get().expires_at)  # type: ignore[arg-type]
    assert reason.code == ("fleet" if scope == "fleet" else "window")
    assert reason.sentence.endswith(f" is paused by the pause window nights until {until}: the studio renders.")
    assert reason.lifted_by == (f"an operator skips its pause window (manage.py window skip), or by itself at {until}")
    drain(run)

    its_time_passes(window)
    keep_windows()

    assert in_force() == []
    assert drain(run).lifecycle == Lifecycle.COMPLETED


def test_a_window_stops_a_loop_in_the_middle_and_no_item_is_lost():
    run = make_run("scripted", items=5)
    seen: list[int] = []

    def script(item: Any, ctx: Any) -> None:
        seen.append(item["n"])
        if item["n"] == 2:
            open_window("pipeline:scripted", mode="quiesce")
            from tests.support.factories import everybody_has_heard

            everybody_has_heard()

    with scripted(script):
        run_loop(run)
        assert seen == [1, 2]
        its_time_passes(PauseWindow.objects.get())
        keep_windows()
        drain(run)

    assert seen == [1, 2, 3, 4, 5]
    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.COMPLETED


def test_a_window_that_is_not_open_holds_nothing_until_it_is():
    window = make_window("queue:gpu")
    assert in_force() == []

    PauseWindow.objects.filter(pk=window.pk).update(at=clock_in(-1))
    keep_windows()

    assert in_force() == [("queue:gpu", "window", "drain")]
    hold = Hold.objects.get()
    assert (hold.actor, hold.reason) == ("window:nights", "the studio renders")


def test_what_is_kept_again_has_one_hold_and_one_event():
    open_window("queue:gpu")

    for _ in range(3):
        keep_windows()

    assert Hold.objects.count() == 1
    assert ControlEvent.objects.filter(action="hold_placed").count() == 1


def test_an_operators_hold_and_a_window_do_not_end_each_other():
    window = open_window("queue:gpu")
    holds.place(["queue:gpu"], mode="quiesce", actor=OPERATOR, reason="the disk is full")
    assert in_force() == [("queue:gpu", "operator", "quiesce"), ("queue:gpu", "window", "drain")]

    bulk_holds.release(["queue:gpu"], actor=OPERATOR)
    keep_windows()
    assert in_force() == [("queue:gpu", "window", "drain")]

    holds.place(["queue:gpu"], mode="quiesce", actor=OPERATOR, reason="the disk is full")
    its_time_passes(window)
    keep_windows()
    assert in_force() == [("queue:gpu", "operator", "quiesce")]


def test_of_overlapping_windows_the_strictest_mode_and_the_last_end_count():
    first = open_window("queue:gpu", name="short", minutes=60)
    open_window("queue:gpu", name="long", minutes=120, mode="quiesce", reason="the farm moves")

    hold = Hold.objects.get()
    assert (hold.mode, hold.actor) == ("quiesce", "window:long, short")
    assert hold.reason == "the farm moves; the studio renders"
    assert timedelta(minutes=88) < hold.expires_at - timezone.now() <= timedelta(minutes=90)  # type: ignore[operator]
    windows.delete("long", actor=OPERATOR)
    hold.refresh_from_db()
    assert (hold.mode, hold.released_at) == ("drain", None)
    assert timedelta(minutes=28) < hold.expires_at - timezone.now() <= timedelta(minutes=30)  # type: ignore[operator]
    its_time_passes(first)
    keep_windows()
    assert in_force() == []


def test_windows_that_adjoin_are_one_stretch():
    open_window("queue:gpu", name="evening", minutes=60)
    make_window("queue:gpu", name="night", begins_in=20, minutes=100)

    hold = Hold.objects.get()

    assert timedelta(minutes=118) < hold.expires_at - timezone.now() <= timedelta(minutes=120)  # type: ignore[operator]


def test_a_hold_that_somebody_took_away_comes_back_and_one_that_nobody_wants_goes():
    open_window("queue:gpu")
    Hold.objects.all().delete()
    holds.place(["queue:old"], kind=Hold.Kind.WINDOW, actor=OPERATOR, reason="of a window that is gone")

    keep_windows()

    assert in_force() == [("queue:gpu", "window", "drain")]


def test_a_skip_ends_what_is_open_and_the_next_stretch_comes():
    window = open_window("queue:gpu")

    begins, ends = windows.skip(window.name, actor=OPERATOR, reason="no render tonight")
    keep_windows()

    assert begins < timezone.now() < ends
    assert in_force() == []
    assert ControlEvent.objects.get(action="window_skipped").reason == "no render tonight"
    window.refresh_from_db()
    tomorrow = windows.wanted_at(timezone.now() + timedelta(days=1), [window])
    assert tomorrow["queue:gpu"].until == ends + timedelta(days=1)


def test_a_skip_of_a_closed_window_skips_the_next_stretch():
    window = make_window("queue:gpu")

    begins, ends = windows.skip(window.name, actor=OPERATOR)

    window.refresh_from_db()
    assert begins > timezone.now()
    assert windows.wanted_at(begins, [window]) == {}
    assert windows.current_or_next(window, timezone.now()) == (begins + timedelta(days=1), ends + timedelta(days=1))


def test_a_disabled_window_holds_nothing():
    window = open_window("queue:gpu")

    windows.change(window.name, {"is_enabled": False}, actor=OPERATOR)
    assert in_force() == []
    windows.change(window.name, {"is_enabled": True}, actor=OPERATOR)

    assert in_force() == [("queue:gpu", "window", "drain")]


def test_its_hold_ends_by_the_database_clock_even_if_windows_are_not_looked_at():
    open_window("queue:gpu")
    Hold.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    holds.expire()

    assert in_force() == []


def test_several_who_keep_windows_place_one_hold():
    for number in range(10):
        with silent():
            open_window(f"queue:q{number}", name=f"w{number}")

        race(*[windows.keep] * 3)

        assert Hold.objects.active().filter(scope=f"queue:q{number}").count() == 1
    assert ControlEvent.objects.filter(action="hold_placed").count() == 10


class silent:  # noqa: N801
    """Windows are created, and nobody keeps them yet."""

    def __enter__(self) -> None:
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(windows, "keep", lambda: 0)

    def __exit__(self, *error: object) -> None:
        self._patch.undo()


def test_a_window_on_the_fleet_is_told_by_the_switch():
    open_window("fleet")

    [warning] = [one for one in fleet.snapshot()["warnings"] if "pause window" in one]

    assert warning.startswith("The pause window nights holds the fleet until ")
    assert "A resume does not end it" in warning


@pytest.fixture(autouse=True)
def _no_window_is_left() -> Iterator[None]:
    yield
    PauseWindow.objects.all().delete()
