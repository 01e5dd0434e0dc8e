"""Every mistake in a declaration is told at registration, with the class and what is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest

from automation.errors import InvalidParams, PipelineError, UnknownPipeline
from automation.pipeline import (
    AGENT,
    GroupStage,
    Needs,
    Param,
    Payload,
    Pipeline,
    Rows,
    Stage,
    all_pipelines,
    get_pipeline,
    register,
)
from automation.pipeline.checks import check_pipeline
from automation.pipeline.context import StageContext
from pause_manager.capacity.needs import InvalidNeeds


def process(self: Stage, item: Payload, ctx: StageContext) -> Iterable[Payload]:
    return ()


async def awaited(self: Stage, item: Payload, ctx: StageContext) -> Iterable[Payload]:
    return ()


async def streamed(self: Stage, item: Payload, ctx: StageContext) -> AsyncIterator[Payload]:
    yield item


def a_stage(**attributes: Any) -> type[Stage]:
    body = {"slug": "one", "title": "One", "process": process, **attributes}
    return type("MyStage", (Stage,), body)


def a_pipeline(**attributes: Any) -> type[Pipeline]:
    body = {"slug": "mistaken", "title": "Mistaken", "stages": (a_stage(),), **attributes}
    return type("MyPipeline", (Pipeline,), body)


def refusal(make: Callable[[], type[Pipeline]]) -> str:
    with pytest.raises(PipelineError) as caught:
        register(make())
    assert "mistaken" not in [pipeline.slug for pipeline in all_pipelines()]
    return str(caught.value)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"reader": Rows}, "its reader expected an instance of Reader, such as Rows(), got: <class"),
        ({"slug": None}, "MyPipeline.slug expected lower-case letters, digits, - and _, got: None."),
        ({"slug": "Upper"}, "MyPipeline.slug expected lower-case letters"),
        ({"slug": "a" * 51}, "MyPipeline.slug expected lower-case letters"),
        ({"slug": "1st"}, "MyPipeline.slug expected lower-case letters"),
        ({"title": " "}, "MyPipeline.title expected a text"),
        ({"title": 7}, "MyPipeline.title expected a text, got: 7."),
        ({"timeout": 0}, "its timeout expected seconds > 0 or None, got: 0."),
        ({"timeout": "1h"}, "its timeout expected seconds > 0 or None, got: '1h'."),
        ({"stages": ()}, "Cannot register pipeline MyPipeline: it has no stages."),
        ({"stages": (a_stage(), a_stage())}, "two stages have the slug 'one'"),
        ({"stages": (a_stage(), a_stage(slug="two", formerly=("one",)))}, "the slug 'one', now or formerly"),
        ({"formerly": "old"}, "MyPipeline: its formerly expected a tuple of slugs, got: 'old'."),
        ({"formerly": ("drill",)}, "the slug 'drill' is, or was, that of pipeline drill"),
        ({"stages": ("one",)}, "expected a subclass of Stage or GroupStage, got: 'one'."),
        ({"stages": (a_stage()(),)}, "expected a subclass of Stage or GroupStage"),
        ({"stages": (int,)}, "stage int expected a subclass of Stage or GroupStage"),
        (
            {"stages": (type("Idle", (Stage,), {"slug": "idle", "title": "Idle"}),)},
            "stage Idle does not define process()",
        ),
        (
            {"stages": (type("Idle", (GroupStage,), {"slug": "idle", "title": "Idle"}),)},
            "stage Idle does not define process()",
        ),
    ],
)
def test_a_mistaken_pipeline_is_refused_with_its_class_and_mistake(attributes, said):
    message = refusal(lambda: a_pipeline(**attributes))

    assert "MyPipeline" in message
    assert said in message


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"slug": "No Spaces"}, "MyStage.slug expected lower-case letters, digits, - and _, got: 'No Spaces'."),
        ({"title": ""}, "MyStage.title expected a text, got: ''."),
        ({"needs": 2}, "stage MyStage.needs expected Needs(...), got: 2."),
        ({"executor": "cloud"}, "stage MyStage.executor expected one of celery, agent, got: 'cloud'."),
        ({"executor": AGENT, "finish": process}, "stage MyStage.finish is never called: its executor is agent."),
        ({"concurrency": 0}, "stage MyStage.concurrency expected a whole number >= 1, got: 0."),
        ({"concurrency": True}, "stage MyStage.concurrency expected a whole number >= 1, got: True."),
        ({"retries": -1}, "stage MyStage.retries expected a whole number >= 0, got: -1."),
        ({"retries": None}, "stage MyStage.retries expected a whole number >= 0, got: None."),
        ({"max_failures": -1}, "None, got: -1."),
        ({"max_failures": True}, "None, got: True."),
        (
            {"max_failures": 1.0},
            "MyStage.max_failures expected a whole number >= 0, a share above 0 and below 1, or None",
        ),
        ({"max_failures": 0.0}, "None, got: 0.0."),
        ({"prepare": awaited}, "MyStage.prepare is declared async: expected a plain function or generator (def)."),
        ({"process": awaited, "finish": awaited}, "stage MyStage.finish is declared async: expected a plain"),
        ({"setup": awaited}, "stage MyStage.setup is declared async: its process is not."),
        ({"process": awaited, "setup": streamed}, "MyStage.setup is an asynchronous generator: expected it to await"),
        ({"in_flight": 0}, "stage MyStage.in_flight expected a whole number >= 1, got: 0."),
        ({"in_flight": 5}, "stage MyStage.in_flight expected 1, as its process is not async, got: 5."),
        (
            {"process": lambda self, item: [item]},
            "stage MyStage.process expected to be callable as process(self, item, ctx), got: process(self, item).",
        ),
        ({"process": lambda self, item, ctx, tone: [item]}, "got: process(self, item, ctx, tone)."),
        ({"process": staticmethod(lambda item: [item])}, "got: process(item)."),
        ({"finish": lambda self, ctx: None}, "callable as finish(self, ctx, outputs), got: finish(self, ctx)."),
        ({"executor": AGENT, "setup": process}, "stage MyStage.setup is never called: its executor is agent."),
        ({"slice_size": 0}, "stage MyStage.slice_size expected a whole number >= 1, got: 0."),
        ({"slice_size": 2.5}, "stage MyStage.slice_size expected a whole number >= 1, got: 2.5."),
        ({"group_size": 0}, "stage MyStage.group_size expected a whole number >= 1, got: 0."),
        ({"formerly": ("Old One",)}, "stage MyStage.formerly expected a tuple of slugs, got: ('Old One',)."),
        ({"checkpoint_interval": float("inf")}, "stage MyStage.checkpoint_interval expected seconds >= 0, got: inf."),
        ({"retry_backoff": -0.1}, "stage MyStage.retry_backoff expected seconds >= 0, got: -0.1."),
        ({"checkpoint_interval": "0"}, "stage MyStage.checkpoint_interval expected seconds >= 0, got: '0'."),
        ({"after": "one"}, "stage MyStage.after expected a tuple of slugs, got the text 'one'."),
        ({"after": ("later",)}, "stage MyStage.after names 'later': expected a stage listed before it"),
        ({"after": ("one",)}, "stage MyStage.after names 'one': expected a stage listed before it"),
    ],
)
def test_a_mistaken_stage_is_refused_with_its_class_and_mistake(attributes, said):
    assert said in refusal(lambda: a_pipeline(stages=(a_stage(**attributes),)))


@pytest.mark.parametrize(
    "method",
    [
        lambda self, item, ctx: [item],
        lambda self, item, *rest: [item],
        lambda self, *given, **more: [],
        lambda self, item, ctx, tone="plain": [item],
        staticmethod(lambda item, ctx: [item]),
        classmethod(lambda cls, item, ctx: [item]),
    ],
)
def test_whatever_can_be_called_with_an_item_and_a_context_is_a_process(method):
    check_pipeline(a_pipeline(stages=(a_stage(process=method),)), {})


def test_agents_take_no_groups_and_need_no_process():
    grouped = type("MyGroups", (GroupStage,), {"slug": "one", "title": "One", "executor": AGENT})
    plain = type("MyStage", (Stage,), {"slug": "one", "title": "One", "executor": AGENT})

    assert "expected a subclass of Stage, got a GroupStage" in refusal(lambda: a_pipeline(stages=(grouped,)))
    check_pipeline(a_pipeline(stages=(plain,)), {})


@pytest.mark.parametrize("needs", [{"cpu": -1}, {"memory_mib": "1"}, {"gpus": True}, {"cpu": float("nan")}])
def test_needs_that_no_node_could_have_are_refused(needs):
    (field,) = needs

    with pytest.raises(InvalidNeeds, match=rf"Cannot declare Needs.{field}: expected a number >= 0"):
        Needs(**needs)


def test_gpu_memory_means_a_gpu():
    assert Needs(gpu_memory_mib=100).gpus == 1


def test_a_slug_belongs_to_one_pipeline_which_may_be_loaded_again():
    taken = get_pipeline("drill")
    thief = type("Thief", (Pipeline,), {"slug": "drill", "title": "Thief", "stages": (a_stage(),)})

    with pytest.raises(
        PipelineError, match=r"Cannot register pipeline Thief: its slug 'drill' is taken by .*\.Drill\."
    ):
        register(thief)

    assert get_pipeline("drill") is taken
    assert register(taken) is taken


def test_an_unknown_pipeline_is_named_with_those_that_exist():
    with pytest.raises(UnknownPipeline, match=r"Cannot find pipeline 'drilll': expected one of .*content.*drill.*"):
        get_pipeline("drilll")


class Tuned(Pipeline):
    slug = "tuned"
    title = "Tuned"
    stages = (a_stage(),)
    params = (
        Param("count", int, 3, minimum=1, maximum=9),
        Param("share", float, 0.5),
        Param("mode", str, "a", choices=("a", "b")),
        Param("is_loud", bool, False),
    )


def test_parameters_are_converted_and_defaults_filled_in():
    assert Tuned.clean_params({"count": "7", "is_loud": "yes"}) == {
        "count": 7,
        "share": 0.5,
        "mode": "a",
        "is_loud": True,
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cuont": 1}, "Cannot use parameter 'cuont': pipeline tuned takes count, is_loud, mode, share."),
        ({"count": 0}, "Cannot use parameter 'count': expected at least 1, got: 0."),
        ({"count": "10"}, "Cannot use parameter 'count': expected at most 9, got: '10'."),
        ({"count": 2.5}, "Cannot use parameter 'count': expected a whole number, got: 2.5."),
        ({"count": True}, "Cannot use parameter 'count': expected a whole number, got: True."),
        ({"count": None}, "Cannot use parameter 'count': expected a whole number, got: None."),
        ({"share": "nan"}, "Cannot use parameter 'share': expected a number, got: 'nan'."),
        ({"share": "much"}, "Cannot use parameter 'share': expected a number, got: 'much'."),
        ({"mode": "c"}, "Cannot use parameter 'mode': expected one of a, b, got: 'c'."),
        ({"mode": 1}, "Cannot use parameter 'mode': expected a text, got: 1."),
        ({"is_loud": "maybe"}, "Cannot use parameter 'is_loud': expected true or false, got: 'maybe'."),
    ],
)
def test_a_wrong_parameter_is_refused_by_name_rule_and_value(given, said):
    with pytest.raises(InvalidParams) as caught:
        Tuned.clean_params(given)
    assert str(caught.value) == said
