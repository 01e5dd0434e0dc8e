"""The bodies of ``/api/queue/jobs/``, their keys in camel case."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from automation.agents.jobs import LARGEST_PAGE, PAGE
from automation.agents.submission import FailedItem, Submission
from automation.conf import SLUG
from automation.errors import LONGEST_CHOICE, LONGEST_QUESTION, MOST_CHOICES, NeedsInput
from pause_manager.api.fleet_schema import SystemSerializer
from pause_manager.api.http.schema import ErrorSerializer
from pause_manager.api.http.strict import StrictSerializer

LARGEST = 2**63 - 1
LONGEST_ERROR, LONGEST_KEY, DAY = 10_000, 200, 86_400.0


class GpuSampleSerializer(StrictSerializer):
    """One GPU of the agent's machine."""

    index = serializers.IntegerField(min_value=0, max_value=32_767)
    totalMib = serializers.IntegerField(min_value=1, max_value=LARGEST)  # noqa: N815
    freeMib = serializers.IntegerField(min_value=0, max_value=LARGEST, allow_null=True)  # noqa: N815
    utilisation = serializers.FloatField(min_value=0, max_value=1, required=False, allow_null=True)
    name = serializers.CharField(max_length=200, required=False, allow_blank=True)
    uuid = serializers.RegexField(
        r"^[\x21-\x2b\x2d-\x7e]{1,96}$", required=False, help_text="As the driver tells it; it is booked by it."
    )


class SampleSerializer(StrictSerializer):
    """What the agent's machine has left."""

    cores = serializers.FloatField(min_value=0.01, max_value=100_000, help_text="That the agent may use.")
    foreignCores = serializers.FloatField(  # noqa: N815
        min_value=0, max_value=100_000, default=0.0, help_text="That others use."
    )
    memoryMib = serializers.IntegerField(min_value=1, max_value=LARGEST)  # noqa: N815
    freeMemoryMib = serializers.IntegerField(min_value=0, max_value=LARGEST)  # noqa: N815
    gpus = GpuSampleSerializer(many=True, required=False)


class ClaimSerializer(StrictSerializer):
    """What the agent can do."""

    stages = serializers.ListField(
        child=serializers.RegexField(rf"^{SLUG.pattern}$"),
        required=False,
        max_length=1_000,
        help_text="Slugs of the stages it can do; left out: all that its token allows.",
    )
    sample = SampleSerializer(required=False, help_text="Needed where capacity is watched and no worker samples it.")
    maxItems = serializers.IntegerField(  # noqa: N815
        default=PAGE, min_value=1, max_value=LARGEST_PAGE, help_text="Items in the answer; the others are paged."
    )
    claimId = serializers.RegexField(  # noqa: N815
        r"^[\x21-\x2e\x30-\x7e]{1,64}$",
        required=False,
        help_text="A new one for each claim. Sent again after a lost answer, it gets the job of that answer.",
    )


class TokenSerializer(StrictSerializer):
    """Proof that the job is held."""

    token = serializers.IntegerField(min_value=1, max_value=LARGEST, help_text="From the claim's answer.")


class ItemPageQuery(TokenSerializer):
    """Which items are listed."""

    after = serializers.CharField(
        required=False, max_length=LONGEST_KEY, help_text="Key of the last item seen; left out: from the cursor on."
    )
    limit = serializers.IntegerField(default=PAGE, min_value=1, max_value=LARGEST_PAGE)


class FailureSerializer(StrictSerializer):
    """An item that is given up."""

    key = serializers.CharField(max_length=LONGEST_KEY)
    error = serializers.CharField(max_length=LONGEST_ERROR)
    attempts = serializers.IntegerField(default=1, min_value=1, max_value=32_767)


