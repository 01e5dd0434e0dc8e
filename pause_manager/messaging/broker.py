"""What is asked of the broker besides Celery's own sending: how long a queue is, and messages sent with their fates.

The connections are our own, and every wait for one is bounded, whatever the project's settings say: a broker that is
frozen is away.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal, NamedTuple

import amqp.exceptions
import redis.exceptions
from celery import current_app
from kombu import Producer
from kombu.exceptions import ChannelError, OperationalError

logger = logging.getLogger("pause_manager.messaging.broker")

BROKER_ERRORS = (OperationalError, ChannelError, ConnectionError, TimeoutError, OSError)

SECONDS = 3.0
"""The longest wait for any one answer of the broker."""

_KEPT_PROPERTIES = ("priority", "correlation_id", "reply_to", "delivery_mode", "message_id", "type", "app_id")
"""An ``expiration`` is left out: the header ``expires`` says the same, by the clock."""

_AT_ONCE = 50
"""How many messages are on their way to be confirmed at one time."""

_REMEMBERED_SECONDS = 15.0

_AWAY = (
    *(OSError, amqp.exceptions.ConnectionError),
    *(redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, redis.exceptions.ReadOnlyError),
    *(redis.exceptions.OutOfMemoryError, redis.exceptions.ClusterDownError, redis.exceptions.MasterDownError),
    *(redis.exceptions.NoPermissionError, redis.exceptions.TryAgainError),
)
"""Errors that say nothing of the one message that was to be sent. Read before ``ChannelError``, which is not here."""

_SILENCE = (TimeoutError, redis.exceptions.TimeoutError)

Sending = Callable[[Any], object]
"""Sends one message by the producer that it is given."""


class Fate(NamedTuple):
    """What became of a message: the broker took it, refuses it, or is away (then it may have taken it, or not)."""

    what: Literal["taken", "refused", "away"]
    why: str = ""


TAKEN = Fate("taken")
NOT_IN_TIME = "there was no time left to send it"


class BrokerAway(Exception):
    """The broker takes no connection, or does not answer on it."""


_away_until = 0.0


def seems_away() -> bool:
    """Whether this process has found the broker away a moment ago; asks nobody."""
    return time.monotonic() < _away_until


def _note(is_away: bool) -> None:
    global _away_until
    _away_until = time.monotonic() + _REMEMBERED_SECONDS if is_away else 0.0


def queue_depth(queue: str) -> int | None:
    """Messages that wait in the broker's ``queue``, or ``None`` if it cannot say. Never ask inside a transaction."""
    try:
        with _connected(current_app.connection_for_read, SECONDS) as broker:
            return int(broker.default_channel.queue_declare(queue, passive=True).message_count)
    except ChannelError:
        return 0  # Redis forgets an empty queue.
    except (*BROKER_ERRORS, *_AWAY, BrokerAway) as error:
        logger.warning("The broker is away (%s).", error)
        return None


def is_reachable() -> bool:
    """Whether the broker takes connections now; :func:`seems_away` remembers it. Never ask inside a transaction."""
    try:
        with _connected(current_app.connection_for_write, SECONDS):
            return True
    except BrokerAway:
        return False


def publish(sendings: Iterable[Sending], *, within: float = SECONDS) -> list[Fate]:
    """Make the ``sendings``, in order; the fate of each. ``within``: the longest wait for one answer, in seconds."""
    messages = list(sendings)
    try:
        with sender(within) as open_sender:
            return open_sender.publish(messages)
    except BrokerAway as error:
        return [Fate("away", str(error))] * len(messages)


@contextmanager
def sender(within: float = SECONDS) -> Iterator[Sender]:
    """A connection to send by. Raises :class:`BrokerAway` if there is none."""
    found = Sender(within)
    try:
        yield found
    finally:
        found.close()


