"""A mistake in a settings dictionary is found at start, by name, with a suggestion."""

from __future__ import annotations

import importlib

import pytest
from django.core.checks import run_checks

from automation.conf import AutomationSettings
from pause_manager import conf
from pause_manager.checks import check_declared, check_options


def check(settings, **given):
    settings.AUTOMATION = given
    return check_declared("AUTOMATION", AutomationSettings, "automation")


def test_a_misspelt_option_says_which_was_meant(settings):
    [error] = check(settings, lease_second=15)

    assert (error.id, error.msg, error.hint) == (
        "automation.E011",
        "AUTOMATION has no option 'lease_second'.",
        "Did you mean 'lease_seconds'?",
    )


def test_an_unknown_option_lists_those_that_exist(settings):
    [error] = check(settings, zzz=1)

    assert error.hint.startswith("Allowed: lease_seconds, loop_seconds, ")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("lease_seconds", "15", "AUTOMATION['lease_seconds'] expected float, got: '15'"),
        ("lease_seconds", True, "AUTOMATION['lease_seconds'] expected float, got: True"),
        ("max_loops", 2.5, "AUTOMATION['max_loops'] expected int, got: 2.5"),
        ("max_loops", 0, "AUTOMATION['max_loops'] expected a number > 0, got: 0"),
        ("loop_seconds", -1, "AUTOMATION['loop_seconds'] expected a number > 0, got: -1"),
    ],
)
def test_a_wrong_value_is_named(settings, option, value, message):
    assert [error.msg for error in check(settings, **{option: value})] == [message]


def test_right_values_pass(settings):
    assert check(settings, lease_seconds=1, loop_seconds=0.5, max_loops=3) == []


def test_something_else_than_a_dictionary_is_refused(settings):
    settings.AUTOMATION = ["lease_seconds"]

    [error] = check_declared("AUTOMATION", AutomationSettings, "automation")

    assert error.msg == "AUTOMATION expected a dictionary, got: list"


def test_the_checks_run_with_all_others(settings):
    importlib.import_module("pause_manager.pausable")  # as in a worker: its tasks are checked, too
    settings.AUTOMATION = {"leese_seconds": 1}
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "chanel": "x"}

    found = {error.id: error.hint for error in run_checks() if error.id and error.id.endswith("E011")}

    assert found == {
        "automation.E011": "Did you mean 'lease_seconds'?",
        "pause_manager.E011": "Did you mean 'channel'?",
    }


def test_a_name_of_the_machine_that_no_hold_could_have_is_refused(settings):
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "node": "my machine"}

    [error] = check_options(None)

    assert (error.id, "'my machine'" in error.msg) == ("pause_manager.E026", True)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"pause_below": 0.3}, "pause_below is now pause_below in a group: {'thresholds': {'pause_below': ...}}"),
        ({"adaptive_min": 0.3}, "adaptive_min is now min in a group: {'adaptive': {'min': ...}}"),
        ({"consolidates": False}, "consolidates is now enabled in a group: {'consolidation': {'enabled': ...}}"),
        ({"swing_seconds": 9.0}, "swing_seconds is now peak_seconds in a group: {'thresholds': {'peak_seconds': ...}}"),
        ({"adaptive": True}, "expected a dict of options for 'adaptive', got: True"),
        ({"pressure_share": 0.1}, "pressure_share cannot be set: it is 0.05"),
        ({"offline_after_seconds": 9.0}, "offline_after_seconds cannot be set: it is missed_samples x sample_seconds"),
        ({"tresholds": {}}, "there is no group 'tresholds': did you mean 'thresholds'?"),
        ({"dwell": {"cooldown": 1.0}}, "'dwell' has no option 'cooldown': did you mean 'cooldown_seconds'?"),
        ({"queue": {"zzz": 1}}, "'queue' has no option 'zzz': expected one of ramp_max, packs, ageing_seconds, "),
        ({"thresholds": {"pause_below": 0.9}}, "expected 0 <= pause_below <= resume_above <= 1, got: 0.9 and 0.3"),
        ({"dwell": {"cooldown_seconds": -1.0}}, "expected dwell.cooldown_seconds >= 0, got: -1.0"),
    ],
)
@pytest.mark.parametrize("pipeline", ["", "content"])
def test_an_option_of_the_policy_that_does_not_exist_says_where_it_is_or_what_does(settings, pipeline, policy, message):
    given = {"pipeline_policies": {pipeline: policy}} if pipeline else {"policy": policy}
    settings.PAUSE_MANAGER = given

    [error] = check_options(None)

    assert error.id == "pause_manager.E014"
    assert message in error.msg


def test_options_of_a_pipeline_are_added_to_those_of_the_fleet_group_by_group(settings):
    settings.PAUSE_MANAGER = {
        "policy": {"thresholds": {"pause_below": 0.1, "resume_above": 0.6}, "adaptive": {"enabled": True}},
        "pipeline_policies": {"content": {"thresholds": {"pause_below": 0.4}}},
    }

    policy = conf.settings().policy_of("content")

    assert check_options(None) == []
    assert (policy.pause_below, policy.resume_above, policy.adaptive) == (0.4, 0.6, True)
    assert conf.settings().policy_of().pause_below == 0.1
