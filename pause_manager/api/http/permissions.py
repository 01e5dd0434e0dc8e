"""Permissions to see and to operate the fleet."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from pause_manager import conf, workloads
from pause_manager.models.fleet import OPERATE


def may_operate(user: Any) -> bool:
    """Return whether ``user`` may pause, resume and hold, and see whose work is in progress."""
    return bool(user.has_perm(OPERATE)) if user.is_authenticated else bool(conf.settings().open_to)


class MayUseFleet(BasePermission):
    """Signed in to read, ``operate_fleet`` to change; everybody, where the settings open the fleet to all."""

    message = f"Cannot do that: it needs the permission {OPERATE}."

    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.method in SAFE_METHODS and request.user.is_authenticated:
            return True
        return may_operate(request.user)


class MayUseEntries(BasePermission):
    """A permission to read entries of the pause queue to read, one to change them to change: see ``workloads``."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user.is_authenticated:
            return False
        is_read = request.method in SAFE_METHODS
        needed = workloads.view_permissions() if is_read else workloads.change_permissions()
        self.message = f"Cannot do that: it needs the permission {' or '.join(needed)}."
        return any(request.user.has_perm(name) for name in needed)