class Sender:
    """Sends messages each of which has a fate of its own. On AMQP every one is confirmed by the broker, or refused."""

    def __init__(self, within: float = SECONDS) -> None:
        self._within = within
        self._line = _Line(within)
        self._gone = ""

    @property
    def is_gone(self) -> bool:
        """Whether the broker was found away: nothing more is sent by this sender."""
        return bool(self._gone)

    def close(self) -> None:
        """Let the connection go, without waiting for a broker that does not answer."""
        self._line.close()

    def publish(self, messages: Sequence[Sending], *, until: float | None = None) -> list[Fate]:
        """Send ``messages``, in order; the fate of each. What has none at ``until`` (monotonic) is left: away.

        One that the broker refuses keeps no other from being sent. Once the broker is away, all that is left is.
        """
        fates: list[Fate] = []
        for first in range(0, len(messages), _AT_ONCE):
            if self._gone or (until is not None and time.monotonic() >= until):
                break
            fates += self._some(messages[first : first + _AT_ONCE])
            if fates[-1].what == "away":
                self._gone = fates[-1].why
        if messages:
            _note(is_away=bool(self._gone))
        return fates + [Fate("away", self._gone or NOT_IN_TIME)] * (len(messages) - len(fates))

    def _some(self, messages: Sequence[Sending]) -> list[Fate]:
        told: list[Fate | None] = self._line.send(messages)
        if self._line.missing is not None:
            told = [None]  # There was one, whose queue may be made.
        fates: list[Fate] = []
        for message, fate in zip(messages, told, strict=True):
            if fates and fates[-1].what == "away":
                fates.append(fates[-1])
            else:
                fates.append(fate or self._alone(message))
        return fates

    def _alone(self, message: Sending) -> Fate:
        """The fate of a message whose connection or channel was lost: that is its fault if it happens once more."""
        fate, is_declared = Fate("refused"), False
        for _ in range(3):
            if not self._line.is_open:
                self._line.close()
                try:
                    self._line = _Line(self._within)
                except BrokerAway as error:
                    return Fate("away", str(error))
            (told,) = self._line.send([message])
            if told is None and self._line.is_silent:
                return Fate("away", self._line.why)
            fate = told or Fate("refused", self._line.why)
            queue = self._line.missing
            if told is None or (queue is not None and not is_declared and self._declare(queue)):
                is_declared = is_declared or told is not None
                continue
            return fate
        return fate

    def _declare(self, queue: str) -> bool:
        """Make a queue that the broker has not (or no more), as Celery does where it sends to one that it knows."""
        known = current_app.amqp.queues.get(queue)
        if known is None:
            return False
        try:
            known(self._line.channel).declare()
            return True
        except Exception as error:
            logger.warning("The queue %s is not there and cannot be made (%s).", queue, error)
            # The broker closes the channel with its refusal.
            self._line.close()
            with suppress(BrokerAway):
                self._line = _Line(self._within)
            return False


class _Line:
    """One connection and its channel, on which each message that is sent is numbered and confirmed."""

    def __init__(self, within: float) -> None:
        self._within = within
        self.is_open = True
        self.is_silent = False
        self.why = ""
        self.missing: str | None = None
        """The queue that the last message alone was meant for, if there is none."""
        self._sent = 0
        self._queues: dict[int, str] = {}
        self._confirmed: dict[int, Fate] = {}
        self._returned: set[str] = set()
        self._connection = _connect(current_app.connection_for_write, within)
        try:
            self.channel: Any = self._connection.channel()
            self._is_confirmed = self._connection.transport.driver_name == "py-amqp"
            if self._is_confirmed:
                self._confirm()
            self._producer = Producer(self.channel, auto_declare=False)
        except Exception as error:
            self._lose(error)
            self.close()
            _note(is_away=True)
            raise BrokerAway(_sentence(error)) from error

    def close(self) -> None:
        """Let the connection go."""
        self.is_open = False
        _hang_up(self._connection, is_polite=not self.is_silent)

    def send(self, messages: Sequence[Sending]) -> list[Fate | None]:
        """The fate of each, as far as it is known: ``None`` where that takes another try, alone."""
        self._confirmed.clear()
        self._queues.clear()
        self._returned.clear()
        self.missing = None
        told: list[tuple[Fate | None, int]] = []
        for message in messages:
            fate = self._try(message)
            told.append((fate, self._sent))
            if not self.is_open:
                break
        told += [(None, 0)] * (len(messages) - len(told))
        if not self._is_confirmed:
            return [fate for fate, _ in told]
        awaited = {number for fate, number in told if fate == TAKEN}
        if self.is_open:
            self._await(awaited)
        if len(messages) == 1 and self._returned:
            self.missing = next(iter(self._returned))
            return [Fate("refused", f"There is no queue {self.missing}.")]
        return [self._confirmation(number) if fate == TAKEN else fate for fate, number in told]

    def _confirmation(self, number: int) -> Fate | None:
        # What came back is told by its queue only: whose it was is clear when it is sent alone.
        return None if self._queues.get(number) in self._returned else self._confirmed.get(number)

    def _try(self, message: Sending) -> Fate | None:
        try:
            message(self._producer)
        except Exception as error:
            fault = (error.__cause__ or error) if isinstance(error, OperationalError) else error
            # A closed channel may be the fault of a message before; so may a lost connection.
            if isinstance(fault, (ChannelError, *_AWAY)):
                self._lose(fault)
                return None
            return Fate("refused", _sentence(fault))
        return TAKEN

    def _lose(self, error: BaseException) -> None:
        self.is_open = False
        self.is_silent = isinstance(error, _SILENCE) or isinstance(error.__cause__ or error.__context__, _SILENCE)
        self.why = _sentence(error)

    def _confirm(self) -> None:
        self.channel.confirm_select()
        send = self.channel.basic_publish

        def numbered(message: Any, *args: Any, **kwargs: Any) -> Any:
            self._sent += 1
            self._queues[self._sent] = kwargs.get("routing_key", "")
            return send(message, *args, **kwargs)

        self.channel.basic_publish = numbered
        events = self.channel.events
        events["basic_ack"].add(lambda number, multiple: self._answered(number, multiple, TAKEN))
        refused = Fate("refused", "The queue takes no more messages.")
        events["basic_nack"].add(lambda number, multiple: self._answered(number, multiple, refused))
        events["basic_return"].add(lambda error, exchange, routing_key, message: self._returned.add(routing_key))

    def _answered(self, number: int, multiple: bool, fate: Fate) -> None:
        for one in range(min(self._queues, default=number), number + 1) if multiple else (number,):
            self._confirmed.setdefault(one, fate)

    def _await(self, numbers: set[int]) -> None:
        try:
            while not numbers <= self._confirmed.keys():
                self._connection.drain_events(timeout=self._within)
        except Exception as error:
            self._lose(error)


