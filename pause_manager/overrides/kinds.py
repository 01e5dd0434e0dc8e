"""The contract with a room that has a value which operators may override: implement :class:`OverrideKind`.

There are two ways to have a value overridden, and neither costs a claim a statement:

- The value is a column that everybody reads, such as the priority of a run: :meth:`OverrideKind.apply` writes it, and
  :meth:`OverrideKind.restore` puts the former one back, unless somebody has changed it since.
- The value is no column of its own, such as the threshold of a pipeline, which stands in the settings: what reads it
  anyway reads the override in the same statement (:func:`active_value`, :func:`active_values`). It ends on time even
  while nothing runs that ends it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from pause_manager.errors import PauseManagerError
from pause_manager.models import Override

MOST_TARGET_CHARS = 200


class InvalidOverride(PauseManagerError):
    """An override was asked for that breaks a rule; the sentence names it."""

    code = "override_invalid"


class OverrideTargetUnknown(PauseManagerError):
    """There is nothing of that name to override."""

    code = "not_found"


class OverrideRefused(PauseManagerError):
    """The override does not apply now; nothing was changed."""

    code = "override_refused"


class OverrideKind(ABC):
    """One sort of value. All methods but ``target`` and ``value`` are called in the transaction of the change."""

    name: str
    """For machines, such as ``node_threshold``."""
    title: str
    """For people, such as ``threshold of a node``."""
    targets: str
    """What a target is, such as ``the name of a node``."""
    values: str
    """What a value is, such as ``0% to 100%, or 0 to 1``."""

    def target(self, text: str) -> str:
        """The target as it is stored. Raises :class:`InvalidOverride`."""
        return text

    @abstractmethod
    def value(self, text: str) -> Any:
        """The value as it is stored, as JSON. Raises :class:`InvalidOverride`."""

    def told(self, value: Any) -> str:
        """The value for people."""
        return str(value)

    @abstractmethod
    def scope(self, target: str) -> str:
        """The scope of the events."""

    def apply(self, target: str, value: Any) -> Any:
        """Put ``value`` in force and return what :meth:`restore` needs, as JSON.

        Raises :class:`OverrideTargetUnknown` or :class:`OverrideRefused`.
        """
        return None

    def restore(self, target: str, value: Any, previous: Any) -> str:
        """Put back what was before ``value``, unless it was changed since; return what was done, in a few words."""
        return "ended"

    def followed(self, target: str) -> None:
        """Notify, on commit, those who may act on a start or an end sooner than they would."""
        return

    def invalid_value(self, text: str) -> InvalidOverride:
        """The refusal of a value."""
        return InvalidOverride(f"Cannot override the {self.title} with {text[:40]!r}: expected {self.values}.")

    def invalid_target(self, text: str) -> InvalidOverride:
        """The refusal of a target."""
        return InvalidOverride(f"Cannot override the {self.title} {text[:60]!r}: expected {self.targets}.")


_registered: dict[str, OverrideKind] = {}


def register(kind: OverrideKind) -> None:
    """Add ``kind`` to those that can be overridden; one of the same name takes its place."""
    _registered[kind.name] = kind


def every_kind() -> list[OverrideKind]:
    """Every kind, by name."""
    return [_registered[name] for name in sorted(_registered)]


def kind_of(name: str) -> OverrideKind:
    """The kind of that name. Raises :class:`InvalidOverride`."""
    found = _registered.get(name)
    if found is None:
        raise InvalidOverride(f"Cannot override {name[:40]!r}: expected {', '.join(sorted(_registered))}.")
    return found


_OVERRIDE = Override._meta.db_table
_ACTIVE = "ended_at IS NULL AND expires_at > statement_timestamp()"


def active_value(kind: str, *targets: str) -> str:
    """SQL for the value, as ``jsonb``, of the active override of the first of ``targets`` that has one, else null.

    Each of ``targets`` is SQL for one.
    """
    among = f"ARRAY[{', '.join(targets)}]"
    return f"""(
        SELECT value FROM {_OVERRIDE}
         WHERE kind = '{kind}' AND {_ACTIVE} AND target = ANY({among})
         ORDER BY array_position({among}, target::text) LIMIT 1)"""


def active_values(kind: str) -> str:
    """SQL for all active overrides of ``kind``: an object of value by target, null if there are none."""
    return f"(SELECT jsonb_object_agg(target, value) FROM {_OVERRIDE} WHERE kind = '{kind}' AND {_ACTIVE})"
