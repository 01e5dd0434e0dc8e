"""The refusals of credits, each with a code for machines and a sentence for people."""

from __future__ import annotations

from automation.contrib.credits.amounts import credits_of, written
from automation.errors import AutomationError, StartRefused


class CreditsShort(StartRefused):
    """The account's credits do not cover what the run is expected to cost; nothing was changed."""

    code = "credits_short"

    def __init__(self, run_id: object, needed: int, balance: int) -> None:
        super().__init__(
            f"Cannot start run {run_id}: it needs {written(needed)} credits and {written(balance)} are available.",
            needed=credits_of(needed),
            balance=credits_of(balance),
            sufficient=False,
        )
        self.needed = needed
        self.balance = balance


class BookingRefused(AutomationError):
    """A booking that cannot be made; nothing was changed."""

    code = "booking_refused"


class KeyReused(AutomationError):
    """The key of a booking was used for another one. Nothing was changed."""

    code = "booking_key_reused"

    def __init__(self, key: str) -> None:
        super().__init__(f"Cannot book {key[:100]!r}: this key belongs to another booking.")
