"""Amounts of credits that people type in forms of the console."""

from __future__ import annotations

from automation.contrib.credits import amounts
from pause_manager.console.pages import Refused, Request


def given(request: Request, name: str, label: str, *, minimum: int | None = None) -> int:
    """A field that must be filled in, in thousandths of a credit. Raises ``Refused``."""
    found = optional(request, name, label, minimum=minimum)
    if found is None:
        raise Refused(f"Cannot do that: {label} is missing.")
    return found


def optional(request: Request, name: str, label: str, *, minimum: int | None = None) -> int | None:
    """A field in thousandths of a credit; ``None`` if it was left empty. Raises ``Refused``."""
    text = request.values.get(name, "").strip().replace(",", "")
    if not text:
        return None
    try:
        found = amounts.thousandths_of(text)
    except ValueError as error:
        raise Refused(f"Cannot do that: {label}: {error}.") from None
    if minimum is not None and found < minimum:
        raise Refused(f"Cannot do that: {label}: expected at least {amounts.written(minimum)}, got: {text[:40]}.")
    return found
