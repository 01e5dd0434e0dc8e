"""One stage over some items in this process, called as a worker would call it. Behind ``automation.testing``."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from automation.conf import AutomationSettings
from automation.items import keys
from automation.pipeline import AnyStage, BaseStage, FreezeLane, GroupStage, NeedsInput, Payload, item_types
from automation.pipeline.context import AsyncStageContext, Interrupted, StageContext
from automation.pipeline.hooks import LoopSetup, without_assignment
from automation.pipeline.item_types import Reader
from automation.pipeline.params import AGENT
from automation.pipeline.payloads import UnfitPayload, encode, of_wrong_type
from automation.pipeline.retry_policy import is_tried_again
from automation.pipeline.stage import is_async
from automation.testing.memory_artifacts import RUN_ID, MemoryArtifacts
from automation.testing.results import Failure, Item, Question, StageResult


def make_context(
    stage: type[AnyStage],
    *,
    params: Mapping[str, Any] | None = None,
    files: dict[str, bytes] | None = None,
    items: Sequence[Payload] = (),
    sleep: Callable[[float], None] = lambda seconds: None,
    **more: Any,
) -> StageContext:
    """A context for ``stage``, to call one of its methods by hand. ``ctx.sleep`` returns at once."""
    return StageContext(
        run_id=RUN_ID,
        stage_slug=stage.slug,
        params=dict(params or {}),
        logger=logging.getLogger(f"automation.stage.{stage.slug}"),
        artifacts=MemoryArtifacts(stage.slug, {} if files is None else files),
        sleep=sleep,
        items=lambda: iter(items),
        **more,
    )


class Trial:
    """One stage over the items that each of its sources made."""

    def __init__(
        self,
        stage: type[AnyStage],
        sources: Sequence[Sequence[Item]],
        params: Mapping[str, Any],
        files: dict[str, bytes],
        *,
        readers: Sequence[Reader] = (),
        sleep: Callable[[float], None],
        answer: Callable[[Question], str | None] | None = None,
    ) -> None:
        self._answer = answer
        self._answers: dict[str, dict[str, str]] = {}
        """By key of the item or name of the hook: its questions and their answers."""
        self.stop_at_checkpoint: int | None = None
        self._stage = stage
        self._sources = sources
        self._readers = readers
        self._result = StageResult(stage.slug, stage.title, items=sum(map(len, sources)))
        self._checkpoints = 0
        self._kept: list[Item] = []
        """Outputs of the item in progress that were committed by a checkpoint."""
        self._new: list[Item] = []
        """Those since then."""
        self._ctx = make_context(
            stage,
            params=params,
            files=files,
            items=_Items(sources),
            sleep=sleep,
            back_off=lambda seconds: None,
            should_stop=self._should_stop,
            checkpoint=self._checkpoint,
            state=self._state,
            answers=lambda key: self._answers.get(key, {}),
        )
        self._runner: asyncio.Runner | None = None
        if is_async(inspect.unwrap(stage.process)):
            self._runner = asyncio.Runner()
            self._ctx = AsyncStageContext.like(self._ctx)
            self._ctx.bind(sleep=_awaited(sleep), checkpoint=_awaited(self._checkpoint), state=self._state)

    def resume(self, before: StageResult) -> None:
        """Continue where ``before`` ended."""
        self._result.made = list(before.made)
        self._result.failures = list(before.failures)
        self._result.done = set(before.done)
        self._result.parts = dict(before.parts)

    def run(self) -> StageResult:
        result = self._result
        if self._stage.executor == AGENT:
            result.is_done_here = False
            return result
        started = time.monotonic()
        try:
            self._run()
        except Interrupted:
            result.is_interrupted = True
        finally:
            if self._runner is not None:
                self._runner.close()
        result.seconds = time.monotonic() - started
        return result

    def _run(self) -> None:
        if not self._hook("prepare", self._prepare):
            return
        set_up = LoopSetup(self._ctx, self._await)
        made: list[AnyStage] = []

        def setup() -> None:
            made[:] = [self._stage()]
            set_up.of(made[0])

        if not self._hook("setup", setup):
            return
        try:
            process = item_types.process_of(made[0], self._readers)
            for unit in self._units():
                if unit[0][0] not in self._result.done:
                    self._work_on(unit, process)
        finally:
            set_up.take_down()
        self._hook("finish", lambda: self._stage().finish(self._ctx, iter(self._result.outputs)))

    def _prepare(self) -> None:
        if self._stage.prepare is not BaseStage.prepare:
            stage = self._stage()
            with without_assignment(stage):
                stage.prepare(self._ctx)

    def _hook(self, name: str, call: Callable[[], object]) -> bool:
        self._ctx.item_key = name
        try:
            self._tried(lambda number: call(), None)
        except _GivenUp as given_up:
            self._result.failures.append(given_up.failure)
            return False
        return True

    def _units(self) -> Iterator[Sequence[Item]]:
        size = self._stage.group_size if issubclass(self._stage, GroupStage) else 1
        for source in self._sources:
            for start in range(0, len(source), size):
                yield source[start : start + size]

    def _work_on(self, unit: Sequence[Item], process: item_types.Process) -> None:
        key = self._ctx.item_key = unit[0][0]

        def attempt(number: int) -> None:
            self._kept, self._new = [], []
            items = [orjson.loads(encoded) for _, encoded in unit]
            outputs = process(items if issubclass(self._stage, GroupStage) else items[0], self._ctx)
            if hasattr(outputs, "__aiter__"):
                self._await(self._stream(outputs))
                return
            if inspect.isawaitable(outputs):
                outputs = item_types.fit(self._await(outputs), self._readers)
            if isinstance(outputs, dict | str | bytes) or not isinstance(outputs, Iterable):
                raise UnfitPayload(of_wrong_type(outputs))
            for output in outputs:
                self._add(output)

        given = [orjson.loads(encoded) for _, encoded in unit]
        try:
            self._tried(attempt, given if issubclass(self._stage, GroupStage) else given[0])
            self._result.made += self._kept + self._new
        except _GivenUp as given_up:
            self._result.failures.append(given_up.failure)
        self._result.parts.pop(key, None)
        self._result.done.add(key)

    def _add(self, output: Any) -> None:
        encoded = encode(output, self._stage.max_item_bytes or AutomationSettings.max_item_bytes)
        self._new.append((keys.child(self._ctx.item_key, len(self._kept) + len(self._new)), encoded))

    async def _stream(self, outputs: AsyncIterable[Any]) -> None:
        number = 0
        async for output in outputs:
            number += 1
            if self._readers:
                item_types.check_output(output, number, self._readers)
            self._add(output)

    def _await(self, made: Any) -> Any:
        assert self._runner is not None
        return self._runner.run(made)

    def _tried(self, do: Callable[[int], object], item: Any) -> None:
        failed = 0
        while True:
            number = failed + 1
            try:
                do(number)
                return
            except (Interrupted, KeyboardInterrupt):
                raise
            except FreezeLane as freeze:
                self._result.frozen = freeze.why
                raise Interrupted from freeze
            except NeedsInput as asked:
                self._ask(asked, item)
            except BaseException as error:
                if number > self._stage.retries or not is_tried_again(self._stage, error):
                    raise _GivenUp(Failure(self._ctx.item_key, item, error, number)) from error
                failed = number

    def _ask(self, asked: NeedsInput, item: Any) -> None:
        """Have it answered, or stop. What was answered before is not asked again: the stage did not listen."""
        question = Question(self._ctx.item_key, item, asked.question, asked.choices)
        self._result.questions.append(question)
        given = self._answers.setdefault(question.key, {})
        if self._answer is not None and question.text not in given:
            question.answer = self._answer(question)
        if question.answer is None:
            raise Interrupted from asked
        if question.choices and question.answer not in question.choices:
            allowed = ", ".join(question.choices)
            raise ValueError(f"{question.text}: expected one of {allowed}, got: {question.answer!r}")
        given[question.text] = question.answer

    def _should_stop(self) -> bool:
        return self.stop_at_checkpoint is not None and self._checkpoints + 1 >= self.stop_at_checkpoint

    def _checkpoint(self, state: Any) -> None:
        if state is None:
            raise ValueError("expected a JSON value that is not None, got: None")
        is_last = self._should_stop()
        self._checkpoints += 1
        self._kept += self._new
        self._new = []
        self._result.parts[self._ctx.item_key] = (orjson.dumps(state), list(self._kept))
        if is_last:
            raise Interrupted

    def _state(self) -> Any:
        found = self._result.parts.get(self._ctx.item_key)
        if found is None:
            return None
        if not self._kept and not self._new:
            self._kept = list(found[1])
        return orjson.loads(found[0])


def _awaited(do: Callable[[Any], None]) -> Callable[[Any], Awaitable[None]]:
    async def awaited(given: Any) -> None:
        do(given)

    return awaited


class _GivenUp(Exception):
    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class _Items(Sequence[Payload]):
    """All items of a stage, decoded again each time."""

    def __init__(self, sources: Sequence[Sequence[Item]]) -> None:
        self._all = [encoded for source in sources for _, encoded in source]

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, index: Any) -> Any:
        return orjson.loads(self._all[index])
