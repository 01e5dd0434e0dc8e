"""The rows of credits."""

from automation.contrib.credits.models.accounts import Billing, SiteBudget
from automation.contrib.credits.models.invoices import Invoice, InvoiceNumber
from automation.contrib.credits.models.ledger import Line, Transfer
from automation.contrib.credits.models.payments import Payment, PaymentNotice
from automation.contrib.credits.models.prices import Price, StagePrice
from automation.contrib.credits.models.usage import Grant, RunCredits, Usage

__all__ = [
    "Billing",
    "Grant",
    "Invoice",
    "InvoiceNumber",
    "Line",
    "Payment",
    "PaymentNotice",
    "Price",
    "RunCredits",
    "SiteBudget",
    "StagePrice",
    "Transfer",
    "Usage",
]
