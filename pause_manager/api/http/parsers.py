"""Request bodies, refused with a sentence when they are too large or cannot be stored."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import IO, Any

from rest_framework import parsers
from rest_framework.exceptions import ParseError

from pause_manager.api.http.errors import BodyTooLarge
from pause_manager.finite import non_finite

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def check_size(parser_context: Mapping[str, Any] | None) -> None:
    """Refuse a body larger than the view's ``max_body_bytes``."""
    if parser_context is None:
        return
    length = int(parser_context["request"].META.get("CONTENT_LENGTH") or 0)
    limit = parser_context["view"].max_body_bytes
    if length > limit:
        raise BodyTooLarge(f"Cannot read the request: expected a body of at most {limit:,} bytes, got: {length:,}.")


class JsonParser(parsers.JSONParser):
    """Strict JSON that can be stored as it is: no NUL, no half characters, no number beyond all numbers."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        check_size(parser_context)
        try:
            raw: bytes = stream.read()
            numbers = _Numbers()
            data = json.loads(raw.decode("utf-8-sig"), parse_constant=numbers.read, parse_float=numbers.read)
            if not numbers.are_finite:
                raise ValueError(f"{non_finite(data)}, which is not a number that can be stored")
            if b"\\u" in raw:
                _check_texts(data)
        except RecursionError:
            raise ParseError("Cannot read the request: its JSON is nested too deeply.") from None
        except ValueError as error:
            raise ParseError(f"Cannot read the request: it is not valid JSON: {error}.") from None
        return data


class MultiPartParser(parsers.MultiPartParser):
    """A form with files, of bounded size."""

    def parse(self, stream: IO[Any], *args: Any, **kwargs: Any) -> Any:
        context = kwargs.get("parser_context") or (args[1] if len(args) > 1 else None)
        check_size(context)
        return super().parse(stream, *args, **kwargs)


class _Numbers:
    """Reads the numbers of one body; ``1e999`` is as infinite as ``Infinity``."""

    def __init__(self) -> None:
        self.are_finite = True

    def read(self, text: str) -> float:
        number = float(text)
        if not isfinite(number):
            self.are_finite = False
        return number


def _check_texts(data: Any) -> None:
    text = json.dumps(data, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a text holds half a character (a lone surrogate)") from None
    if _NUL.search(text):
        raise ValueError("a text holds a NUL character")
