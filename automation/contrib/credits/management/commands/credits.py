"""``manage.py credits show|top-up|correct|invoice|check``: balances, bookings, and whether the books are in order."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import date
from typing import Any

from django.db.models import Sum

from automation.contrib.credits import funds, invoices, ledger
from automation.contrib.credits.amounts import credits_of, money, thousandths_of, written
from automation.contrib.credits.errors import KeyReused
from automation.contrib.credits.models import Billing, Line, Transfer
from automation.errors import AutomationError
from automation.models import Account
from pause_manager.actor import Actor
from pause_manager.management.shell import CommandRefused, Exit, ShellCommand, add_json, no_verb


class Command(ShellCommand):
    """Calls ``ledger``."""

    help = "Show the credits of accounts, add some, correct a booking, issue invoices, or check the books."
    epilog = """\
exit codes:
  0    done
  1    check: a balance is not what the ledger says; or an unexpected error, such as no database
  2    wrong usage
  3    refused: the key belongs to another booking; nothing was changed
  4    no such account or booking
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb")
        show = verbs.add_parser("show", help="list accounts with their credits")
        show.add_argument("--account", default="", help="name of one account")
        top_up = verbs.add_parser("top-up", help="add credits to an account")
        top_up.add_argument("account", metavar="ACCOUNT", help="name of the account")
        correct = verbs.add_parser("correct", help="give credits back for a charge or top-up; a negative number takes")
        correct.add_argument("transfer", metavar="BOOKING", type=int, help="number of the booking")
        for verb in (top_up, correct):
            verb.add_argument("credits", metavar="CREDITS", help="how many, such as 100 or 2.5")
            verb.add_argument("--key", required=True, help="names this booking: the same key again changes nothing")
        top_up.add_argument("--reason", default="", help="why, for the audit trail")
        correct.add_argument("--reason", required=True, help="why")
        invoice = verbs.add_parser("invoice", help="issue the invoices of months that have ended; repeat it at will")
        month = "such as 2026-11; if left out, all that are missing of the last twelve months"
        invoice.add_argument("month", metavar="MONTH", type=_month, nargs="?", help=month)
        check = verbs.add_parser("check", help="compare all balances with the ledger")
        for verb in (show, top_up, correct, invoice, check):
            add_json(verb)

    def refusal(self, error: Exception) -> CommandRefused | None:
        if isinstance(error, AutomationError):
            code = Exit.REFUSED if isinstance(error, KeyReused) else Exit.USAGE
            return CommandRefused(str(error), code, error.code)
        return super().refusal(error)

    def carry_out(self, options: dict[str, Any]) -> Exit:
        verbs = {
            "show": self._show,
            "top-up": self._top_up,
            "correct": self._correct,
            "invoice": self._invoice,
            "check": self._check,
        }
        if options["verb"] is None:
            raise no_verb("credits", *verbs)
        return verbs[options["verb"]](options)

    def _show(self, options: dict[str, Any]) -> Exit:
        rows = Billing.objects.select_related("account").order_by("account__name")
        if options["account"]:
            rows = rows.filter(account=_account(options["account"]))
        for row in rows:
            self._tell_account(row.account, options)
        return Exit.OK

    def _top_up(self, options: dict[str, Any]) -> Exit:
        account = _account(options["account"])
        ledger.top_up(account, _amount(options), key=options["key"], actor=Actor.shell(), reason=options["reason"])
        self._tell_account(account, options)
        return Exit.OK

    def _correct(self, options: dict[str, Any]) -> Exit:
        found = Transfer.objects.filter(pk=options["transfer"]).first()
        if found is None:
            number = options["transfer"]
            raise CommandRefused(f"Cannot find booking {number}: there is none.", Exit.NOT_FOUND, "not_found")
        ledger.correct(found, _amount(options), key=options["key"], actor=Actor.shell(), reason=options["reason"])
        self._tell_account(Account.objects.get(pk=found.account_id), options)
        return Exit.OK

    def _invoice(self, options: dict[str, Any]) -> Exit:
        month, actor = options["month"], Actor.shell()
        issued = invoices.issue_due(actor=actor) if month is None else invoices.issue_month(month, actor=actor)
        for made in issued:
            told = {"number": made.number, "account": made.name, "credits": credits_of(made.credits)}
            amount = f"{money(made.amount)} {made.currency}"
            self.line(
                {**told, "amount": money(made.amount), "currency": made.currency}
                if options["json"]
                else f"{made.number}: {made.name}, {written(made.credits)} credits, {amount}"
            )
        return Exit.OK

    def _check(self, options: dict[str, Any]) -> Exit:
        own = Line.objects.filter(book__in=[Line.Book.AVAILABLE, Line.Book.RESERVED]).order_by()
        sums = dict(own.values_list("account_id").annotate(sum=Sum("amount")))
        wrong = 0
        for row in Billing.objects.select_related("account").order_by("account__name"):
            booked, balance = sums.get(row.pk, 0), funds.of_account(row.pk).balance
            if booked == balance:
                continue
            wrong += 1
            self.line(
                {"account": row.account.name, "balance": credits_of(balance), "ledger": credits_of(booked)}
                if options["json"]
                else f"{row.account.name}: the balance is {written(balance)}, the ledger says {written(booked)}."
            )
        if not wrong and not options["json"]:
            self.line("Every balance is what the ledger says.")
        return Exit.FAILED if wrong else Exit.OK

    def _tell_account(self, account: Account, options: dict[str, Any]) -> None:
        has = funds.of_account(account.pk)
        if options["json"]:
            figures = {"balance": has.balance, "reserved": has.reserved, "available": has.available}
            self.line({"account": account.name, **{name: credits_of(amount) for name, amount in figures.items()}})
            return
        self.line(f"{account.name}: {written(has.balance)} credits, {written(has.reserved)} of them set aside for runs")


def _month(text: str) -> date:
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise ArgumentTypeError(f"expected a month such as 2026-11, got: {text!r}") from None


def _amount(options: dict[str, Any]) -> int:
    try:
        return thousandths_of(options["credits"])
    except ValueError as error:
        raise CommandRefused(f"Cannot book: {error}.", Exit.USAGE, "booking_refused") from None


def _account(name: str) -> Account:
    found = Account.objects.filter(name=name).first()
    if found is None:
        raise CommandRefused(f"Cannot find account {name!r}: there is none.", Exit.NOT_FOUND, "not_found")
    return found
