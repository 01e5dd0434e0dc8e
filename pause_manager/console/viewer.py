"""Who looks at a page: hashable, so that renders can be shared by all who see the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth import get_user_model


@dataclass(frozen=True)
class Viewer:
    """A signed-in user's permissions; ``user_id`` is ``None`` on pages that all with the same permissions share."""

    user_id: Any
    permissions: frozenset[str]
    is_superuser: bool = False
    known: Any = field(default=None, compare=False, repr=False)
    """The user of this request; a live topic reads the user again for each render."""

    @classmethod
    def of(cls, user: Any, *, is_shared: bool = False, is_now: bool = False) -> Viewer:
        """The viewer that ``user`` is, for one request if ``is_now``; nobody in particular if ``is_shared``."""
        permissions = frozenset() if user.is_superuser else frozenset(user.get_all_permissions())
        known = user if is_now and not is_shared else None
        return cls(None if is_shared else user.pk, permissions, bool(user.is_superuser), known)

    def has_perm(self, name: str) -> bool:
        """Return whether the viewer has a permission."""
        return self.is_superuser or name in self.permissions

    @property
    def user(self) -> Any:
        """The user, read now. Raises ``DoesNotExist`` if the account was deleted or deactivated."""
        if self.user_id is None:
            raise LookupError("A shared page knows permissions alone, not who looks.")
        if self.known is not None:
            return self.known
        return get_user_model()._default_manager.get(pk=self.user_id, is_active=True)
