"""Books what providers tell, once for each event and each payment; what it cannot book it records and tells.

Notices of one payment take turns, by a lock on its id at the provider. So a refund that comes before its payment is
found by the payment, whichever of the two commits first.
"""

from __future__ import annotations

from uuid import UUID

from django.db import connection, transaction
from django.db.models.functions import Now

from automation.contrib.credits import conf, ledger
from automation.contrib.credits.amounts import money, smallest_unit
from automation.contrib.credits.errors import KeyReused, NoticeInvalid
from automation.contrib.credits.models import Payment, PaymentNotice, Transfer
from automation.contrib.credits.payments import providers, signatures
from automation.contrib.credits.payments.notice import Effect, Notice
from automation.models import Account
from pause_manager.actor import Actor
from pause_manager.observability import audit, counters, metrics

Outcome = PaymentNotice.Outcome
IGNORED, INVALID = "ignored", "invalid"
SCOPE = "payments"
"""Of events that name no account."""
TELL_SECONDS = 60.0

NOTICES = metrics.counter(
    "slackwater_payment_notices_total", "Webhooks of payments, by provider and outcome.", ("provider", "outcome")
)
TOLD = metrics.counter(
    "slackwater_invalid_notices_told_total",
    "Webhooks without a valid signature that the audit trail records: at most one per minute.",
    ("provider",),
)


class Refused(Exception):
    """Money came that cannot be booked; the sentence says why. A person decides."""


def receive(name: str, signature: str, body: bytes, *, actor: Actor) -> str:
    """Deal with one webhook of provider ``name``; the outcome: one of ``Outcome``, or ``ignored``.

    The same event again changes nothing. Raises ``ProviderNotFound``, or ``NoticeInvalid`` for what the provider has
    not signed.
    """
    provider = providers.find(name)
    try:
        tolerance = conf.settings().notice_tolerance_seconds
        signatures.verify(signature, body, provider.secrets, now=_now(), tolerance=tolerance)
        notice = provider.read(body)
    except NoticeInvalid as error:
        NOTICES.add(provider=name, outcome=INVALID)
        _tell_invalid(name, error, actor)
        raise
    if notice.effect is Effect.NONE:
        NOTICES.add(provider=name, outcome=IGNORED)
        return IGNORED
    with transaction.atomic():
        outcome = _once(name, notice, actor)
    NOTICES.add(provider=name, outcome=outcome)
    return outcome


def _once(provider: str, notice: Notice, actor: Actor) -> str:
    _lock(provider, notice.external_id or notice.event_id)
    if PaymentNotice.objects.filter(provider=provider, event_id=notice.event_id).exists():
        return Outcome.REPEATED
    payment = _payment_of(provider, notice)
    try:
        outcome, reason = _deal_with(provider, notice, payment, actor)
    except Refused as refused:
        outcome, reason = Outcome.REFUSED, str(refused)
    if outcome in (Outcome.REFUSED, Outcome.EARLY):
        _tell_refused(provider, notice, payment, reason, actor)
    PaymentNotice.objects.create(
        provider=provider,
        event_id=notice.event_id,
        kind=notice.kind[:100],
        external_id=notice.external_id,
        reference=notice.reference[:200],
        amount=notice.amount,
        currency=notice.currency[:10],
        account_id=payment.account_id if payment is not None else None,
        outcome=outcome,
        reason=reason,
    )
    return outcome


def _deal_with(provider: str, notice: Notice, payment: Payment | None, actor: Actor) -> tuple[str, str]:
    """(outcome, reason)."""
    if notice.effect is Effect.REVIEW:
        raise Refused(f"{notice.kind}: decide whether credits are taken back, with `manage.py credits correct`")
    if notice.effect is Effect.REFUNDED:
        if payment is not None:
            return _refund(payment, notice.amount, notice.currency, actor), ""
        refused = PaymentNotice.objects.filter(provider=provider, external_id=notice.external_id)
        if refused.filter(outcome=Outcome.REFUSED).exists():
            return Outcome.REFUNDED, "it pays back what was refused: no credits had been added"
        return Outcome.EARLY, "it pays back what is not known to be paid; it is booked as soon as that is"
    if payment is None:
        raise Refused(f"it names no payment that was ordered here: {notice.reference[:60]!r}")
    return _pay(payment, notice, actor), ""


