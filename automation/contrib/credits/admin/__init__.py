"""Credits & Billing in the admin."""

from automation.contrib.credits.admin import accounts, books, prices

__all__ = ["accounts", "books", "prices"]
