"""Who may read and who may change runs; which runs is decided by ``visible_to``."""

from __future__ import annotations

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

VIEW, OPERATE = "automation.view_automationrun", "automation.operate_automationrun"


class MayUseRuns(BasePermission):
    """``view_automationrun`` to read, ``operate_automationrun`` to change."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user.is_authenticated:
            return False
        needed = VIEW if request.method in SAFE_METHODS else OPERATE
        self.message = f"Cannot do that: it needs the permission {needed}."
        return request.user.has_perm(needed)
