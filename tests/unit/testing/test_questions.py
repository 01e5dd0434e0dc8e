"""Questions and freezes in a trial."""

from __future__ import annotations

import pytest

from automation.pipeline import FreezeLane, NeedsInput, Pipeline, Stage
from automation.testing import run_pipeline, run_stage


class Publish(Stage):
    slug = "publish"
    title = "Publish"
    retries = 1

    def process(self, item, ctx):
        if item["n"] == 2:
            for question in ("Publish it?", "Really?"):
                if question not in ctx.answers:
                    raise NeedsInput(question, choices=("yes", "no"))
        yield {"n": item["n"], "answer": ctx.answer}


class Check(Stage):
    slug = "check"
    title = "Check"

    def process(self, item, ctx):
        yield item

    def finish(self, ctx, outputs):
        if len(list(outputs)) > 2:
            raise FreezeLane("more than two")


class Publishing(Pipeline):
    slug = "publishing-trial"
    title = "Publishing"
    stages = (Publish, Check)


ITEMS = [{"n": 1}, {"n": 2}, {"n": 3}]


def test_a_question_stops_the_stage_and_fails_nothing():
    result = run_stage(Publish, ITEMS)

    (question,) = result.questions
    assert (question.key, question.text, question.choices, question.answer) == (
        "001",
        "Publish it?",
        ("yes", "no"),
        None,
    )
    assert question.item == {"n": 2}
    assert result.is_interrupted
    assert not result.failures
    assert result.outputs == [{"n": 1, "answer": None}]


def test_questions_are_answered_in_the_place_of_a_person():
    result = run_stage(Publish, ITEMS, answer=lambda question: "no" if question.text == "Really?" else "yes")

    assert [(one.text, one.answer) for one in result.questions] == [("Publish it?", "yes"), ("Really?", "no")]
    assert [one["answer"] for one in result.outputs] == [None, "no", None]
    assert not result.is_interrupted


def test_a_trial_continues_where_a_question_stopped_it():
    stopped = run_stage(Publish, ITEMS)

    result = run_stage(Publish, ITEMS, resume=stopped, answer=lambda question: "yes")

    assert [one["n"] for one in result.outputs] == [1, 2, 3]


def test_an_answer_that_is_no_choice_is_the_test_s_own_mistake():
    with pytest.raises(ValueError, match="expected one of yes, no, got: 'perhaps'"):
        run_stage(Publish, ITEMS, answer=lambda question: "perhaps")


def test_a_stage_that_does_not_listen_is_not_asked_for_ever():
    class Deaf(Publish):
        def process(self, item, ctx):
            raise NeedsInput("Well?")

    result = run_stage(Deaf, ITEMS, answer=lambda question: "yes")

    assert [one.answer for one in result.questions] == ["yes", None]
    assert result.is_interrupted


def test_a_freeze_is_told_and_the_run_stops():
    result = run_pipeline(Publishing, ITEMS, answer=lambda question: "yes")

    assert result.frozen == "more than two"
    assert not result.failures
    assert list(result.stages) == ["publish", "check"]
    assert not run_pipeline(Publishing, ITEMS[:2], answer=lambda question: "yes").frozen


def test_a_pipeline_stops_at_a_question():
    result = run_pipeline(Publishing, ITEMS)

    assert [one.text for one in result.questions] == ["Publish it?"]
    assert list(result.stages) == ["publish"]
