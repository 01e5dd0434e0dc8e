"""What one who manages credits does: add and correct credits, change the rules of an account."""

from __future__ import annotations

from automation.contrib.credits import accounts, ledger
from automation.contrib.credits.amounts import written
from automation.contrib.credits.models import Billing, Transfer
from automation.models import Account
from backend.console.credits import amounts, visible
from pause_manager.console.pages import Refused, Request


def top_up(request: Request) -> str:
    """Record credits that were paid for. The same key again changes nothing."""
    account, amount = _account(request), amounts.given(request, "credits", "the number of credits")
    key = request.required("key", "the name of the payment")[:100]
    ledger.top_up(account, amount, key=key, actor=request.actor, reason=request.reason)
    return f"{account} got {written(amount)} credits."


def correct(request: Request) -> str:
    """Give credits back for a booking, or take some; it is a booking of its own."""
    account, number = _account(request), request.required("transfer", "the booking")
    found = None
    if number.isascii() and number.isdecimal() and len(number) < 19:
        found = Transfer.objects.filter(pk=int(number), account_id=account.pk).first()
    if found is None:
        raise Refused(f"Cannot correct booking {number[:40]}: no such booking of {account} exists.")
    amount = amounts.given(request, "credits", "the number of credits")
    key = request.required("key", "the name of the correction")[:100]
    ledger.correct(found, amount, key=key, actor=request.actor, reason=request.required("reason", "the reason"))
    return f"Booking {found.pk} is corrected by {written(amount)} credits."


def change(request: Request) -> str:
    """Change the rules of an account."""
    account = _account(request)
    on_top_up = request.values.get("on_top_up", "")
    if on_top_up not in Billing.OnTopUp.values:
        known = ", ".join(Billing.OnTopUp.values)
        raise Refused(f"Cannot change the rules: expected as on_top_up one of {known}, got: {on_top_up[:40]}.")
    rules = {
        "overdraft": amounts.given(request, "overdraft", "the overdraft", minimum=0),
        "low_balance": amounts.given(request, "low_balance", "the low balance", minimum=0),
        "max_credits_per_run": amounts.optional(request, "max_credits_per_run", "the limit of a run", minimum=0),
        "on_top_up": on_top_up,
    }
    accounts.change(account, rules, actor=request.actor)
    return f"The rules of {account} are changed."


def _account(request: Request) -> Account:
    found = visible.account(request.user, request.required("account", "the account"))
    if found is None:
        raise Refused("Cannot do that: the account does not exist, or you do not have access to it.")
    return found
