"""The groups that come with the system, each with the permissions that its members need and no others.

Memberships decide which accounts a user can see; only the fleet's role crosses accounts.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.contrib.auth.models import Group, Permission

VIEWERS, OPERATORS, FLEET_OPERATORS = "Viewers", "Operators", "Fleet operators"

_VIEW = ("automation.view_automationrun", "automation.view_payloads")

ROLES: dict[str, tuple[str, ...]] = {
    VIEWERS: _VIEW,
    OPERATORS: (*_VIEW, "automation.operate_automationrun"),
    FLEET_OPERATORS: ("pause_manager.operate_fleet",),
}


def prepare() -> Iterator[str]:
    """Create missing groups and reset the permissions of changed ones; yields one sentence per group that was reset.

    Users who need other permissions get them from a group with another name.
    """
    for name, wanted in ROLES.items():
        group, is_new = Group.objects.get_or_create(name=name)
        had = {_name(permission) for permission in group.permissions.select_related("content_type")}
        if had == set(wanted):
            continue
        group.permissions.set(_permissions(wanted))
        if not is_new:
            yield (
                f"The group {name} had {len(had)} permissions; it now has these {len(wanted)}: {', '.join(wanted)}. "
                "To grant others, create a group of your own."
            )


def _permissions(names: tuple[str, ...]) -> list[Permission]:
    every = Permission.objects.select_related("content_type")
    codenames = [name.partition(".")[2] for name in names]
    return [one for one in every.filter(codename__in=codenames) if _name(one) in names]


def _name(permission: Permission) -> str:
    return f"{permission.content_type.app_label}.{permission.codename}"
