"""A stage's optional hooks: ``prepare`` and ``finish`` once per run, ``setup`` and ``teardown`` once per loop."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from automation.errors import PipelineError
from automation.pipeline.context import StageContext
from automation.pipeline.stage import AnyStage


@contextmanager
def without_assignment(stage: AnyStage) -> Iterator[None]:
    """While ``prepare`` runs, setting an attribute on ``stage`` raises: no other loop would ever see it."""
    declared = type(stage)
    stage.__class__ = type(declared.__name__, (declared,), {"__setattr__": _refuse})
    try:
        yield
    finally:
        object.__setattr__(stage, "__class__", declared)


def _refuse(stage: AnyStage, name: str, value: Any) -> None:
    raise PipelineError(
        f"Cannot set self.{name} in prepare() of {type(stage).__name__}: it runs once per run, and the loops in other "
        f"processes would not have it. Set it in setup(ctx), which runs once per loop, or leave it in ctx.artifacts."
    )


class LoopSetup:
    """The set-up of one loop's stage: made before its first item, taken down once, at its end.

    Where it is async, ``run`` runs it.
    """

    def __init__(self, ctx: StageContext, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._ctx = ctx
        self._run = run
        self._stage: AnyStage | None = None

    def of(self, stage: AnyStage) -> None:
        """Call ``setup`` unless it has been."""
        if self._stage is None:
            self._finish(stage.setup(self._ctx))
            self._stage = stage

    def take_down(self) -> None:
        """Call ``teardown`` if ``setup`` was called and did not raise. What it raises is logged: the work is done."""
        stage, self._stage = self._stage, None
        if stage is None:
            return
        try:
            self._finish(stage.teardown(self._ctx))
        except BaseException:
            self._ctx.logger.exception("teardown() of %s failed.", type(stage).__name__)

    def _finish(self, made: Any) -> None:
        if inspect.iscoroutine(made):
            self._run(made)
