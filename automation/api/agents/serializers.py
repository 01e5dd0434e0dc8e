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
        r"^[\x21-\x2b\x2d-\x7e]{1,96}$",
        required=False,
        help_text="UUID as the driver reports it; the GPU is booked by it.",
    )


class SampleSerializer(StrictSerializer):
    """Resources of the agent's machine."""

    cores = serializers.FloatField(min_value=0.01, max_value=100_000, help_text="Cores that the agent may use.")
    foreignCores = serializers.FloatField(  # noqa: N815
        min_value=0, max_value=100_000, default=0.0, help_text="Cores that other processes use."
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
        help_text="Slugs of the stages that the agent can process; if left out, all that its token allows.",
    )
    sample = SampleSerializer(
        required=False, help_text="Required if capacity is checked and no worker samples the machine."
    )
    maxItems = serializers.IntegerField(  # noqa: N815
        default=PAGE,
        min_value=1,
        max_value=LARGEST_PAGE,
        help_text="Most items in the answer; the others are read page by page.",
    )
    claimId = serializers.RegexField(  # noqa: N815
        r"^[\x21-\x2e\x30-\x7e]{1,64}$",
        required=False,
        help_text="An id of your own for each claim. If the answer is lost, the same id gets the same job again.",
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
    """An item that failed for good."""

    key = serializers.CharField(max_length=LONGEST_KEY)
    error = serializers.CharField(max_length=LONGEST_ERROR)
    attempts = serializers.IntegerField(default=1, min_value=1, max_value=32_767)


class SubmissionSerializer(TokenSerializer):
    """Work that is done."""

    cursor = serializers.CharField(max_length=LONGEST_KEY, help_text="Key of the last item that is done.")
    outputs = serializers.DictField(
        child=serializers.ListField(child=serializers.JSONField()),
        required=False,
        help_text="The outputs of each item, by its key, each a JSON object. Every item up to `cursor` not among "
        "the failures is named, with an empty list if nothing came of it.",
    )
    failures = FailureSerializer(many=True, required=False)
    busySeconds = serializers.FloatField(  # noqa: N815
        default=0.0, min_value=0, max_value=DAY, help_text="Seconds spent on these items; estimates are based on it."
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
        help_text="Seconds that a provider asked to wait: the item has not failed.",
    )
    resource = serializers.CharField(
        required=False,
        allow_null=True,
        max_length=64,
        help_text="Resource that asked to wait: everyone who uses it waits. Default: the only one that the stage uses.",
    )


class JobAskSerializer(TokenSerializer):
    """What a person is to answer about the item after the cursor."""

    question = serializers.CharField(max_length=LONGEST_QUESTION)
    choices = serializers.ListField(
        child=serializers.CharField(max_length=LONGEST_CHOICE),
        required=False,
        min_length=1,
        max_length=MOST_CHOICES,
        help_text="Allowed answers; if left out, any text.",
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
    answer = serializers.CharField(
        required=False, help_text="Answer to the last question about the item, if there was one."
    )
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
    more = serializers.BooleanField(help_text="Whether the job has more items than these.")
    stop = StopSerializer(allow_null=True, help_text="With `more` and no items: why none may begin now.")


class JobSerializer(serializers.Serializer[Any]):
    """A slice of a stage, leased."""

    id = serializers.IntegerField()
    token = serializers.IntegerField(help_text="Required in all further requests about the job.")
    run = serializers.UUIDField()
    pipeline = serializers.CharField()
    stage = serializers.CharField()
    params = serializers.DictField(help_text="Of the run.")
    items = JobItemSerializer(many=True)
    more = serializers.BooleanField(help_text="Whether the job has more items than these.")
    cursor = serializers.CharField(allow_blank=True, help_text="Key of the last item that was committed before.")
    lastKey = serializers.CharField(help_text="Key of the last item.")  # noqa: N815
    gpus = serializers.ListField(
        child=serializers.CharField(),
        help_text="The GPUs it may use: their UUIDs, or indexes where the sample had no UUIDs. Fit for "
        "`CUDA_VISIBLE_DEVICES`.",
    )
    leaseSeconds = serializers.FloatField()  # noqa: N815
    heartbeatSeconds = serializers.FloatField(help_text="Seconds between heartbeats.")  # noqa: N815
    checkpointInterval = serializers.FloatField(  # noqa: N815
        help_text="Least seconds between checkpoints; 0: a checkpoint after each item."
    )
    retries = serializers.IntegerField(help_text="How often an item that fails is tried again.")
    retryBackoff = serializers.FloatField(help_text="Seconds before the first retry; doubled before each further one.")  # noqa: N815


class ClaimAnswer(SystemAnswer):
    """A job, if there is one."""

    job = JobSerializer(allow_null=True)
    reason = serializers.CharField(
        allow_null=True, help_text="Why there is no job, if the machine or the account lacks something."
    )


class HeartbeatAnswer(SystemAnswer):
    """Whether to continue."""

    stop = StopSerializer(allow_null=True)


class CheckpointAnswer(HeartbeatAnswer):
    """What is committed, and whether to continue."""

    cursor = serializers.CharField(help_text="Key of the last item that is committed.")
    finished = serializers.BooleanField(help_text="Whether the job is complete; its lease has ended then.")
    released = serializers.BooleanField(help_text="Whether the job was given back.")


class JobErrorSerializer(ErrorSerializer):
    """Why an agent was refused. Nothing was changed."""

    system = SystemSerializer(required=False, help_text="Only for callers who may see the state of the fleet.")


class JobInvalidSerializer(JobErrorSerializer):
    """What is wrong with a request."""

    fields = serializers.DictField(  # type: ignore[assignment]
        required=False, help_text="By field, the sentences about it; with code `invalid` only."
    )
