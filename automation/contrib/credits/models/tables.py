"""Table names, for statements written in SQL."""

from automation.contrib.credits.models.accounts import Billing, SiteBudget
from automation.contrib.credits.models.invoices import Invoice, InvoiceNumber
from automation.contrib.credits.models.ledger import Line, Transfer
from automation.contrib.credits.models.payments import Payment, PaymentNotice
from automation.contrib.credits.models.prices import Price, StagePrice
from automation.contrib.credits.models.usage import Grant, RunCredits, Usage

BILLING, SITE_BUDGET = (model._meta.db_table for model in (Billing, SiteBudget))
TRANSFER, LINE = (model._meta.db_table for model in (Transfer, Line))
PRICE, STAGE_PRICE = (model._meta.db_table for model in (Price, StagePrice))
GRANT, RUN_CREDITS, USAGE = (model._meta.db_table for model in (Grant, RunCredits, Usage))
INVOICE, INVOICE_NUMBER = (model._meta.db_table for model in (Invoice, InvoiceNumber))
PAYMENT, PAYMENT_NOTICE = (model._meta.db_table for model in (Payment, PaymentNotice))
