"""One delivery of a Celery message to a worker: what it says, whence it came, and how it becomes a message again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery.utils.saferepr import saferepr
from kombu import serialization

from pause_manager import conf
from pause_manager.needs import Needs

ENTRY = "pause-entry"
"""The header by which a message that was kept names its entry and which sending it is: ``17.2``."""

CONTENT = "pause-content"
"""Where :class:`~pause_manager.pausable.PausableRequest` puts the content type and encoding of the body."""

_NOT_HEADERS = frozenset(
    {
        *("args", "kwargs", "callbacks", "errbacks", "chain", "chord", "properties", "reply_to", "correlation_id"),
        *("hostname", "delivery_info", "is_eager", "loglevel", "logfile", "redelivered"),
    }
)
"""What a worker adds to the headers of a message to make a task's request of them."""

_LONGEST_REF = 120
_LONGEST_POLICY = 100

_NAMES: dict[str, str] = serialization.registry.type_to_name  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Delivery:
    """A message as the worker's tracer sees it. ``request`` is Celery's, without what only we put there."""

    task: Any
    task_id: str
    queue: str
    request: dict[str, Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    entry: tuple[int, int] | None
    """The entry that it was sent from, and the number of the sending; ``None`` for a message that never waited."""
    content_type: str | None
    """How the body came; ``None`` if the worker could not tell."""

    @classmethod
    def of(cls, task: Any, task_id: str, args: Any, kwargs: Any, request: dict[str, Any]) -> Delivery | None:
        """The delivery, or ``None`` for one that no hold keeps: on the control queue, broadcast, or a local call."""
        address = request.get("delivery_info") or {}
        queue = queue_of(task.app, address.get("exchange"), address.get("routing_key"))
        if queue is None or queue == conf.settings().control_queue:
            return None
        return cls(
            task=task,
            task_id=task_id,
            queue=queue,
            request={name: value for name, value in request.items() if name not in (ENTRY, CONTENT)},
            args=args,
            kwargs=kwargs,
            entry=parsed(request.get(ENTRY)),
            content_type=request.get(CONTENT),
        )

    @property
    def task_name(self) -> str:
        """The registered name."""
        return str(self.task.name)

    @property
    def acks_late(self) -> bool:
        """Whether a message of this task is acknowledged when it has ended."""
        return bool(self.task.acks_late)

    @property
    def needs(self) -> Needs | None:
        """What the task declares; ``None`` if it waits for no room."""
        declared = self.task.needs
        return declared if declared is None or isinstance(declared, Needs) else Needs(**declared)

    @property
    def policy(self) -> str:
        """The name, in ``pipeline_policies``, of the policy it is admitted and goes on by; empty: the fleet's."""
        named = self.task.policy
        return named[:_LONGEST_POLICY] if isinstance(named, str) else ""

    @property
    def priority(self) -> int:
        """1 (first) to 5, in the broker's own order: Redis takes priority 0 first, AMQP 9."""
        given = (self.request.get("delivery_info") or {}).get("priority")
        if given is None:
            return 3
        step = max(0, min(int(given), 9)) // 2
        return 1 + step if self.task.app.connection_for_write().transport_cls in ("redis", "rediss") else 5 - step

    @property
    def ref(self) -> str:
        """What waits, by name; several messages may have one task id."""
        return f"task:{self.task_id}"[:_LONGEST_REF]

    @property
    def scopes(self) -> list[str]:
        """The scopes whose holds cover it, besides that of the node."""
        return ["fleet", f"queue:{self.queue}"]

    @property
    def is_redelivered(self) -> bool:
        """Whether the broker says that it has delivered this message before."""
        return bool((self.request.get("delivery_info") or {}).get("redelivered"))

    @property
    def key(self) -> str:
        """The broker's own name for the message, the same when it comes again; empty where it has none (AMQP)."""
        tag = (self.request.get("properties") or {}).get("delivery_tag")
        return tag if isinstance(tag, str) else ""

    @property
    def worker(self) -> str:
        """Celery's name of the worker."""
        return str(self.request.get("hostname") or "")

    def message(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Headers, properties and address, with the descriptions of other arguments if there are some."""
        headers = {name: value for name, value in self.request.items() if name not in _NOT_HEADERS}
        if args is not None:
            headers |= {"argsrepr": saferepr(args, 1024), "kwargsrepr": saferepr(kwargs, 1024)}
        properties = dict(self.request.get("properties") or {})
        address = self.request["delivery_info"]
        content_type, content_encoding, _ = self._dumped((), {})
        return {
            "headers": headers,
            "properties": {name: properties[name] for name in properties if not isinstance(properties[name], dict)},
            "exchange": address.get("exchange") or "",
            "routing_key": address.get("routing_key"),
            "queue": self.queue,
            "content_type": content_type,
            "content_encoding": content_encoding,
        }

    def body(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None) -> bytes:
        """The arguments and the place in the canvas (callbacks, chain, chord), serialised as they came."""
        _, _, payload = self._dumped(self.args if args is None else args, self.kwargs if kwargs is None else kwargs)
        return payload.encode() if isinstance(payload, str) else bytes(payload)

    def _dumped(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, str, Any]:
        embed = {name: self.request.get(name) for name in ("callbacks", "errbacks", "chain", "chord")}
        name = _NAMES.get(self.content_type or "")
        serialiser = name or self.task.serializer or self.task.app.conf.task_serializer
        content_type, content_encoding, payload = serialization.dumps(
            (list(args), dict(kwargs), embed), serializer=serialiser
        )
        return content_type, content_encoding, payload


def queue_of(app: Any, exchange: str | None, routing_key: str | None) -> str | None:
    """The name of the queue that a message with this address came from; ``None`` if it has none or was broadcast."""
    if not routing_key and not exchange:
        return None
    if not exchange:
        return routing_key
    bound = [queue for queue in app.amqp.queues.values() if queue.exchange and queue.exchange.name == exchange]
    if any(queue.exchange.type == "fanout" for queue in bound):
        return None
    exact = [queue.name for queue in bound if queue.routing_key == routing_key]
    return str((exact or [queue.name for queue in bound] or [routing_key])[0])


def parsed(header: Any) -> tuple[int, int] | None:
    """The entry and the number of the sending that a message names in :data:`ENTRY`."""
    if not header:
        return None
    entry, _, sending = str(header).partition(".")
    return int(entry), int(sending or 0)
