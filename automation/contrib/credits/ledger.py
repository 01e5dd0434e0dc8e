"""Bookings by people and by the system: the writer of the ledger beside the trigger, and of an account's funds.

A booking with a key is made once, however often it is sent. Everybody who changes funds locks the account's billing
row first; a run's row is locked before it, never after.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F

from automation.contrib.credits.amounts import written
from automation.contrib.credits.errors import BookingRefused, KeyReused
from automation.contrib.credits.models import Billing, Line, Transfer
from automation.contrib.credits.models.tables import LINE, TRANSFER
from automation.models import Account
from pause_manager.actor import Actor
from pause_manager.observability import audit

Book, Kind, Unit = Line.Book, Transfer.Kind, Transfer.Unit


class Side(NamedTuple):
    """A line of a transfer to be."""

    book: str
    amount: int


def billing_of(account_id: int) -> Billing:
    """The account's billing row, locked until the transaction ends; made if there is none."""
    rows = Billing.objects.select_for_update(no_key=True).filter(pk=account_id)
    found = rows.first()
    if found is None:
        Billing.objects.bulk_create([Billing(account_id=account_id)], ignore_conflicts=True)
        found = rows.get()
    return found


def scope_of(account_id: int) -> str:
    """The scope of events of an account's credits."""
    return f"account:{account_id}"


def top_up(account: Account, amount: int, *, key: str, actor: Actor, reason: str = "") -> Transfer:
    """Add ``amount`` (> 0) thousandths of a credit. The same ``key`` again returns the first booking.

    Raises ``BookingRefused``, or ``KeyReused`` if the key belongs to another booking.
    """
    if amount <= 0:
        raise BookingRefused(f"Cannot top up {account}: expected more than 0 credits, got: {written(amount)}.")
    if not key:
        raise BookingRefused(f"Cannot top up {account}: expected a key that tells this booking from all others.")
    with transaction.atomic():
        billing_of(account.pk)
        sides = [Side(Book.AVAILABLE, amount), Side(Book.PAID_IN, -amount)]
        transfer, is_new = book(
            Kind.TOP_UP, sides, account_id=account.pk, key=f"top_up:{account.pk}:{key}", actor=actor, reason=reason
        )
        if is_new:
            _add_funds(account.pk, amount)
            _tell("credits_topped_up", account.pk, amount, transfer, actor, reason)
    return transfer


def correct(transfer: Transfer, amount: int, *, key: str, actor: Actor, reason: str) -> Transfer:
    """Give the customer ``amount`` (!= 0, negative takes) back for ``transfer``. It is a booking, and never an edit.

    Raises ``BookingRefused`` or ``KeyReused``.
    """
    if not amount:
        raise BookingRefused(f"Cannot correct transfer {transfer.pk}: expected an amount other than 0.")
    if not reason.strip():
        raise BookingRefused(f"Cannot correct transfer {transfer.pk}: expected a reason, got none.")
    if transfer.kind not in (Kind.CHARGE, Kind.TOP_UP):
        raise BookingRefused(
            f"Cannot correct transfer {transfer.pk}: expected a charge or top-up, got: {transfer.kind}."
        )
    against = Book.REVENUE if transfer.kind == Kind.CHARGE else Book.PAID_IN
    with transaction.atomic():
        billing_of(transfer.account_id)
        made, is_new = book(
            Kind.CORRECTION,
            [Side(Book.AVAILABLE, amount), Side(against, -amount)],
            account_id=transfer.account_id,
            run_id=transfer.run_id,
            stage=transfer.stage,
            corrects=transfer.pk,
            key=f"correction:{transfer.account_id}:{key}",
            actor=actor,
            reason=reason,
        )
        if is_new:
            _add_funds(transfer.account_id, amount)
            _tell("credits_corrected", transfer.account_id, amount, made, actor, reason)
    return made


def reserve(account_id: int, run_id: UUID, amount: int, *, actor: Actor) -> None:
    """Set ``amount`` thousandths aside for a run, in the caller's transaction; once for a run."""
    _move(Kind.RESERVE, account_id, run_id, amount, phase="reserve", actor=actor)


def settle(account_id: int, run_id: UUID, amount: int, *, actor: Actor) -> bool:
    """Give back what :func:`reserve` has set aside, in the caller's transaction; False if that was done before."""
    return _move(Kind.SETTLE, account_id, run_id, -amount, phase="settle", actor=actor)


def _move(kind: str, account_id: int, run_id: UUID, amount: int, *, phase: str, actor: Actor) -> bool:
    sides = [Side(Book.AVAILABLE, -amount), Side(Book.RESERVED, amount)]
    key = f"reservation:{run_id}:{phase}"
    _, is_new = book(kind, sides, account_id=account_id, run_id=run_id, key=key, actor=actor)
    return is_new


def use_funds(account_id: int, amount: int) -> None:
    """Take from the funds what settled runs have used; the lines of it were written by their checkpoints."""
    _add_funds(account_id, -amount)


def _add_funds(account_id: int, amount: int) -> None:
    Billing.objects.filter(pk=account_id).update(funds=F("funds") + amount)


def _tell(action: str, account_id: int, amount: int, transfer: Transfer, actor: Actor, reason: str) -> None:
    details = {"credits": written(amount), "transfer": transfer.pk, "account": account_id}
    audit.record(action, scope=scope_of(account_id), actor=actor, reason=reason, details=details)


def book(
    kind: str,
    sides: Iterable[Side],
    *,
    account_id: int,
    actor: Actor,
    key: str,
    run_id: UUID | None = None,
    stage: str = "",
    corrects: int | None = None,
    reason: str = "",
) -> tuple[Transfer, bool]:
    """Write a transfer in thousandths of a credit; (the transfer, whether this call wrote it).

    Its sides must add up to zero, or the transaction does not commit. Raises ``KeyReused``.
    """
    given = list(sides)
    values: dict[str, Any] = {
        "kind": str(kind),
        "account": account_id,
        "run": run_id,
        "stage": stage,
        "corrects": corrects,
        "key": key,
        "actor": actor.name,
        "reason": reason,
        "books": [str(side.book) for side in given],
        "amounts": [side.amount for side in given],
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_OPEN, values)
        row = cursor.fetchone()
        if row is not None:
            cursor.execute(_LINES, {**values, "transfer": row[0]})
            return Transfer.objects.get(pk=row[0]), True
    known = Transfer.objects.get(key=key)
    lines = list(known.lines.order_by("id").values_list("book", "amount"))
    same = (known.kind, known.account_id, known.run_id, known.corrects_id) == (kind, account_id, run_id, corrects)
    if not same or lines != [(str(side.book), side.amount) for side in given]:
        raise KeyReused(key)
    return known, False


_OPEN = f"""
    INSERT INTO {TRANSFER} (kind, unit, account_id, run_id, stage, corrects_id, key, actor, reason, xact)
    VALUES (%(kind)s, 'credits', %(account)s, %(run)s, %(stage)s, %(corrects)s, %(key)s, %(actor)s, %(reason)s,
            pg_current_xact_id()::text::bigint)
        ON CONFLICT (key) DO NOTHING
 RETURNING id
"""
_LINES = f"""
    INSERT INTO {LINE} (transfer_id, book, account_id, amount, item_key, kind)
    SELECT %(transfer)s, book, %(account)s, amount, '', %(kind)s
      FROM unnest(%(books)s::varchar[], %(amounts)s::bigint[]) AS side(book, amount)
"""
