"""System checks of a project that installs the drop-in: versions, protocol, and tasks that do not obey."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, Task, current_app
from celery.worker.request import Request
from django.core.checks import ERROR

from pause_manager import checks
from pause_manager.pausable import PausableTask

pytestmark = pytest.mark.dropin


@pytest.fixture
def shop() -> Iterator[Celery]:
    """A project's app, in place of the one that is loaded."""
    ours: Any = current_app
    ours = ours._get_current_object()
    app = Celery("shop", task_cls="pause_manager.pausable:PausableTask", set_as_current=True)
    try:
        yield app
    finally:
        app.close()
        ours.set_current()


def told() -> list[str]:
    return [str(message.msg) for message in checks.check_tasks(None)]


def work() -> None:
    """What any of them does."""


class Own(Request):
    """A request class of a project's own."""


class Other:
    """One that has nothing to do with Celery's, and takes no part in a hierarchy of classes."""

    def __init_subclass__(cls) -> None:
        raise TypeError("final")


class Gathering(PausableTask):
    """Takes its messages itself, as ``celery_batches.Batches`` does."""

    abstract = True

    def Strategy(self, *args: Any) -> Any:  # type: ignore[override]  # noqa: N802  (Celery's name)
        return lambda message, *rest: None


def test_tasks_that_do_not_obey_are_named_with_why(shop: Celery):
    shop.task(shared=False, name="shop.obeys")(work)
    shop.task(shared=False, name="shop.left_out", base=Task, pausable=False)(work)
    shop.task(shared=False, name="shop.plain", base=Task)(work)
    shop.task(shared=False, name="shop.gathers", base=Gathering)(work)
    shop.task(shared=False, name="shop.asks", Request=Own)(work)
    shop.task(shared=False, name="shop.is_final", Request=Other)(work)

    (sentence,) = told()

    assert sentence == (
        "Holds do not keep these tasks from starting: shop.gathers (it takes its messages by a Strategy of its own), "
        "shop.is_final (its Request, Other, cannot be combined with PausableRequest), "
        "shop.plain (its class, Task, is not pausable)."
    )


def test_nothing_is_said_where_all_obey(shop: Celery, settings: Any):
    shop.task(shared=False, name="shop.obeys")(work)
    assert told() == []

    shop.task(shared=False, name="shop.plain", base=Task)(work)
    assert len(told()) == 1

    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "every_task": True}
    assert told() == []


def test_message_protocol_1_is_refused(shop: Celery):
    assert checks.check_protocol(None) == []

    shop.conf.task_protocol = 1

    (error,) = checks.check_protocol(None)
    assert (error.id, error.level) == ("pause_manager.E022", ERROR)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ((5, 3), ["Cannot work with Celery 5.3: it is older than 5.4."]),
        ((5, 4), []),
        ((5, 7), []),
        ((5, 10), ["Nobody has tested this with Celery 5.10."]),
    ],
)
def test_versions_that_nobody_tests_are_told(found: tuple[int, int], told: list[str]):
    assert [message.msg for message in checks._check_version("Celery", found, (5, 4), (5, 7))] == told


def test_what_is_installed_here_is_tested():
    assert checks.check_versions(None) == []
