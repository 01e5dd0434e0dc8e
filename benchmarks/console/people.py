"""Who asks: the operator of the whole, and viewers of a large and of a small account."""

from __future__ import annotations

from benchmarks.console.asking import PASSWORD
from benchmarks.console.work import LARGE, SMALL

OPERATOR = "operator"
EVERYBODY = (OPERATOR, LARGE, SMALL)


def make() -> None:
    """A superuser, and a member of the group Viewers in each of the two accounts."""
    from django.contrib.auth.models import Group, Permission, User

    from automation.models import Account, Membership
    from backend import roles

    list(roles.prepare())
    User.objects.create_superuser(OPERATOR, password=PASSWORD)
    sees_credits = Permission.objects.get(codename="view_transfer")
    for name in (LARGE, SMALL):
        user = User.objects.create_user(name, password=PASSWORD)
        user.groups.add(Group.objects.get(name=roles.VIEWERS))
        user.user_permissions.add(sees_credits)
        Membership.objects.create(user=user, account=Account.objects.get(name=name))