def _connect(make: Callable[..., Any], within: float) -> Any:
    """A connection of ``make`` (of the app's) each of whose waits is bounded. Raises :class:`BrokerAway`."""
    found = make(connect_timeout=within)
    found.transport_options = {**found.transport_options, **_bounds(found.transport_cls, found, within)}
    try:
        # Each of several brokers once, and no waiting in between.
        found.ensure_connection(max_retries=max(0, len(found.alt) - 1), interval_start=0, timeout=within)
        line = found.connection
        if found.transport.driver_name == "py-amqp":
            line.transport.sock.settimeout(within)
    except Exception as error:
        _hang_up(found, is_polite=False)
        _note(is_away=True)
        raise BrokerAway(_sentence(error)) from error
    _note(is_away=False)
    return found


def _bounds(name: Any, connection: Any, within: float) -> dict[str, Any]:
    """Options of the transport that bound its sockets."""
    if getattr(connection.transport, "driver_type", "") != "redis":
        return {}
    options = connection.transport_options
    bounds = {"socket_timeout": within, "socket_connect_timeout": within, "retry_on_timeout": False}
    if str(name).startswith("sentinel"):
        return {**bounds, "sentinel_kwargs": {**(options.get("sentinel_kwargs") or {}), **bounds}}
    return bounds


@contextmanager
def _connected(make: Callable[..., Any], within: float) -> Iterator[Any]:
    found = _connect(make, within)
    is_polite = False
    try:
        yield found
        is_polite = True
    finally:
        _hang_up(found, is_polite=is_polite)


def _hang_up(connection: Any, *, is_polite: bool) -> None:
    """Close the sockets. AMQP waits for the answer to a goodbye, so one that is silent gets none."""
    with suppress(Exception):
        if is_polite or connection.transport.driver_name != "py-amqp":
            connection.release()
        else:
            connection.collect()


def _sentence(error: BaseException) -> str:
    said = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def as_it_came(message: Mapping[str, Any], body: bytes, headers: Mapping[str, Any], *, queue: str = "") -> Sending:
    """A message that was kept whole, with ``headers`` besides its own, to ``queue`` (else the one it was taken from).

    It goes to that queue alone, by the default exchange: a topic would give copies to others, a delayed exchange has
    delayed it once.
    """
    properties = {name: value for name, value in message["properties"].items() if name in _KEPT_PROPERTIES}
    told = {**message["headers"], **headers}
    compression = told.pop("compression", None)
    return lambda producer: producer.publish(
        body,
        exchange="",
        routing_key=queue or message["queue"],
        mandatory=True,
        content_type=message["content_type"],
        content_encoding=message["content_encoding"],
        compression=compression,
        headers=dict(told),
        retry=False,
        **properties,
    )


def signature(
    task_name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    task_id: str,
    queue: str,
    headers: Mapping[str, Any],
) -> Sending:
    """A new message of a task, to ``queue`` alone, built as ``send_task`` does.

    Not by ``send_task``: that listens for the result, which nobody here will ask for, on a connection without bounds.
    """

    def send(producer: Any) -> None:
        app: Any = current_app
        task = app.tasks.get(task_name)
        own = {name: value for name in _OWN_OPTIONS if (value := getattr(task, name, None)) is not None}
        limits = {name: getattr(task, name, None) for name in ("time_limit", "soft_time_limit", "expires")}
        message = app.amqp.create_task_message(
            task_id,
            task_name,
            args,
            kwargs,
            reply_to=app.thread_oid,
            create_sent_event=app.conf.task_send_sent_event,
            ignore_result=None,
            **limits,
        )
        app.amqp.send_task_message(
            producer,
            task_name,
            message,
            queue=queue,
            exchange="",
            routing_key=queue,
            declare=[],
            mandatory=True,
            headers=dict(headers),
            retry=False,
            **own,
        )

    return send


_OWN_OPTIONS = ("serializer", "compression", "delivery_mode", "priority")
"""What a task may say of its messages."""
