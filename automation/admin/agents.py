"""Agents in the admin: create, limit, rotate and disable them; a token is shown once, to the user who created it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import ForeignKey, QuerySet
from django.forms import ModelChoiceField
from django.http import HttpRequest

from automation import agents
from automation.admin.base import AccountScopedAdmin
from automation.models import Agent, Site
from automation.pipeline import AGENT, all_pipelines
from pause_manager.admin.base import actor_of


def _pipelines() -> list[tuple[str, str]]:
    """The pipelines with a stage for agents."""
    return [
        (pipeline.slug, pipeline.title)
        for pipeline in all_pipelines()
        if any(stage.executor == AGENT for stage in pipeline.stages)
    ]


class AgentForm(forms.ModelForm[Agent]):
    pipelines = forms.MultipleChoiceField(choices=_pipelines, widget=forms.CheckboxSelectMultiple)
    node = forms.CharField(required=False, max_length=200, help_text="Its machine; the agent's name if empty.")

    class Meta:
        model = Agent
        fields = ("name", "account", "site", "pipelines", "node", "is_enabled")


@admin.action(description="Replace the tokens of selected agents", permissions=["change"])
def rotate_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[Agent]) -> None:
    """Replace the tokens; the old ones stop working at once."""
    for agent in queryset.select_related("account"):
        _show(request, agent, agents.issue(agent, actor=actor_of(request)))


@admin.register(Agent)
class AgentAdmin(AccountScopedAdmin):
    to_account = "account__"
    form = AgentForm
    list_display = [
        "name",
        "account",
        "site",
        "pipelines",
        "node",
        "is_enabled",
        "last_seen_at",
        "acknowledged_version",
    ]
    list_select_related = ["account", "site"]
    list_filter = ["is_enabled"]
    search_fields = ["name", "node"]
    readonly_fields = ["created_at", "last_seen_at", "acknowledged_version", "acknowledged_at"]
    actions = [rotate_selected]

    def get_readonly_fields(self, request: HttpRequest, obj: Agent | None = None) -> list[str]:
        # Its leases and events are known by its name.
        return ["name", *self.readonly_fields] if obj is not None else [*self.readonly_fields]

    def formfield_for_foreignkey(
        self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> ModelChoiceField[Any] | None:
        if db_field.related_model is Site:
            kwargs["queryset"] = Site.objects.visible_to(request.user)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Agent, form: Any, change: bool) -> None:
        if not change:
            _show(request, obj, agents.issue(obj, actor=actor_of(request)))
            return
        agents.change(obj, actor=actor_of(request), changed=form.changed_data)


def _show(request: HttpRequest, agent: Agent, token: str) -> None:
    messages.warning(request, f"Token for {agent} (copy it now, it is not shown again): {token}")
