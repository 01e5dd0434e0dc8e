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


class AccountNotFound(AutomationError):
    """The account does not exist, or the caller does not belong to it."""

    code = "not_found"

    def __init__(self, account: str) -> None:
        super().__init__(f"Cannot find account {account[:64]}: there is none that you may see.")


class BookingNotFound(AutomationError):
    """The booking does not exist, or belongs to an account of others."""

    code = "not_found"

    def __init__(self, booking: str) -> None:
        super().__init__(f"Cannot find booking {booking[:64]}: there is none that you may see.")


class NoCredits(AutomationError):
    """The run has no prices, so that it has no limit either."""

    code = "run_has_no_prices"

    def __init__(self, run_id: object) -> None:
        super().__init__(f"Cannot limit run {run_id}: it has not started, has ended, or nothing of it has a price.")


class NoPdf(AutomationError):
    """PDF files need WeasyPrint, which is not installed, or cannot load its libraries."""

    code = "pdf_not_available"

    def __init__(self) -> None:
        super().__init__("Cannot make a PDF: WeasyPrint is not installed (requirements-pdf.txt), or Pango is missing.")


class InvoiceNotFound(AutomationError):
    """The invoice does not exist, or belongs to an account of others."""

    code = "not_found"

    def __init__(self, number: str) -> None:
        super().__init__(f"Cannot find invoice {number[:64]}: there is none that you may see.")


class HistoryRefused(AutomationError):
    """What was asked of the history of usage is none that it has."""

    code = "history_refused"

    def __init__(self, rule: str) -> None:
        super().__init__(f"Cannot show the history: {rule}.")


class ProviderNotFound(AutomationError):
    """No such provider of payments is set up."""

    code = "not_found"

    def __init__(self, provider: str) -> None:
        super().__init__(f"Cannot find provider {provider[:40]!r}: it is none that is set up (STRIPE_WEBHOOK_SECRETS).")


class NoticeInvalid(AutomationError):
    """The notice of a payment is not signed by the provider, is too old, or cannot be read. Nothing was booked."""

    code = "notice_invalid"

    def __init__(self, fact: str) -> None:
        super().__init__(f"Cannot use the notice: {fact}.")