class SubmissionSerializer(TokenSerializer):
    """Work that is done."""

    cursor = serializers.CharField(max_length=LONGEST_KEY, help_text="Key of the last item that is done.")
    outputs = serializers.DictField(
        child=serializers.ListField(child=serializers.JSONField()),
        required=False,
        help_text="By key of the item, its outputs, each a JSON object. Every item up to `cursor` that is not among "
        "the failures is named, with an empty list if nothing came of it.",
    )
    failures = FailureSerializer(many=True, required=False)
    busySeconds = serializers.FloatField(  # noqa: N815
        default=0.0, min_value=0, max_value=DAY, help_text="Time spent on these items; estimates are made of it."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        failures = [FailedItem(**failure) for failure in attrs.pop("failures", [])]
        attrs["submission"] = Submission(attrs["cursor"], attrs.get("outputs", {}), failures, attrs["busySeconds"])
        return attrs


class CheckpointSerializer(SubmissionSerializer):
    """Work that is done, and whether the rest is given back."""

    release = serializers.BooleanField(default=False, help_text="Give the job back: others continue from here.")


class JobFailSerializer(TokenSerializer):
    """Why a job is given back undone."""

    error = serializers.CharField(max_length=LONGEST_ERROR)
    retryAfter = serializers.FloatField(  # noqa: N815
        required=False,
        allow_null=True,
        min_value=0,
        max_value=DAY,
        help_text="Seconds of patience that a provider asked for: nothing has failed.",
    )
    resource = serializers.CharField(
        required=False,
        allow_null=True,
        max_length=64,
        help_text="Which resource of the stage asked for them: all who use it wait. Default: the only one it uses.",
    )


class JobAskSerializer(TokenSerializer):
    """What a person is to answer about the item after the cursor."""

    question = serializers.CharField(max_length=LONGEST_QUESTION)
    choices = serializers.ListField(
        child=serializers.CharField(max_length=LONGEST_CHOICE),
        required=False,
        min_length=1,
        max_length=MOST_CHOICES,
        help_text="The answers that are taken; left out: any text.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        try:
            attrs["asked"] = NeedsInput(attrs["question"], choices=attrs.get("choices"))
        except ValueError as error:
            raise serializers.ValidationError({"choices": str(error)}) from None
        return attrs


class JobFreezeSerializer(TokenSerializer):
    """Why the lane of the run is to be frozen."""

    reason = serializers.CharField(
        max_length=LONGEST_ERROR, help_text="Everybody who sees the lane sees it: name the item, not what it contains."
    )


class JobItemSerializer(serializers.Serializer[Any]):
    """One item."""

    key = serializers.CharField(help_text="With run and stage, the same in every attempt: an idempotency key.")
    payload = serializers.DictField()
    answer = serializers.CharField(required=False, help_text="To its last question, if it was asked about.")
    answers = serializers.DictField(required=False, child=serializers.CharField(), help_text="By question.")


class SystemAnswer(serializers.Serializer[Any]):
    """The state of the fleet switch, which every answer carries."""

    system = SystemSerializer()


class StopSerializer(serializers.Serializer[Any]):
    """Why the job is to be given back at the next item."""

    code = serializers.CharField(
        help_text="`held`, `cancelled`, `finished`, `yield`, `budget`, `paced` or `lease_lost`."
    )
    sentence = serializers.CharField()


class JobItemsSerializer(SystemAnswer):
    """Items of a job, in order."""

    items = JobItemSerializer(many=True)
    more = serializers.BooleanField(help_text="Others come after these.")
    stop = StopSerializer(allow_null=True, help_text="With `more` and no items: why none may begin now.")


class JobSerializer(serializers.Serializer[Any]):
    """A slice of a stage, leased."""

    id = serializers.IntegerField()
    token = serializers.IntegerField(help_text="Shown with everything that is done to the job.")
    run = serializers.UUIDField()
    pipeline = serializers.CharField()
    stage = serializers.CharField()
    params = serializers.DictField(help_text="Of the run.")
    items = JobItemSerializer(many=True)
    more = serializers.BooleanField(help_text="Others come after these.")
    cursor = serializers.CharField(allow_blank=True, help_text="Key of the last item that was committed before.")
    lastKey = serializers.CharField(help_text="Key of the last item.")  # noqa: N815
    gpus = serializers.ListField(
        child=serializers.CharField(),
        help_text="The GPUs it may use: their UUIDs, or indexes where the sample had no UUIDs. Fit for "
        "`CUDA_VISIBLE_DEVICES`.",
    )
    leaseSeconds = serializers.FloatField()  # noqa: N815
    heartbeatSeconds = serializers.FloatField(help_text="How often a heartbeat is due.")  # noqa: N815
    checkpointInterval = serializers.FloatField(  # noqa: N815
        help_text="Seconds between checkpoints at least; 0: each item by itself."
    )
    retries = serializers.IntegerField(help_text="Tries at an item after the first.")
    retryBackoff = serializers.FloatField(help_text="Seconds before the first of them; doubles.")  # noqa: N815


class ClaimAnswer(SystemAnswer):
    """A job, if there is one."""

    job = JobSerializer(allow_null=True)
    reason = serializers.CharField(allow_null=True, help_text="What the machine or the account lacks, if that is why.")


class HeartbeatAnswer(SystemAnswer):
    """Whether to continue."""

    stop = StopSerializer(allow_null=True)


class CheckpointAnswer(HeartbeatAnswer):
    """What is committed, and whether to continue."""

    cursor = serializers.CharField(help_text="Key of the last item that is committed.")
    finished = serializers.BooleanField(help_text="Nothing is left of the job, and it is held no more.")
    released = serializers.BooleanField(help_text="The job was given back.")


class JobErrorSerializer(ErrorSerializer):
    """Why an agent was refused. Nothing was changed."""

    system = SystemSerializer(required=False, help_text="Not told to whom it is not told elsewhere.")


class JobInvalidSerializer(JobErrorSerializer):
    """What is wrong with a request."""

    fields = serializers.DictField(  # type: ignore[assignment]
        required=False, help_text="By field, the sentences about it; with code `invalid` only."
    )
