"""The check of a pipeline's declaration, made when it is registered."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from math import inf, isfinite
from typing import Any

from automation.conf import SLUG
from automation.errors import PipelineError
from automation.inputs import Reader
from automation.pipeline import item_types
from automation.pipeline.failure_limit import HOLD, ON_EXHAUSTED, is_limit
from automation.pipeline.params import AGENT, CELERY, EXECUTORS
from automation.pipeline.pipeline import Pipeline
from automation.pipeline.stage import AnyStage, BaseStage, GroupStage, Stage, is_async
from pause_manager.capacity.needs import Needs
from pause_manager.scopes import wrong_uses

HOOKS = ("prepare", "setup", "teardown", "finish")
TAKES = {
    "process": ("item", "ctx"),
    "prepare": ("ctx",),
    "setup": ("ctx",),
    "teardown": ("ctx",),
    "finish": ("ctx", "outputs"),
}
"""Methods of a stage, and what each is called with."""
MAY_BE_ASYNC = ("process", "setup", "teardown")


def check_pipeline(pipeline: type[Pipeline], registry: Mapping[str, type[Pipeline]]) -> None:
    """Raise ``PipelineError`` naming the class and its first mistake."""
    name = pipeline.__name__

    def refuse(fact: str) -> PipelineError:
        return PipelineError(f"Cannot register pipeline {name}: {fact}.")

    _check_names(name, pipeline, refuse_prefix=f"Cannot register pipeline {name}")
    other = registry.get(pipeline.slug)
    if other is not None and f"{other.__module__}.{other.__qualname__}" != f"{pipeline.__module__}.{name}":
        raise refuse(f"its slug {pipeline.slug!r} is taken by {other.__module__}.{other.__qualname__}")
    timeout = pipeline.timeout
    if timeout is not None and (not _is_number(timeout) or timeout <= 0):
        raise refuse(f"its timeout expected seconds > 0 or None, got: {timeout!r}")
    kept = pipeline.retention_days
    if kept is not None and (isinstance(kept, bool) or not isinstance(kept, int) or kept < 1):
        raise refuse(f"its retention_days expected a whole number >= 1 or None, got: {kept!r}")
    if not _is_limit(pipeline.item_timeout):
        raise refuse(f"its item_timeout expected seconds >= 0 or None, got: {pipeline.item_timeout!r}")
    _check_item_type(pipeline.item_type, f"Cannot register pipeline {name}: its item_type")
    if not isinstance(pipeline.reader, Reader):
        raise refuse(f"its reader expected an instance of Reader, such as Rows(), got: {pipeline.reader!r}")
    if not pipeline.stages:
        raise refuse("it has no stages")
    _check_formerly(pipeline.formerly, f"Cannot register pipeline {name}: its formerly")
    for slug in (pipeline.slug, *pipeline.formerly):
        for one in registry.values():
            if one.slug != pipeline.slug and slug in (one.slug, *one.formerly):
                raise refuse(f"the slug {slug!r} is, or was, that of pipeline {one.slug}")
    seen: list[str] = []
    taken: set[str] = set()
    for stage in pipeline.stages:
        prefix = f"Cannot register pipeline {name}: stage {getattr(stage, '__name__', stage)!s}"
        _check_stage(stage, prefix)
        for slug in (stage.slug, *stage.formerly):
            if slug in taken:
                raise refuse(f"two stages have the slug {slug!r}, now or formerly")
            taken.add(slug)
        for slug in stage.after or ():
            if slug not in seen:
                raise PipelineError(f"{prefix}.after names {slug!r}: expected a stage listed before it")
        seen.append(stage.slug)


def _check_item_type(declared: Any, prefix: str) -> None:
    if declared is None:
        return
    try:
        item_types.of(declared)
    except item_types.NoItemType as error:
        raise PipelineError(f"{prefix} cannot be used: {error}.") from None


def _check_formerly(formerly: object, prefix: str) -> None:
    if not isinstance(formerly, tuple) or not all(isinstance(slug, str) and SLUG.fullmatch(slug) for slug in formerly):
        raise PipelineError(f"{prefix} expected a tuple of slugs, got: {formerly!r}.")


def _is_limit(value: Any) -> bool:
    return value is None or (_is_number(value) and 0 <= value < inf)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_names(name: str, declared: type[Any], refuse_prefix: str) -> None:
    slug = getattr(declared, "slug", None)
    if not isinstance(slug, str) or not SLUG.fullmatch(slug):
        raise PipelineError(
            f"{refuse_prefix}: {name}.slug expected lower-case letters, digits, - and _, got: {slug!r}."
        )
    title = getattr(declared, "title", None)
    if not isinstance(title, str) or not title.strip():
        raise PipelineError(f"{refuse_prefix}: {name}.title expected a text, got: {title!r}.")


def _check_executor(stage: type[AnyStage], prefix: str) -> None:
    if stage.executor not in EXECUTORS:
        raise PipelineError(f"{prefix}.executor expected one of {', '.join(EXECUTORS)}, got: {stage.executor!r}.")
    if stage.executor == CELERY:
        if stage.process in (Stage.process, GroupStage.process):
            raise PipelineError(f"{prefix} does not define process().")
        _check_methods(stage, prefix)
        return
    if issubclass(stage, GroupStage):
        raise PipelineError(f"{prefix} expected a subclass of Stage, got a GroupStage: agents take items one by one.")
    # A hook is code of the stage, and no worker here runs it: an agent knows payloads only.
    for hook in HOOKS:
        if getattr(stage, hook) is not getattr(BaseStage, hook):
            raise PipelineError(f"{prefix}.{hook} is never called: its executor is {AGENT}.")


def _check_methods(stage: type[AnyStage], prefix: str) -> None:
    """Each method can be called as the loop calls it; ``setup`` and ``teardown`` may be async where ``process`` is."""
    for name, arguments in TAKES.items():
        method = inspect.unwrap(getattr(stage, name))
        if is_async(method) and not (name in MAY_BE_ASYNC and is_async(inspect.unwrap(stage.process))):
            rule = "its process is not" if name in MAY_BE_ASYNC else "expected a plain function or generator (def)"
            raise PipelineError(f"{prefix}.{name} is declared async: {rule}.")
        if name in ("setup", "teardown") and inspect.isasyncgenfunction(method):
            raise PipelineError(f"{prefix}.{name} is an asynchronous generator: expected it to await, not to yield.")
        is_bound = isinstance(inspect.getattr_static(stage, name), staticmethod | classmethod)
        try:
            inspect.signature(method).bind(*(arguments if is_bound else ("self", *arguments)))
        except ValueError:
            continue  # a built-in that does not tell what it takes
        except TypeError:
            wanted = ", ".join(("self", *arguments))
            raise PipelineError(
                f"{prefix}.{name} expected to be callable as {name}({wanted}), got: {name}{inspect.signature(method)}."
            ) from None


def _check_stage(stage: type[AnyStage], prefix: str) -> None:
    if not (isinstance(stage, type) and issubclass(stage, Stage | GroupStage)):
        raise PipelineError(f"{prefix} expected a subclass of Stage or GroupStage, got: {stage!r}.")
    _check_names(stage.__name__, stage, prefix)
    _check_formerly(stage.formerly, f"{prefix}.formerly")
    _check_executor(stage, prefix)
    _check_item_type(stage.item_type, f"{prefix}.item_type")
    if (wrong := wrong_uses(stage.uses)) is not None:
        raise PipelineError(f"{prefix}.uses {wrong}.")
    if not isinstance(stage.needs, Needs):
        raise PipelineError(f"{prefix}.needs expected Needs(...), got: {stage.needs!r}.")
    for field, least, optional in (
        ("concurrency", 1, True),
        ("in_flight", 1, False),
        ("retries", 0, False),
        ("slice_size", 1, True),
        ("max_items", 1, True),
        ("group_size", 1, False),
        ("max_waits", 0, False),
        ("loop_retries", 0, False),
        ("max_item_bytes", 1_024, True),
    ):
        value = getattr(stage, field)
        if value is None and optional:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise PipelineError(f"{prefix}.{field} expected a whole number >= {least}, got: {value!r}.")
    if stage.in_flight > 1 and not is_async(inspect.unwrap(stage.process)):
        raise PipelineError(f"{prefix}.in_flight expected 1, as its process is not async, got: {stage.in_flight!r}.")
    for field in ("retry_backoff", "checkpoint_interval", "max_wait_seconds", "batch_delay", "stage_delay"):
        value = getattr(stage, field)
        if value is None and field == "checkpoint_interval":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
            raise PipelineError(f"{prefix}.{field} expected seconds >= 0, got: {value!r}.")
    for field in ("item_timeout", "hook_timeout"):
        if not _is_limit(getattr(stage, field)):
            raise PipelineError(f"{prefix}.{field} expected seconds >= 0 or None, got: {getattr(stage, field)!r}.")
    if stage.timeout is not None and not (_is_limit(stage.timeout) and stage.timeout):
        raise PipelineError(f"{prefix}.timeout expected seconds > 0 or None, got: {stage.timeout!r}.")
    if isinstance(stage.retry_jitter, bool) or not isinstance(stage.retry_jitter, int | float):
        raise PipelineError(f"{prefix}.retry_jitter expected a share from 0 to 1, got: {stage.retry_jitter!r}.")
    if not 0 <= stage.retry_jitter <= 1:
        raise PipelineError(f"{prefix}.retry_jitter expected a share from 0 to 1, got: {stage.retry_jitter!r}.")
    for field in ("retry_for", "no_retry_for"):
        value = getattr(stage, field)
        if not isinstance(value, tuple) or not all(
            isinstance(one, type) and issubclass(one, BaseException) for one in value
        ):
            raise PipelineError(f"{prefix}.{field} expected a tuple of exception classes, got: {value!r}.")
    if not is_limit(stage.max_failures):
        raise PipelineError(
            f"{prefix}.max_failures expected a whole number >= 0, a share above 0 and below 1, or None, "
            f"got: {stage.max_failures!r}."
        )
    if stage.on_exhausted not in ON_EXHAUSTED:
        raise PipelineError(
            f"{prefix}.on_exhausted expected one of {', '.join(ON_EXHAUSTED)}, got: {stage.on_exhausted!r}."
        )
    if stage.on_exhausted == HOLD and stage.executor == AGENT:
        raise PipelineError(
            f"{prefix}.on_exhausted expected fail: its executor is {AGENT}, and agents say themselves what has failed."
        )
    if stage.isolate_gpus not in (True, False):
        raise PipelineError(f"{prefix}.isolate_gpus expected True or False, got: {stage.isolate_gpus!r}.")
    if stage.isolate_gpus and (stage.executor != CELERY or not stage.needs.gpus):
        raise PipelineError(f"{prefix}.isolate_gpus expected needs with a GPU, and the executor {CELERY}.")
    if isinstance(stage.after, str):
        raise PipelineError(f"{prefix}.after expected a tuple of slugs, got the text {stage.after!r}.")
