"""Users, groups and tokens in the admin: only superusers give rights, and only they see people of all accounts.

Imported by ``backend.urls`` after Django's own classes have been registered: these take their place.
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
    """Nobody else sees or changes these."""

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
    """Superusers see everybody; others the people of their accounts, and change none of their rights."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        people = super().get_queryset(request)
        if _is_superuser(request):
            return people
        return people.filter(accounts__in=accounts_of(request.user), is_superuser=False).distinct()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        found = super().get_readonly_fields(request, obj)
        return found if _is_superuser(request) else (*found, *RIGHTS)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A new user belongs to no account yet, so only superusers could see it."""
        return _is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The password of somebody who may more is the way to their rights."""
        return super().has_change_permission(request, obj) and (_is_superuser(request) or not _may_more(obj, request))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)


def _may_more(person: User | None, request: HttpRequest) -> bool:
    return person is not None and not person.get_all_permissions() <= request.user.get_all_permissions()


@admin.register(Group)
class GroupAdmin(ForSuperusers, DjangoGroupAdmin):
    pass


@admin.register(TokenProxy)
class TokenAdmin(ForSuperusers, DrfTokenAdmin):
    pass
