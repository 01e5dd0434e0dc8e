"""A stage, or a pipeline, in one process: what an author's unit test sees."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from automation.errors import InvalidInput, InvalidParams, PipelineError
from automation.pipeline import AGENT, GroupStage, Param, Payload, Pipeline, Stage
from automation.pipeline.context import StageContext
from automation.testing import make_context, run_pipeline, run_stage

REPOSITORY = Path(__file__).parents[3]


@dataclass
class Line:
    text: str
    length: int = 0


class Measure(Stage):
    slug = "measure"
    title = "Measure"
    item_type = Line

    def process(self, line: Line, ctx: StageContext) -> Iterable[Any]:
        yield Line(line.text + ctx.params["mark"], len(line.text))


class Pair(GroupStage):
    slug = "pair"
    title = "Pair"
    group_size = 2

    def prepare(self, ctx: StageContext) -> None:
        ctx.artifacts.save("all.txt", str(len(list(ctx.items()))).encode())

    def process(self, items: Any, ctx: StageContext) -> Iterable[Payload]:
        yield {"texts": [item["text"] for item in items], "all": int(ctx.artifacts.read("all.txt"))}

    def finish(self, ctx: StageContext, outputs: Iterable[Payload]) -> None:
        ctx.artifacts.save("end.txt", str(len(list(outputs))).encode())


class Lines(Pipeline):
    slug = "lines"
    title = "Lines"
    stages = (Measure, Pair)
    params = (Param("mark", str, "!"),)


def test_a_pipeline_runs_its_stages_hooks_and_groups():
    result = run_pipeline(Lines, [{"text": "a"}, {"text": "bc"}, {"text": "d"}])

    assert result.stages["measure"].outputs[1] == {"text": "bc!", "length": 2}
    assert result.outputs == [{"texts": ["a!", "bc!"], "all": 3}, {"texts": ["d!"], "all": 3}]
    assert list(result.files.values()) == [b"3", b"2"]
    assert result.failures == []


def test_limit_parameters_and_input_are_as_for_a_run():
    assert run_pipeline(Lines, [{"text": "a"}, {"text": "b"}], params={"mark": "?"}, limit=1).outputs == [
        {"texts": ["a?"], "all": 1}
    ]
    with pytest.raises(InvalidParams, match="takes mark"):
        run_pipeline(Lines, [{"text": "a"}], params={"marks": 1})
    with pytest.raises(InvalidInput, match=r"Cannot use item 2: expected Line \(text: str, length: int\); text: Field"):
        run_pipeline(Lines, [{"text": "a"}, {"name": "b"}])
    with pytest.raises(InvalidInput, match="needs input"):
        run_pipeline(Lines)


class Picky(Stage):
    """Fails of all but every third call, and changes what it is given."""

    slug = "picky"
    title = "Picky"
    retries = 1
    no_retry_for = (ValueError,)

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Any]:
        n = item.pop("n")
        if n == 1:
            raise KeyError("gone")
        if n == 2:
            raise ValueError("never")
        if n == 3:
            raise SystemExit(2)
        return [{"n": float("nan")}] if n == 4 else {"n": n}


def test_a_failure_tells_item_error_and_tries():
    result = run_stage(Picky, [{"n": n} for n in range(1, 6)])

    assert [(one.item, one.attempts, str(one)[:20]) for one in result.failures] == [
        ({"n": 1}, 2, "KeyError: 'gone'"),
        ({"n": 2}, 1, "ValueError: never"),
        ({"n": 3}, 2, "SystemExit: 2"),
        ({"n": 4}, 1, "UnfitPayload: expect"),
        ({"n": 5}, 1, "UnfitPayload: expect"),
    ]
    assert "yield it, or return [it]" in str(result.failures[-1])
    assert result.outputs == []


class Broken(Stage):
    slug = "broken"
    title = "Broken"

    def prepare(self, ctx: StageContext) -> None:
        self.model = 1

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        yield item


def test_a_hook_that_fails_ends_the_run():
    pipeline = type("Two", (Pipeline,), {"slug": "two", "title": "Two", "stages": (Broken, Pair)})

    result = run_pipeline(pipeline, [{"n": 1}])

    assert list(result.stages) == ["broken"]
    assert "Cannot set self.model in prepare()" in str(result.failures[0])


def test_branches_meet_with_keys_that_say_which_they_came_from():
    def stage(slug: str, after: tuple[str, ...] | None, mark: str) -> type[Stage]:
        def process(self: Any, item: Payload, ctx: StageContext) -> Iterable[Payload]:
            yield {"way": [*item.get("way", []), mark], "key": ctx.item_key}

        return type(slug, (Stage,), {"slug": slug, "title": slug, "after": after, "process": process})

    stages = (stage("left", (), "l"), stage("right", (), "r"), stage("both", ("left", "right"), "b"))
    pipeline = type("Ways", (Pipeline,), {"slug": "ways", "title": "Ways", "stages": stages})

    result = run_pipeline(pipeline, [{"n": 1}])

    assert result.outputs == [
        {"way": ["l", "b"], "key": "00:000.000"},
        {"way": ["r", "b"], "key": "01:000.000"},
    ]
    assert run_stage(stages[2], [{"n": 1}]).outputs == [{"way": ["b"], "key": "000"}]


def test_what_agents_do_is_not_tried():
    stage = type("Remote", (Stage,), {"slug": "remote", "title": "Remote", "executor": AGENT})

    assert not run_stage(stage, [{"n": 1}]).is_done_here


class Train(Stage):
    slug = "train"
    title = "Train"

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        for epoch in range((ctx.state or {"epoch": 0})["epoch"], 3):
            yield {"of": item["n"], "epoch": epoch}
            ctx.checkpoint({"epoch": epoch + 1})


@pytest.mark.parametrize("stop", range(1, 7))
def test_a_stage_that_stops_at_a_checkpoint_goes_on_from_there(stop):
    items = [{"n": 1}, {"n": 2}]
    whole = run_stage(Train, items)

    first = run_stage(Train, items, stop_at_checkpoint=stop)
    second = run_stage(Train, items, resume=first)

    assert first.is_interrupted
    assert list(first.states.values()) == [{"epoch": (stop - 1) % 3 + 1}]
    assert second.outputs == whole.outputs
    assert len(whole.outputs) == 6


def test_a_method_can_be_called_by_hand():
    ctx = make_context(Measure, params={"mark": "!"})

    assert list(Measure().process(Line("a"), ctx)) == [Line("a!", 1)]
    assert not ctx.should_stop()
    with pytest.raises(RuntimeError, match="no item is in progress"):
        ctx.checkpoint({})


def test_a_stage_that_is_declared_wrongly_is_refused():
    with pytest.raises(PipelineError, match="retries expected a whole number"):
        run_stage(type("Bad", (Measure,), {"retries": -1}), [{"text": "a"}])


def test_it_takes_no_settings_and_no_models(tmp_path):
    (tmp_path / "trial.py").write_text(
        "import sys\n"
        "from automation.pipeline import Stage\n"
        "from automation.testing import run_stage\n"
        "class One(Stage):\n"
        "    slug, title = 'one', 'One'\n"
        "    def process(self, item, ctx):\n"
        "        ctx.artifacts.save('a', b'1')\n"
        "        yield {'text': 'x' * 5_000, **item}\n"
        "assert len(run_stage(One, [{'n': 1}]).outputs) == 1\n"
        "assert 'pydantic' not in sys.modules and 'automation.models' not in sys.modules\n"
    )
    env = {"PYTHONPATH": str(REPOSITORY), "PATH": ""}

    ended = subprocess.run([sys.executable, "trial.py"], cwd=tmp_path, env=env, capture_output=True, text=True)

    assert ended.returncode == 0, ended.stderr
