"""Amounts of credits as people read and write them. Rows have whole thousandths of a credit."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

THOUSAND = 1_000
CURRENCY_PARTS = 1_000_000
"""Parts of the currency in which amounts of money are kept."""
NO_DECIMALS = frozenset(
    ("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf")
)
THREE_DECIMALS = frozenset(("bhd", "jod", "kwd", "omr", "tnd"))
MOST = 10**12
"""Thousandths of a credit in one booking."""


def written(thousandths: int) -> str:
    """``1234567`` as ``1,234.567``; without needless zeros."""
    text = f"{Decimal(thousandths) / THOUSAND:,.3f}"
    return text.rstrip("0").rstrip(".")


def credits_of(thousandths: int) -> Decimal:
    """The number of credits, exactly."""
    return Decimal(thousandths) / THOUSAND


def thousandths_of(given: object) -> int:
    """``"1.5"`` or 1.5 credits in thousandths. Raises ``ValueError`` with what is allowed."""
    try:
        amount = Decimal(str(given)) * THOUSAND
    except InvalidOperation:
        raise ValueError(f"expected a number of credits, got: {str(given)[:40]!r}") from None
    if not amount.is_finite() or amount != amount.to_integral_value():
        raise ValueError(f"expected credits with at most three decimals, got: {str(given)[:40]!r}")
    if abs(amount) > MOST:
        raise ValueError(f"expected at most {MOST // THOUSAND:,} credits, got: {str(given)[:40]!r}")
    return int(amount)


def money(millionths: int) -> str:
    """An amount of the currency, with two to six decimals."""
    whole, rest = divmod(abs(millionths), CURRENCY_PARTS)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if millionths < 0 else ''}{whole:,}.{digits}"


def smallest_unit(currency: str) -> int:
    """Millionths in the smallest unit of ``currency``."""
    name = currency.lower()
    return CURRENCY_PARTS // (1 if name in NO_DECIMALS else 1_000 if name in THREE_DECIMALS else 100)
