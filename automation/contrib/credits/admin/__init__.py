"""Credits & Billing in the admin."""

from automation.contrib.credits.admin import accounts, books, invoices, payments, prices

__all__ = ["accounts", "books", "invoices", "payments", "prices"]
