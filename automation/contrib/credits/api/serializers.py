"""What the credits' endpoints take and answer. Amounts are credits, with three decimals at most."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from automation.contrib.credits.amounts import MOST, THOUSAND, credits_of
from automation.contrib.credits.models import Billing, Price, Transfer
from pause_manager.api.http.pagination import PageQuery
from pause_manager.api.http.strict import StrictSerializer


class CreditsField(serializers.DecimalField):
    """Credits for people and machines; thousandths in the code."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_digits=16, decimal_places=3, **options)

    def to_internal_value(self, data: Any) -> Any:
        return int(super().to_internal_value(data) * THOUSAND)

    def to_representation(self, value: Any) -> Any:
        return super().to_representation(credits_of(value))

    def validate_precision(self, value: Any) -> Any:
        checked = super().validate_precision(value)
        if abs(checked) * THOUSAND > MOST:
            raise serializers.ValidationError(f"expected at most {MOST // THOUSAND:,} credits")
        return checked


class AccountSerializer(serializers.Serializer[Any]):
    """An account's credits and its rules."""

    account_id = serializers.IntegerField()
    name = serializers.CharField()
    balance = CreditsField(help_text="Credits not used yet, including those set aside for runs.")
    reserved = CreditsField(help_text="Credits set aside for runs and not used by them yet.")
    available = CreditsField(help_text="Credits that a new run may use, including the overdraft.")
    overdraft = CreditsField()
    max_credits_per_run = CreditsField(allow_null=True)
    low_balance = CreditsField()
    is_low = serializers.BooleanField(help_text="Whether the balance is below `low_balance`, as last looked at.")
    on_top_up = serializers.ChoiceField(choices=Billing.OnTopUp.values)
    notice_email = serializers.CharField(
        help_text="E-mail address that is notified when the balance falls below `low_balance`."
    )
    time_zone = serializers.CharField(help_text="Time zone in which the months of invoices begin.")
    address = serializers.CharField(help_text="Address as printed on invoices.")


class AccountChangesSerializer(StrictSerializer):
    """The rules of an account; what is left out stays."""

    overdraft = CreditsField(required=False, min_value=0)
    max_credits_per_run = CreditsField(required=False, min_value=0, allow_null=True)
    low_balance = CreditsField(required=False, min_value=0)
    on_top_up = serializers.ChoiceField(choices=Billing.OnTopUp.values, required=False)
    notice_email = serializers.EmailField(required=False, allow_blank=True, max_length=254)
    time_zone = serializers.CharField(required=False, max_length=64, help_text="Such as `Europe/Berlin`.")
    address = serializers.CharField(required=False, allow_blank=True, max_length=1_000)


class TopUpSerializer(StrictSerializer):
    """Credits to add. The same key again changes nothing."""

    credits = CreditsField()
    key = serializers.CharField(max_length=100, help_text="Names this payment.")
    reason = serializers.CharField(required=False, default="", allow_blank=True, max_length=500)


class CorrectionSerializer(StrictSerializer):
    """Credits to give back for a booking; a negative number takes."""

    credits = CreditsField()
    key = serializers.CharField(max_length=100, help_text="Names this correction.")
    reason = serializers.CharField(max_length=500)


class TransferSerializer(serializers.ModelSerializer[Transfer]):
    """A booking, and what it changed in the customer's credits; for `cost`, in millionths of the currency."""

    amount = serializers.IntegerField(help_text="Amount in `unit`; negative if credits were taken.")
    corrects = serializers.IntegerField(source="corrects_id", allow_null=True)

    class Meta:
        model = Transfer
        fields = (
            *("id", "kind", "unit", "account_id", "amount", "run_id", "stage", "corrects", "actor", "reason"),
            "created_at",
        )


class TransferQuery(PageQuery):
    """Filters of the list of bookings."""

    account = serializers.IntegerField(required=False, help_text="Id of an account.")
    run_id = serializers.UUIDField(required=False, help_text="Id of a run.")
    kind = serializers.ChoiceField(choices=Transfer.Kind.values, required=False)


class UsageQuery(StrictSerializer):
    """What usage is added up by, and of what."""

    by = serializers.ChoiceField(choices=("month", "site", "stage", "run"), default="month", help_text="One row per …")
    account = serializers.IntegerField(required=False, help_text="Id of an account.")
    site = serializers.CharField(required=False, max_length=60, help_text="Slug or id of a site.")
    since = serializers.DateField(
        required=False, help_text="The first month, by any day of it; if left out, a year ago."
    )
    until = serializers.DateField(required=False, help_text="The last month, by any day of it.")


class UsageSerializer(serializers.Serializer[Any]):
    """Sums of one month, site, stage or run."""

    name = serializers.CharField(help_text="The month's first day, the site's slug, the stage, or the run's id.")
    items = serializers.IntegerField()
    credits = CreditsField()


class BudgetSerializer(serializers.Serializer[Any]):
    """The limits of a site and, for each function, what it has used of its share this month."""

    site_id = serializers.CharField()
    monthly = CreditsField(allow_null=True)
    is_split = serializers.BooleanField()
    shares = serializers.DictField(child=serializers.IntegerField())
    max_credits_per_run = CreditsField(allow_null=True)
    used = serializers.DictField(child=CreditsField(), help_text="Credits used this month, by function.")


class BudgetChangesSerializer(StrictSerializer):
    """What is left out stays."""

    monthly = CreditsField(required=False, min_value=0, allow_null=True)
    is_split = serializers.BooleanField(required=False)
    shares = serializers.DictField(
        child=serializers.IntegerField(min_value=0, max_value=100), required=False, allow_null=True
    )
    max_credits_per_run = CreditsField(required=False, min_value=0, allow_null=True)


class PriceSerializer(serializers.ModelSerializer[Price]):
    """What a unit of a stage's work costs now."""

    charge = CreditsField(help_text="Credits for a unit.")

    class Meta:
        model = Price
        fields = ("pipeline", "stage", "unit", "charge", "charges_failed", "function", "valid_from")


class StageUsageSerializer(serializers.Serializer[Any]):
    stage = serializers.CharField()
    items = serializers.IntegerField()
    charged = CreditsField()


class RunUsageSerializer(serializers.Serializer[Any]):
    """What a run has used; zeros if nothing of it has a price."""

    run_id = serializers.UUIDField()
    used = CreditsField()
    reserved = CreditsField()
    limit = CreditsField(allow_null=True)
    stages = StageUsageSerializer(many=True)


class LimitSerializer(StrictSerializer):
    """The most that a run may use; null: no limit."""

    limit = CreditsField(min_value=0, allow_null=True)
