"""Pages by keyset: each page starts after the last row of the one before, so none is skipped or shown twice."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from drf_spectacular.utils import inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.utils.urls import replace_query_param

from pause_manager.api.http.strict import StrictSerializer

DEFAULT_LIMIT, MAX_LIMIT = 100, 1_000

M = TypeVar("M", bound=Model)


class InvalidCursor(ParseError):
    """The cursor is not one that a page returned."""

    default_code = "cursor_invalid"
    default_detail = "Cannot continue from this cursor: expected one taken from 'next' of the page before."


class PageQuery(StrictSerializer):
    """How a caller pages."""

    limit = serializers.IntegerField(
        default=DEFAULT_LIMIT, min_value=1, max_value=MAX_LIMIT, help_text="Rows a page at most."
    )
    cursor = serializers.CharField(default="", max_length=1_000, help_text="Value of `next` of the previous page.")


def page_of(name: str, serializer: type[serializers.BaseSerializer[Any]]) -> Any:
    """The schema of a page."""
    return inline_serializer(name, {"next": serializers.URLField(allow_null=True), "results": serializer(many=True)})


def page(
    request: Request,
    rows: QuerySet[M],
    order: Sequence[str],
    query: Mapping[str, Any],
    show: Callable[[list[M]], Any],
) -> dict[str, Any]:
    """``{"next": URL or None, "results": […]}``: one page of ``rows`` in ``order`` (``-`` is descending).

    ``order`` must identify a row. ``query`` is what :class:`PageQuery` validated.
    """
    rows = rows.order_by(*order)
    if query["cursor"]:
        rows = rows.filter(_after(order, _read(query["cursor"], rows.model, order)))
    limit: int = query["limit"]
    found = list(rows[: limit + 1])
    following = None
    if len(found) > limit:
        found.pop()
        cursor = _write([getattr(found[-1], name.lstrip("-")) for name in order])
        following = replace_query_param(request.build_absolute_uri(), "cursor", cursor)
    return {"next": following, "results": show(found)}


def _after(order: Sequence[str], values: Sequence[Any]) -> Q:
    """The rows after the one with ``values``: later in the first column, or equal there and later in the next, …"""
    first = order[0].lstrip("-")
    # Said apart as well: of a lone comparison an index knows where to begin, of alternatives it does not.
    bound = Q(**{f"{first}__{'lte' if order[0].startswith('-') else 'gte'}": values[0]})
    after, equal = Q(), Q()
    for name, value in zip(order, values, strict=True):
        field, lookup = name.lstrip("-"), "lt" if name.startswith("-") else "gt"
        after |= equal & Q(**{f"{field}__{lookup}": value})
        equal &= Q(**{field: value})
    return bound & after


def _write(values: Sequence[Any]) -> str:
    texts = [value.isoformat() if isinstance(value, datetime) else str(value) for value in values]
    return base64.urlsafe_b64encode(json.dumps(texts, separators=(",", ":")).encode()).decode().rstrip("=")


def _read(cursor: str, model: type[Model], order: Sequence[str]) -> list[Any]:
    try:
        texts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(texts, list) or len(texts) != len(order):
            raise InvalidCursor
        if not all(isinstance(text, str) and text.isprintable() for text in texts):
            raise InvalidCursor
        fields = [model._meta.get_field(name.lstrip("-")) for name in order]
        return [field.to_python(text) for field, text in zip(fields, texts, strict=True)]  # type: ignore[union-attr]
    except (ValueError, RecursionError, ValidationError):
        raise InvalidCursor from None
