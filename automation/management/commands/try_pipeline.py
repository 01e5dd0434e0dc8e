"""``manage.py try_pipeline``: run a pipeline's stages over a few items in this process, without servers."""

from __future__ import annotations

import sysconfig
import time
import traceback
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from automation.errors import InvalidInput, UnknownPipeline
from automation.management.commands.run_pipeline import parsed_params
from automation.management.run_command import Exit, RunCommand
from automation.pipeline import AnyStage, Payload, Pipeline, get_pipeline, run_input
from automation.testing import Failure, PipelineResult, StageResult, run_pipeline, run_stage

LONGEST_LINE = 160
ENGINE = Path(__file__).resolve().parents[2]
LIBRARIES = ("stdlib", "purelib", "platlib")

EPILOG = """\
Nothing is stored: files that stages save with ctx.artifacts are listed, and written with --artifacts. Retries do not
wait; time limits, capacity and pauses are not tested.

exit codes:
  0    every item went through
  1    an item failed, asked a question or froze the lane
  2    wrong usage or input
  130  interrupted with Ctrl-C
"""


class Command(RunCommand):
    help = "Run a pipeline, or one of its stages, over a few items in this process, without servers."
    epilog = EPILOG
    requires_system_checks = ()

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("pipeline", help="slug of the pipeline")
        given = parser.add_mutually_exclusive_group()
        given.add_argument("--input", metavar="F", help="file with items, as for run_pipeline; - is stdin")
        given.add_argument("--item", action="append", metavar="JSON", help="an item, as a JSON object; may be repeated")
        parser.add_argument("--limit", type=_count, default=5, metavar="N", help="use the first N items (5)")
        parser.add_argument("--param", action="append", default=[], metavar="K=V", help="parameter; may be repeated")
        parser.add_argument("--stage", metavar="S", help="slug of the only stage to run; the items are its input")
        parser.add_argument("--artifacts", metavar="DIR", help="write files that stages save to this folder")

    def run_command(self, **options: Any) -> Exit:
        pipeline = get_pipeline(options["pipeline"])
        params = parsed_params(options["param"])
        stage = _stage(pipeline, options["stage"]) if options["stage"] is not None else None
        with _items(pipeline, options) as items:
            if stage is None:
                result = run_pipeline(pipeline, items, params=params, limit=options["limit"], sleep=time.sleep)
            else:
                result = _one(pipeline, stage, islice(items or (), options["limit"]), params)
        for found in result.stages.values():
            self._show(found, as_json=options["json"], is_long=options["traceback"])
        self._show_files(result.files, options)
        has_stopped = any(found.is_interrupted for found in result.stages.values())
        return Exit.FAILED if result.failures or has_stopped else Exit.OK

    def _show(self, found: StageResult, *, as_json: bool, is_long: bool) -> None:
        if as_json:
            self.line(_facts(found))
            return
        head = f"{found.slug} ({found.title})"
        if not found.is_done_here:
            self.line(f"{head}: it runs on agents, so it was not tried.")
            return
        figures = f"{_counted(found.items, 'item')}, {_counted(len(found.made), 'output')}"
        failed = f", {len(found.failures)} failed" if found.failures else ""
        self.line(f"{head}: {figures}{failed}, {found.seconds:.2f} s")
        for key, encoded in found.made:
            self.line(f"  {key}  {_cut(encoded.decode())}")
        for question in found.questions:
            choices = f" ({' | '.join(question.choices)})" if question.choices else ""
            self.line(f"  {question.key}  asks: {question.text}{choices}; the run would be held until it is answered")
        if found.frozen:
            self.line(f"  freezes the lane: {found.frozen}; nothing of it would start until an operator lifts that")
        for failure in found.failures:
            tries = f" (after {failure.attempts} tries)" if failure.attempts > 1 else ""
            self.line(f"  {failure.key}  failed{tries}: {failure}{_place(failure)}")
            if failure.item is not None:
                self.line(f"       item: {_cut(orjson.dumps(failure.item).decode())}")
            if is_long:
                self.line(failure.traceback)

    def _show_files(self, files: dict[str, bytes], options: dict[str, Any]) -> None:
        folder = Path(options["artifacts"]) if options["artifacts"] else None
        for name, content in files.items():
            if folder is not None:
                _write(folder, name, content)
            if not options["json"]:
                self.line(f"file {folder / name if folder else name}: {len(content):,} bytes")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise ArgumentTypeError(f"expected a whole number above 0, got: {text!r}")
    return int(text)


def _stage(pipeline: type[Pipeline], slug: str) -> type[AnyStage]:
    try:
        return pipeline.stage(slug)
    except KeyError:
        known = ", ".join(stage.slug for stage in pipeline.stages)
        raise UnknownPipeline(
            f"Cannot find stage {slug!r} of pipeline {pipeline.slug}: expected one of {known}."
        ) from None


@contextmanager
def _items(pipeline: type[Pipeline], options: dict[str, Any]) -> Iterator[Iterable[Payload] | None]:
    if options["input"] is not None:
        with run_input.opened(options["input"]) as file:
            yield run_input.of_file(pipeline, file, run_input.name_of(options["input"])).items()
    else:
        yield None if options["item"] is None else [_item(text) for text in options["item"]]


def _item(text: str) -> Payload:
    try:
        item = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"Cannot use --item {text!r}: it is not valid JSON: {error}.") from None
    if not isinstance(item, dict):
        raise InvalidInput(f"Cannot use --item {text!r}: expected a JSON object.")
    return item


def _one(
    pipeline: type[Pipeline], stage: type[AnyStage], items: Iterable[Payload], params: dict[str, Any]
) -> PipelineResult:
    files: dict[str, bytes] = {}
    found = run_stage(stage, items, params=pipeline.clean_params(params), files=files, sleep=time.sleep)
    return PipelineResult({stage.slug: found}, files)


def _facts(found: StageResult) -> dict[str, Any]:
    failures = [
        {"key": one.key, "error": str(one), "attempts": one.attempts, "item": one.item} for one in found.failures
    ]
    return {
        "stage": found.slug,
        "items": found.items,
        "outputs": found.outputs,
        "failures": failures,
        "questions": [{"key": one.key, "question": one.text, "choices": list(one.choices)} for one in found.questions],
        "frozen": found.frozen,
        "seconds": round(found.seconds, 3),
        "is_tried": found.is_done_here,
    }


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number:,} {what}s"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_LINE else text[:LONGEST_LINE] + "…"


def _place(failure: Failure) -> str:
    """The place in the author's code that raised: the last frame outside the engine and libraries."""
    frames = traceback.extract_tb(failure.error.__traceback__)
    own = [frame for frame in frames if not _is_foreign(Path(frame.filename))]
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""


def _is_foreign(path: Path) -> bool:
    """Return whether the file belongs to the engine, to Python or to a library."""
    return path.parent == ENGINE or any(path.is_relative_to(sysconfig.get_path(name)) for name in LIBRARIES)


def _write(folder: Path, name: str, content: bytes) -> None:
    target = (folder / name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise InvalidInput(f"Cannot write the file {name!r}: it is outside {folder}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
