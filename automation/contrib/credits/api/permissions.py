"""Permissions to see and change credits; membership decides of which accounts."""

from __future__ import annotations

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

VIEW, MANAGE, PAY = "credits.view_transfer", "credits.manage_credits", "credits.add_payment"


class MayUseCredits(BasePermission):
    """``view_transfer`` to read, ``manage_credits`` to change."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user.is_authenticated:
            return False
        needed = VIEW if request.method in SAFE_METHODS else MANAGE
        self.message = f"Cannot do that: it needs the permission {needed}."
        return request.user.has_perm(needed)
