"""One delivery of a Celery message to a worker: what it says, where it comes from, how it becomes a message again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from celery.utils.time import maybe_iso8601, maybe_make_aware

from pause_manager.capacity.needs import Needs
from pause_manager.messaging import envelope, outgoing, priorities
from pause_manager.messaging.headers import ENTRY, deaths, parse_entry
from pause_manager.messaging.message_ids import PROPERTY
from pause_manager.messaging.readable import clean, readable, short
from pause_manager.messaging.remainder import Remainder, as_bytes
from pause_manager.scopes import resource, wrong_uses

ADDRESS = "slackwater"
"""The key of a request under which the pool is told where it comes from, taken out before its task sees it.

It is not in Celery's ``delivery_info``: that becomes the options of a retry.
"""

GROUPS = "groups"
"""In what people and queries read of a kept message: the groups that wait for it."""

_LONGEST_REF = 120
_LONGEST_KEY = 200
_LONGEST_NAME = 1000
_LONGEST_POLICY = 100


@dataclass(frozen=True)
class UnknownTask:
    """Stands for a task that this worker does not know: of its message nothing more can be said."""

    app: Any
    name: str
    acks_late: bool = True
    needs: None = None
    policy: str = ""


@dataclass(frozen=True)
class Delivery:
    """A message in a worker's hand, as it came."""

    task: Any
    task_id: str
    queue: str
    """The queue that it was taken from."""
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    exchange: str
    routing_key: str
    body: bytes
    content_type: str | None
    content_encoding: str | None
    turn: UUID
    """Made for this delivery before anything is written: what is written twice under it is written once."""
    entry: tuple[int, int] | None
    """The entry that it was sent from, and the generation of the message; ``None`` for a message that never waited."""
    is_redelivered: bool
    """Whether the broker says that it has delivered this message before."""
    worker: str
    """Celery's name of the worker."""
    groups: tuple[str, ...] = ()
    """The groups and chords that cannot be complete before it has ended."""
    runs_nothing: bool = False
    """A person has decided that its task fails: it needs and uses nothing."""

    @classmethod
    def of_message(
        cls,
        message: Any,
        task: Any,
        *,
        task_id: str,
        queue: str,
        worker: str,
        turn: UUID,
        entry: tuple[int, int] | None,
        groups: tuple[str, ...] = (),
    ) -> Delivery:
        """The delivery of kombu's ``message`` of a call of ``task``; the rest is as the fields say."""
        address = message.delivery_info or {}
        return cls(
            task=task,
            task_id=task_id,
            queue=queue,
            headers={name: value for name, value in (message.headers or {}).items() if name != ENTRY},
            properties=dict(message.properties or {}),
            exchange=address.get("exchange") or "",
            routing_key=address.get("routing_key") or "",
            body=as_bytes(message.body),
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            turn=turn,
            entry=entry,
            is_redelivered=bool(address.get("redelivered")),
            worker=worker,
            groups=groups,
        )

    @classmethod
    def of_unknown(cls, app: Any, message: Any, queue: str, worker: str) -> Delivery:
        """The delivery of a message whose task this worker does not know."""
        headers = message.headers or {}
        return cls.of_message(
            message,
            UnknownTask(app, str(headers.get("task", ""))),
            task_id=str(headers.get("id", "")),
            queue=queue,
            worker=worker,
            turn=uuid4(),
            entry=parse_entry(headers.get(ENTRY)),
        )

    def left_with(self, rest: Remainder) -> Delivery:
        """The same message with the arguments of ``rest``; after a failure with all its retries."""
        retries = {} if rest.failure is None else {"retries": 0}
        return replace(
            self,
            headers={**self.headers, "argsrepr": rest.argsrepr, "kwargsrepr": rest.kwargsrepr, **retries},
            body=rest.body,
            content_type=rest.content_type,
            content_encoding=rest.content_encoding,
        )

    @property
    def task_name(self) -> str:
        """The registered name."""
        return short(str(self.task.name), _LONGEST_NAME)

    @property
    def short_queue(self) -> str:
        """The queue as a column takes it: the name itself, but for one that no index could hold."""
        return short(self.queue, _LONGEST_NAME)

    @property
    def acks_late(self) -> bool:
        """Whether a message of this task is acknowledged when it has ended."""
        return bool(self.task.acks_late)

    @property
    def needs(self) -> Needs | None:
        """What the task declares; ``None`` if it waits for no room."""
        return None if self.runs_nothing else needs_of(self.task)

    @property
    def uses(self) -> tuple[str, ...]:
        """The resources outside that the task uses."""
        return () if self.runs_nothing else uses_of(self.task)

    @property
    def policy(self) -> str:
        """The name, in ``pipeline_policies``, of the policy it is admitted and resumed by; empty: the fleet's."""
        named = getattr(self.task, "policy", "")
        return named[:_LONGEST_POLICY] if isinstance(named, str) else ""

    @property
    def priority(self) -> int:
        """1 (first) to 5; 3 without a wish."""
        driver_type = self.task.app.connection_for_write().get_transport_cls().driver_type
        return priorities.of_message(self.headers, self.properties, driver_type)

    @property
    def ref(self) -> str:
        """What waits, by name; several messages may have one task id."""
        return ref_of(self.task_id)

    @property
    def scopes(self) -> list[str]:
        """The scopes whose holds cover it, besides that of the node."""
        return ["fleet", f"queue:{clean(self.queue)}", *map(resource, self.uses)]

    @property
    def tag(self) -> str:
        """The broker's own name for the message, the same when it comes again; empty where it has none (AMQP)."""
        tag = self.properties.get("delivery_tag")
        return short(clean(tag), _LONGEST_KEY) if isinstance(tag, str) else ""

    @property
    def key(self) -> str:
        """What names the message, the same when it comes again: the broker's name or its sender's; else empty.

        By a topic or fanout exchange several queues have a message of the same name. What a dead-letter exchange has
        routed back since is another message: the first may have been answered.
        """
        named = self.tag or self.properties.get(PROPERTY)
        if not isinstance(named, str) or not named:
            return ""
        died = "".join(f"+{queue}:{reason}:{count}" for queue, reason, count in deaths(self.headers))
        return short(clean(f"{named}@{self.queue}{died}"), _LONGEST_KEY)

    @property
    def expires_at(self) -> datetime | None:
        """When Celery would throw it away."""
        try:
            expires = maybe_iso8601(self.headers.get("expires"))
            return maybe_make_aware(expires, self.task.app.timezone) if isinstance(expires, datetime) else None
        except (ValueError, TypeError, AttributeError):
            return None

    def copy(self) -> outgoing.Sending:
        """The message, to be sent to its queue once more."""
        return outgoing.copy_message(self._told(), self.body, {})

    def envelope(self) -> bytes:
        """All but the body, whatever it contains; see :mod:`~pause_manager.messaging.envelope`."""
        return envelope.dump(self._told())

    def message(self) -> dict[str, Any]:
        """The same for people and for queries: what JSON in a database cannot say is said in other words."""
        told: dict[str, Any] = readable(self._told())
        return {**told, GROUPS: [clean(group) for group in self.groups]} if self.groups else told

    def _told(self) -> dict[str, Any]:
        return {
            "headers": dict(self.headers),
            "properties": {
                name: value for name, value in self.properties.items() if name not in ("delivery_info", "delivery_tag")
            },
            "exchange": self.exchange,
            "routing_key": self.routing_key,
            "queue": self.queue,
            "content_type": self.content_type,
            "content_encoding": self.content_encoding,
        }


def ref_of(task_id: str) -> str:
    """The name by which the messages of a task wait."""
    return short(f"task:{clean(task_id)}", _LONGEST_REF)


def needs_of(task: Any) -> Needs | None:
    """What ``task`` declares; ``None`` if it waits for no room."""
    declared = getattr(task, "needs", None)
    return declared if declared is None or isinstance(declared, Needs) else Needs(**declared)


def uses_of(task: Any) -> tuple[str, ...]:
    """The resources outside that ``task`` declares to use; what is no declaration of ours says nothing."""
    declared = getattr(task, "uses", ())
    return tuple(declared) if declared and wrong_uses(declared) is None else ()