def _pay(payment: Payment, notice: Notice, actor: Actor) -> str:
    if payment.state == Payment.State.PAID and payment.external_id == notice.external_id:
        return Outcome.REPEATED
    account = Account.objects.filter(pk=payment.account_id).first()
    if account is None:
        raise Refused(f"account {payment.account_id} does not exist any more")
    _check_money(payment, notice.amount, notice.currency)
    if Payment.objects.filter(provider=payment.provider, external_id=notice.external_id).exists():
        raise Refused(f"{notice.external_id} has paid another payment already")
    try:
        with transaction.atomic():
            key = f"{payment.provider}:{notice.external_id}"
            made = ledger.top_up(account, payment.credits, key=key, actor=actor, reason=f"payment {payment.pk}")
            if not _mark_paid(payment, notice.external_id, made):
                raise Refused(f"payment {payment.pk} is paid already, by another: this is paid twice")
    except KeyReused as error:
        raise Refused(str(error)) from error
    payment.refresh_from_db()
    _book_early_refunds(payment, actor)
    return Outcome.BOOKED


def _mark_paid(payment: Payment, external_id: str, made: Transfer) -> bool:
    waiting = Payment.objects.filter(pk=payment.pk, state=Payment.State.WAITING)
    return bool(waiting.update(state=Payment.State.PAID, external_id=external_id, transfer_id=made.pk, paid_at=Now()))


def _book_early_refunds(payment: Payment, actor: Actor) -> None:
    of_payment = PaymentNotice.objects.filter(provider=payment.provider, external_id=payment.external_id)
    for early in of_payment.filter(outcome=Outcome.EARLY).order_by("amount"):
        try:
            outcome, reason = _refund(payment, early.amount, early.currency, actor), ""
        except Refused as refused:
            outcome, reason = Outcome.REFUSED, str(refused)
        PaymentNotice.objects.filter(pk=early.pk, outcome=Outcome.EARLY).update(
            outcome=outcome, reason=reason, account_id=payment.account_id
        )


def _refund(payment: Payment, amount: int, currency: str, actor: Actor) -> str:
    """Take back the part of the credits that belongs to ``amount``, all that was paid back so far."""
    total = amount * smallest_unit(currency)
    if currency.lower() != payment.currency.lower() or total > payment.amount:
        given, paid = _money(total, currency), _money(payment.amount, payment.currency)
        raise Refused(f"it pays back {given}, of {paid} that were paid")
    newer = Payment.objects.filter(pk=payment.pk, refunded=payment.refunded, refunded__lt=total)
    if not newer.update(refunded=total):
        return Outcome.REPEATED
    back = payment.credits * total // payment.amount - payment.credits * payment.refunded // payment.amount
    if back:
        assert payment.transfer_id is not None  # of a paid one, by a CHECK
        booked = Transfer.objects.get(pk=payment.transfer_id)
        reason = f"payment {payment.pk}: {_money(total, currency)} were paid back in all"
        ledger.correct(booked, -back, key=f"refund:{payment.pk}:{total}", actor=actor, reason=reason)
    payment.refunded = total
    return Outcome.REFUNDED


def _check_money(payment: Payment, amount: int, currency: str) -> None:
    if currency.lower() != payment.currency.lower() or amount * smallest_unit(currency) != payment.amount:
        given = _money(amount * smallest_unit(currency), currency)
        raise Refused(f"expected {_money(payment.amount, payment.currency)}, got: {given}")


def _money(millionths: int, currency: str) -> str:
    return f"{money(millionths)} {currency[:10].upper()}"


def _payment_of(provider: str, notice: Notice) -> Payment | None:
    """What a notice of money that came names, or what a refund pays back."""
    rows = Payment.objects.filter(provider=provider)
    if notice.effect is not Effect.PAID:
        return rows.filter(external_id=notice.external_id).first() if notice.external_id else None
    try:
        return rows.filter(pk=UUID(notice.reference)).first()
    except ValueError:
        return None


def _lock(provider: str, external_id: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtext('slackwater payment'), hashtext(%s))", [f"{provider}:{external_id}"]
        )


def _now() -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM statement_timestamp())::float8")
        return float(cursor.fetchone()[0])


def _tell_refused(provider: str, notice: Notice, payment: Payment | None, reason: str, actor: Actor) -> None:
    audit.record(
        "payment_refused",
        scope=ledger.scope_of(payment.account_id) if payment is not None else SCOPE,
        actor=actor,
        reason=reason,
        details={"event": notice.event_id, "kind": notice.kind, "payment": notice.external_id, "provider": provider},
    )


def _tell_invalid(provider: str, error: NoticeInvalid, actor: Actor) -> None:
    """Once per minute and provider at most: anybody can send such a thing. All are counted."""
    with transaction.atomic():
        if counters.add_unless_lately(TOLD.name, f'{{"provider":"{provider}"}}', TELL_SECONDS):
            details = {"provider": provider, "code": error.code}
            audit.record("payment_refused", scope=SCOPE, actor=actor, reason=str(error), details=details)
