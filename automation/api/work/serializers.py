"""Items, failures, events and pipelines."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from automation.items import keys
from automation.models import Lifecycle
from automation.models.work import ItemFailure, WorkItem
from automation.pipeline import AnyStage, Param, Pipeline
from automation.pipeline.params import EXECUTORS
from automation.reports import payload_access
from pause_manager.models import ControlEvent

_HIDDEN = f"Null for callers without the permission `{payload_access.VIEW}`."


class PayloadField(serializers.DictField):
    """What an item contains, if the context says that it ``is_shown``."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("allow_null", True)
        kwargs.setdefault("help_text", _HIDDEN)
        super().__init__(**kwargs)

    def to_representation(self, value: dict[str, Any]) -> dict[str, Any] | None:  # type: ignore[override]
        return super().to_representation(value) if self.context["is_shown"] else None


class ItemSerializer(serializers.ModelSerializer[WorkItem]):
    """One output of a stage."""

    payload = PayloadField()
    source = serializers.SerializerMethodField(  # type: ignore[assignment]
        help_text="Key of the item it was made from; empty for the run's input."
    )

    class Meta:
        model = WorkItem
        fields = ("key", "payload", "source")
        read_only_fields = fields

    def get_source(self, item: WorkItem) -> str:
        return keys.source(item.key)


class FailureSerializer(serializers.ModelSerializer[ItemFailure]):
    """One item that failed for good."""

    stage = serializers.CharField(source="stage_run.slug")
    payload = PayloadField()
    error = serializers.SerializerMethodField(
        help_text=f"With its traceback; the class alone for callers without the permission `{payload_access.VIEW}`."
    )

    class Meta:
        model = ItemFailure
        fields = ("stage", "key", "payload", "error", "attempts", "failed_at")
        read_only_fields = fields

    def get_error(self, failure: ItemFailure) -> str:
        return failure.error if self.context["is_shown"] else payload_access.error_class(failure.error)


class EventSerializer(serializers.ModelSerializer[ControlEvent]):
    """What was done to the run, by whom and why. ``details.in_flight`` of a pause says who was on which item."""

    details = serializers.DictField()

    class Meta:
        model = ControlEvent
        fields = ("id", "at", "action", "actor", "channel", "reason", "request_id", "details")
        read_only_fields = fields


class StageRunSerializer(serializers.Serializer[Any]):
    """One stage of a run with its slices."""

    slug = serializers.CharField()
    title = serializers.CharField()
    position = serializers.IntegerField()
    after = serializers.ListField(
        child=serializers.CharField(), help_text="The stages whose outputs it processes, or `input`."
    )
    waits_for = serializers.ListField(
        child=serializers.CharField(), help_text="Those of `after` that are not complete."
    )
    status = serializers.CharField(help_text="What people see; see the status of a run.")
    lifecycle = serializers.ChoiceField(choices=Lifecycle.choices)
    total_items = serializers.IntegerField(help_text="0 until it starts.")
    processed_items = serializers.IntegerField()
    failed_items = serializers.IntegerField()
    remaining_count = serializers.IntegerField()
    percentage = serializers.FloatField()
    items_per_second = serializers.FloatField(allow_null=True)
    eta_seconds = serializers.FloatField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    slices = serializers.IntegerField(help_text="All of them.")
    open_slices = serializers.IntegerField(help_text="Slices with work left.")
    leased_slices = serializers.IntegerField(help_text="Slices that a worker holds now.")


class NeedsSerializer(serializers.Serializer[Any]):
    """What one loop of the stage needs of a node."""

    cpu = serializers.FloatField()
    memory_mib = serializers.IntegerField()
    gpu_memory_mib = serializers.IntegerField()
    gpus = serializers.IntegerField()


class StageSerializer(serializers.Serializer[type[AnyStage]]):
    """A declared stage."""

    slug = serializers.CharField()
    title = serializers.CharField()
    executor = serializers.ChoiceField(choices=EXECUTORS, help_text="Who does the work.")
    after = serializers.ListField(
        child=serializers.CharField(), help_text="Stages whose outputs it processes; `input` is the run's input."
    )
    concurrency = serializers.IntegerField(allow_null=True, help_text="Loops of one run at most; null is no limit.")
    retries = serializers.IntegerField()
    group_size = serializers.IntegerField(help_text="Items worked on as one unit.")
    max_failures = serializers.FloatField(
        allow_null=True,
        help_text="The run fails if more items than this fail: a number, or a share if below 1; null: no limit.",
    )
    irreversible = serializers.BooleanField(help_text="Whether a cancel waits for the item in progress.")
    queue = serializers.CharField()
    needs = NeedsSerializer()


class ParamSerializer(serializers.Serializer[Param]):
    """A declared parameter."""

    name = serializers.CharField()
    type = serializers.ChoiceField(choices=("int", "float", "str", "bool"), source="type.__name__")
    default = serializers.JSONField()
    help = serializers.CharField()
    minimum = serializers.FloatField(allow_null=True)
    maximum = serializers.FloatField(allow_null=True)
    choices = serializers.ListField(child=serializers.JSONField(), help_text="Allowed values; if empty, any.")


class PipelineSerializer(serializers.Serializer[type[Pipeline]]):
    """A pipeline that runs can be made of."""

    slug = serializers.CharField()
    title = serializers.CharField()
    needs_input = serializers.BooleanField(
        help_text="Whether runs need an input; if not, the pipeline makes its items from its parameters."
    )
    stages = StageSerializer(many=True)
    params = ParamSerializer(many=True)


def pipeline_as_dict(pipeline: type[Pipeline]) -> dict[str, Any]:
    """A pipeline as JSON. Built by hand: a serializer would call the classes that it is given."""
    return {
        "slug": pipeline.slug,
        "title": pipeline.title,
        "needs_input": pipeline.needs_input,
        "stages": [
            {name: getattr(stage, name) for name in _PLAIN}
            | {
                "after": list(pipeline.predecessors(stage.slug)) or ["input"],
                "needs": NeedsSerializer(stage.needs).data,
            }
            for stage in pipeline.stages
        ],
        "params": [ParamSerializer(param).data for param in pipeline.params],
    }


_PLAIN = (
    "slug",
    "title",
    "executor",
    "concurrency",
    "retries",
    "group_size",
    "max_failures",
    "irreversible",
    "queue",
)
