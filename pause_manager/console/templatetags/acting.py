"""The hidden fields of buttons that act."""

from __future__ import annotations

import json
from typing import Any

from django import template

register = template.Library()


@register.simple_tag
def values(do: str, **fields: Any) -> str:
    """The fields of an action as JSON, for ``data-values``; the template escapes it."""
    return json.dumps({"do": do, **{name: str(value) for name, value in fields.items()}})
