"""The derived status: all combinations of its facts, against the sentences of the architecture."""

from __future__ import annotations

from itertools import product

import pytest

from automation.models import TERMINAL, Lifecycle
from automation.reports import status

FACTS = list(product(Lifecycle, *[(False, True)] * 5))


def derive(lifecycle, is_held, is_cancel_requested, is_leased, has_reasons, has_failures=False):
    return status.derive(
        lifecycle,
        is_held=is_held,
        is_cancel_requested=is_cancel_requested,
        is_leased=is_leased,
        has_reasons=has_reasons,
        has_failures=has_failures,
    )


def test_every_combination_has_a_status_of_the_list():
    assert {derive(*facts) for facts in FACTS} == set(status.ALL)


@pytest.mark.req("M-15")
@pytest.mark.parametrize("facts", [facts for facts in FACTS if facts[0] in TERMINAL], ids=str)
def test_a_final_run_shows_its_lifecycle_and_whether_it_completed_with_failures(facts):
    has_failures = facts[0] == Lifecycle.COMPLETED and facts[-1]

    assert derive(*facts) == ("completed_with_failures" if has_failures else facts[0])


@pytest.mark.parametrize("facts", [facts for facts in FACTS if facts[0] not in TERMINAL and facts[2]], ids=str)
def test_a_cancel_beats_everything_but_the_end(facts):
    assert derive(*facts) == "cancelling"


@pytest.mark.req("M-19")
@pytest.mark.parametrize("lifecycle", [Lifecycle.PENDING, Lifecycle.RUNNING])
@pytest.mark.parametrize("has_reasons", [False, True])
def test_paused_is_said_only_when_nothing_is_leased(lifecycle, has_reasons):
    assert derive(lifecycle, True, False, True, has_reasons) == "pausing"
    assert derive(lifecycle, True, False, False, has_reasons) == "paused"


def test_waiting_is_said_only_when_nothing_is_leased():
    assert derive(Lifecycle.PENDING, False, False, False, True) == "waiting"
    assert derive(Lifecycle.PENDING, False, False, False, False) == "pending"
    assert derive(Lifecycle.RUNNING, False, False, False, True) == "waiting"
    assert derive(Lifecycle.RUNNING, False, False, True, True) == "running"
    assert derive(Lifecycle.RUNNING, False, False, False, False) == "running"
