"""``/api/v1/credits/…/payments/`` and the webhooks of providers."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from automation.api import schema
from automation.api.schema import COMMAND, READ, answers
from automation.contrib.credits.amounts import money
from automation.contrib.credits.api.permissions import PAY, MayUseCredits
from automation.contrib.credits.api.serializers import CreditsField
from automation.contrib.credits.api.views import ACCOUNT_ID, TAGS, CreditsView
from automation.contrib.credits.models import Payment
from automation.contrib.credits.payments import booking, orders, providers
from pause_manager.actor import Actor
from pause_manager.api.http import pagination
from pause_manager.api.http.errors import BodyTooLarge
from pause_manager.api.http.idempotency import idempotent
from pause_manager.api.http.pagination import PageQuery, page_of
from pause_manager.api.http.strict import StrictSerializer


class OrderSerializer(StrictSerializer):
    """Credits to be paid for by a provider. The same key again is the same payment."""

    credits = CreditsField()
    provider = serializers.CharField(max_length=20, help_text="`stripe`, if it is set up.")
    key = serializers.CharField(max_length=100, help_text="Names this order.")


class PaymentSerializer(serializers.ModelSerializer[Payment]):
    """A payment; `id` is the reference that the provider must be given."""

    credits = CreditsField()
    amount = serializers.SerializerMethodField(help_text="What must be paid, in the currency.")
    refunded = serializers.SerializerMethodField(help_text="Amount that was paid back.")

    class Meta:
        model = Payment
        fields = (
            *("id", "account_id", "provider", "credits", "amount", "currency", "state", "external_id", "refunded"),
            *("transfer_id", "actor", "created_at", "paid_at"),
        )

    def get_amount(self, payment: Payment) -> str:
        """The amount with its decimals."""
        return money(payment.amount)

    def get_refunded(self, payment: Payment) -> str:
        """The amount with its decimals."""
        return money(payment.refunded)


class PaymentQuery(PageQuery):
    """Filters of the list of payments."""

    account = serializers.IntegerField(required=False, help_text="Id of an account.")
    state = serializers.ChoiceField(choices=Payment.State.values, required=False)


class MayPay(MayUseCredits):
    """``add_payment`` to order credits, which adds none; ``view_transfer`` to look."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.method in SAFE_METHODS or not request.user.is_authenticated:
            return super().has_permission(request, view)
        self.message = f"Cannot do that: it needs the permission {PAY}."
        return request.user.has_perm(PAY)


class Payments(CreditsView):
    """Payments."""

    @extend_schema(
        operation_id="list_payments",
        summary="List payments over providers, newest first",
        tags=TAGS,
        parameters=[PaymentQuery, schema.REQUEST_ID],
        responses=answers({200: page_of("PaymentPage", PaymentSerializer)}, *READ),
    )
    def get(self, request: Request) -> Response:
        query = self.query(PaymentQuery)
        names = {"account": "account_id", "state": "state"}
        rows = self.of_caller(Payment.objects.all()).filter(**{names[key]: query[key] for key in names if key in query})
        order = ("-created_at", "-id")
        return Response(
            pagination.page(request, rows, order, query, lambda found: PaymentSerializer(found, many=True).data)
        )


class Orders(CreditsView):
    """Credits that are ordered."""

    permission_classes = [MayPay]

    @extend_schema(
        operation_id="order_credits",
        summary="Order credits to be paid for by a provider",
        description="They are added when the provider's webhook tells that exactly this amount was paid for this `id`.",
        tags=TAGS,
        parameters=[ACCOUNT_ID, *schema.COMMAND_PARAMETERS],
        request=OrderSerializer,
        responses=answers({200: PaymentSerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request, account_id: str) -> Response:
        account, given = self.account(account_id), self.body(OrderSerializer)
        made = orders.place(account, **given, actor=self.actor)
        return Response(PaymentSerializer(made).data)


@extend_schema(exclude=True)
class Webhook(CreditsView):
    """Where a provider tells what was paid. Its signature is all that lets it in."""

    authentication_classes: Any = []
    permission_classes: Any = []
    max_body_bytes = 256 << 10

    def post(self, request: Request, provider: str) -> Response:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
        if length > self.max_body_bytes:
            most = f"{self.max_body_bytes:,} bytes"
            raise BodyTooLarge(f"Cannot read the request: expected a body of at most {most}, got: {length:,}.")
        signature = request.headers.get(providers.find(provider).header, "")
        actor = Actor(f"provider:{provider}", "webhook", self.request_id)
        # The signature is over the bytes that came, not over what they mean.
        outcome = booking.receive(provider, signature, request._request.body, actor=actor)
        return Response({"outcome": outcome})
