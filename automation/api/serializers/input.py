"""What was read of a run's input."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from automation.api.serializers.run import RunSerializer


class LeftOutSerializer(serializers.Serializer[Any]):
    """What became no items."""

    kind = serializers.CharField(
        help_text="`blank`, `duplicate`, `before_header`, `total`, `repeated_header` or `other_part`."
    )
    count = serializers.IntegerField()
    examples = serializers.ListField(child=serializers.CharField(), help_text="The first few, with their places.")


class InputSerializer(serializers.Serializer[Any]):
    """How an input was read."""

    name = serializers.CharField(help_text="The file, or `items`.")
    format = serializers.CharField(help_text="`CSV`, `TSV`, `lines`, `JSON`, `JSON lines`, `Excel` or `items`.")
    part = serializers.CharField(help_text="Member of an archive, sheet of a workbook or list in JSON that was read.")
    encoding = serializers.CharField()
    delimiter = serializers.CharField()
    header_at = serializers.IntegerField(allow_null=True, help_text="Line or row of the header; null if it has none.")
    columns = serializers.ListField(child=serializers.CharField(), help_text="The first 50.")
    column_count = serializers.IntegerField()
    items = serializers.IntegerField()
    left_out = LeftOutSerializer(many=True)
    warnings = serializers.ListField(child=serializers.CharField(), help_text="What a person should look at.")


class CreatedRunSerializer(RunSerializer):
    """A run that was just created, and how its input was read."""

    input = InputSerializer(required=False, help_text="Left out for a pipeline that makes its own items.")

    class Meta(RunSerializer.Meta):
        fields = (*RunSerializer.Meta.fields, "input")  # type: ignore[assignment]
        read_only_fields = fields  # type: ignore[assignment]
