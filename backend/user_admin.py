"""Users, groups and tokens in the admin: only superusers grant permissions and see users of all accounts.

Imported by ``backend.urls`` after Django's own classes have been registered, which these replace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from rest_framework.authtoken.admin import TokenAdmin as DrfTokenAdmin
from rest_framework.authtoken.models import TokenProxy

from automation.models.accounts import accounts_of

if TYPE_CHECKING:
    _UserAdmin = DjangoUserAdmin[User]
else:
    _UserAdmin = DjangoUserAdmin  # generic for type checkers alone

RIGHTS = ("is_superuser", "is_staff", "groups", "user_permissions")


class ForSuperusers:
    """A mixin for models that only superusers can see and change."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _is_superuser(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)


def _is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_superuser)


for model in (User, Group, TokenProxy):
    admin.site.unregister(model)


@admin.register(User)
class UserAdmin(_UserAdmin):
    """Users in the admin: superusers see all; others see those of their accounts, and cannot change permissions."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        people = super().get_queryset(request)
        if _is_superuser(request):
            return people
        return people.filter(accounts__in=accounts_of(request.user), is_superuser=False).distinct()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        found = super().get_readonly_fields(request, obj)
        return found if _is_superuser(request) else (*found, *RIGHTS)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Superusers only: a new user is not a member of any account yet, so nobody else could see it."""
        return _is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """False for users with more permissions than one's own: setting their password would give access to these."""
        return super().has_change_permission(request, obj) and (
            _is_superuser(request) or not _has_more_permissions(obj, request)
        )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)


def _has_more_permissions(person: User | None, request: HttpRequest) -> bool:
    return person is not None and not person.get_all_permissions() <= request.user.get_all_permissions()


@admin.register(Group)
class GroupAdmin(ForSuperusers, DjangoGroupAdmin):
    pass


@admin.register(TokenProxy)
class TokenAdmin(ForSuperusers, DrfTokenAdmin):
    pass
