"""Permissions to read, change and delete runs and to lease slices; ``visible_to`` decides which ones."""

from __future__ import annotations

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from automation.models import Agent

VIEW, OPERATE = "automation.view_automationrun", "automation.operate_automationrun"
DELETE = "automation.delete_automationrun"


class MayUseRuns(BasePermission):
    """``view_automationrun`` to read, ``operate_automationrun`` to change."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user.is_authenticated:
            return False
        needed = VIEW if request.method in SAFE_METHODS else OPERATE
        self.message = f"Cannot do that: it needs the permission {needed}."
        return request.user.has_perm(needed)


class MayDeleteRuns(BasePermission):
    """``delete_automationrun`` and ``view_automationrun``."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        needed = (VIEW, DELETE)
        self.message = f"Cannot do that: it needs the permissions {' and '.join(needed)}."
        return bool(request.user.is_authenticated and request.user.has_perms(needed))


class IsAgent(BasePermission):
    """Agents only, whatever permissions a user has."""

    message = "Cannot do that: it needs the token of an agent."
    code = "agent_required"

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.auth, Agent)
