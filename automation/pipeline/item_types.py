"""Declared items: what a stage takes as a ``TypedDict``, a dataclass or a pydantic model.

Items are checked where they are made, and converted where they are handed to the stage. ``pydantic`` is imported where
something is declared, and nowhere else.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import is_dataclass
from functools import cache
from importlib import import_module
from typing import Any

import orjson

from automation.pipeline.payloads import UnfitPayload, encode
from automation.pipeline.pipeline import Pipeline
from automation.pipeline.stage import AnyStage

MOST_ERRORS = 3
LONGEST_VALUE = 60

Process = Callable[[Any, Any], Any]
Reader = tuple[str, "ItemType"]
"""A stage that reads an output: its slug, and what it takes."""


class NoItemType(TypeError):
    """What is declared cannot say what an item is; the sentence says why."""


class ItemType:
    """What ``item_type`` declares, ready to check and to convert items. Made by :func:`of`."""

    def __init__(self, declared: type[Any]) -> None:
        try:
            pydantic = import_module("pydantic")
        except ImportError:
            raise NoItemType("it needs the package pydantic, which is not installed") from None
        is_mapping = _is_typed_dict(declared)
        is_model = issubclass(declared, pydantic.BaseModel)
        if not (is_mapping or is_model or is_dataclass(declared)):
            raise NoItemType(f"expected a TypedDict, a dataclass or a pydantic model, got: {declared!r}")
        self._is_mapping = is_mapping
        self._invalid = pydantic.ValidationError
        try:
            self._adapter = pydantic.TypeAdapter(_known_to_pydantic(declared) if is_mapping else declared)
        except Exception as error:
            raise NoItemType(f"pydantic cannot use {declared.__name__}: {str(error).splitlines()[0]}") from None
        fields = ", ".join(f"{name}: {_name_of(kind)}" for name, kind in _fields_of(declared).items())
        self.name = f"{declared.__name__} ({fields})"
        """With its fields, for messages."""

    def take(self, payload: dict[str, Any]) -> Any:
        """``payload`` as what is declared; of a ``TypedDict`` the dict, with all else that is in it.

        Raises ``UnfitPayload`` naming each wrong field by its path.
        """
        taken = self._validate(orjson.dumps(payload))
        return {**payload, **taken} if self._is_mapping else taken

    def check(self, encoded: bytes) -> None:
        """Raise ``UnfitPayload`` if the JSON object ``encoded`` is not as declared."""
        self._validate(encoded)

    def _validate(self, encoded: bytes) -> Any:
        try:
            return self._adapter.validate_json(encoded)
        except self._invalid as invalid:
            errors = invalid.errors(include_url=False, include_context=False)
            told = [_told(error) for error in errors[:MOST_ERRORS]]
            if len(errors) > MOST_ERRORS:
                told.append(f"{len(errors) - MOST_ERRORS} more")
            raise UnfitPayload(f"expected {self.name}; {'; '.join(told)}") from None


def of(declared: Any) -> ItemType:
    """The :class:`ItemType` of a class, or :class:`NoItemType`."""
    if not isinstance(declared, type):
        raise NoItemType(f"expected a TypedDict, a dataclass or a pydantic model, got: {declared!r}")
    return _of(declared)


_of = cache(ItemType)


def is_declared(pipeline: type[Pipeline]) -> bool:
    """Whether anything of ``pipeline`` declares what it takes."""
    return pipeline.item_type is not None or any(stage.item_type is not None for stage in pipeline.stages)


def input_checks(pipeline: type[Pipeline]) -> list[Callable[[bytes], None]]:
    """What each item of the input of ``pipeline`` must pass: its own declaration, and those of its first stages."""
    return _input_checks(pipeline)


def _find_input_checks(pipeline: type[Pipeline]) -> list[Callable[[bytes], None]]:
    first = [stage.item_type for stage in pipeline.stages if not pipeline.predecessors(stage.slug)]
    return [of(declared).check for declared in dict.fromkeys([pipeline.item_type, *first]) if declared is not None]


_input_checks: Callable[[Any], list[Callable[[bytes], None]]] = cache(_find_input_checks)


def process_of(stage: AnyStage, readers: Sequence[Reader] = ()) -> Process:
    """``stage.process``, with items as it declares them, and its outputs checked for the stages that read them.

    Of a stage that declares nothing, and whose readers do not, it is ``stage.process`` itself.
    """
    process: Process = stage.process
    if stage.item_type is not None:
        process = _taking(process, of(stage.item_type))
    return _checked(process, readers) if readers else process


def _taking(process: Process, taken: ItemType) -> Process:
    def taking(given: Any, ctx: Any) -> Any:
        items = [taken.take(item) for item in given] if isinstance(given, list) else taken.take(given)
        return process(items, ctx)

    return taking


def _checked(process: Process, readers: Sequence[Reader]) -> Process:
    def checked(given: Any, ctx: Any) -> Any:
        return fit(process(given, ctx), readers)

    return checked


def fit(outputs: Any, readers: Sequence[Reader]) -> Any:
    """``outputs``, each checked for ``readers`` as it comes. What are no outputs is told by who stores them."""
    if not readers or isinstance(outputs, dict | str | bytes) or not isinstance(outputs, Iterable):
        return outputs
    return _fit(outputs, readers)


def _fit(outputs: Iterable[Any], readers: Sequence[Reader]) -> Iterator[Any]:
    for number, output in enumerate(outputs, start=1):
        check_output(output, number, readers)
        yield output


def check_output(output: Any, number: int, readers: Sequence[Reader]) -> None:
    """Raise ``UnfitPayload`` if a stage of ``readers`` cannot take ``output``, the item's output of that number."""
    encoded = encode(output, sys.maxsize)  # how large it may be is asked by who stores it
    for slug, taken in readers:
        try:
            taken.check(encoded)
        except UnfitPayload as unfit:
            raise UnfitPayload(f"output {number} does not fit stage {slug}: {unfit}") from None


def _told(error: Any) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    said = str(error["msg"]).removesuffix(".")
    if error["type"] == "missing":
        return f"{path}: {said}"
    value = repr(error["input"])
    shown = value if len(value) <= LONGEST_VALUE else value[:LONGEST_VALUE] + "…"
    return f"{path or 'it'}: {said}, got: {shown}"


def _is_typed_dict(declared: Any) -> bool:
    return isinstance(declared, type) and issubclass(declared, dict) and hasattr(declared, "__required_keys__")


def _fields_of(declared: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(declared)
    except Exception:  # pydantic resolves more names than typing does, and has done so
        return dict(getattr(declared, "__annotations__", {}))


def _name_of(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind).replace("typing.", "")


def _known_to_pydantic(declared: Any) -> Any:
    """Before Python 3.12 pydantic takes only the ``TypedDict`` of ``typing_extensions``."""
    extensions = import_module("typing_extensions")
    if isinstance(declared, type(extensions.TypedDict("Known", {}))):
        return declared
    hints = typing.get_type_hints(declared, include_extras=True)
    # Where annotations are texts, __required_keys__ knows nothing of NotRequired.
    fields = {
        name: _bare(kind) if _is_required(name, kind, declared) else extensions.NotRequired[_bare(kind)]
        for name, kind in hints.items()
    }
    return extensions.TypedDict(declared.__name__, fields)


def _is_required(name: str, kind: Any, declared: Any) -> bool:
    origin = typing.get_origin(kind)
    return origin is typing.Required or (origin is not typing.NotRequired and name in declared.__required_keys__)


def _bare(kind: Any) -> Any:
    """``kind`` without ``Required`` or ``NotRequired``."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) in (typing.Required, typing.NotRequired) else kind
