"""Nodes and the fleet in the admin."""

from __future__ import annotations

from django import forms
from django.contrib import admin

from pause_manager.admin import actions
from pause_manager.admin.base import ReasonForm, SuperuserAdmin
from pause_manager.models import CapacitySample, ControlState, FleetWorker, WorkerNode


class NodeForm(ReasonForm):
    """The action bar with a threshold."""

    threshold = forms.CharField(required=False, max_length=10, label="Threshold")


@admin.register(WorkerNode)
class WorkerNodeAdmin(SuperuserAdmin):
    list_display = ["name", "last_seen_at", "is_consuming", "pause_below", "first_seen_at"]
    list_filter = ["is_consuming"]
    search_fields = ["name"]
    action_form = NodeForm
    actions = [actions.hold_nodes, actions.release_nodes, actions.set_threshold]


@admin.register(ControlState)
class ControlStateAdmin(SuperuserAdmin):
    list_display = ["version", "is_paused", "mode", "reason", "requested_by", "requested_at", "updated_at"]


@admin.register(FleetWorker)
class FleetWorkerAdmin(SuperuserAdmin):
    list_display = ["name", "node", "serves", "acknowledged_version", "acknowledged_at", "last_seen_at"]
    search_fields = ["name"]


@admin.register(CapacitySample)
class CapacitySampleAdmin(SuperuserAdmin):
    list_display = [
        "minute",
        "node",
        "cores",
        "own_cores",
        "foreign_cores",
        "foreign_cores_max",
        "free_memory_mib_min",
        "samples",
    ]
    list_select_related = ["node"]
    search_fields = ["=node__name"]
    search_help_text = "The exact name of a node."
