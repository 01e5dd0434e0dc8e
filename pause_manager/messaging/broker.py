"""What is asked of the broker besides Celery's own sending: how long a queue is, and messages sent with their results.

A broker that is frozen is away: no wait for it is longer than its bound.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from celery import current_app
from kombu.exceptions import ChannelError

from pause_manager.messaging.broker_connection import (
    AWAY,
    BROKER_ERRORS,
    SECONDS,
    BrokerAway,
    connected,
    note_away,
    seems_away,
    sentence,
)
from pause_manager.messaging.confirmed_line import TAKEN, Line, PublishResult
from pause_manager.messaging.outgoing import Sending

__all__ = [
    "BROKER_ERRORS",
    "SECONDS",
    "TAKEN",
    "BrokerAway",
    "PublishResult",
    "Sender",
    "is_reachable",
    "publish",
    "queue_depth",
    "queue_depths",
    "seems_away",
    "sender",
]

logger = logging.getLogger("pause_manager.messaging.broker")

_AT_ONCE = 50
"""How many messages are on their way to be confirmed at one time."""

NOT_IN_TIME = "there was no time left to send it"


def queue_depth(queue: str) -> int | None:
    """Messages that wait in the broker's ``queue``, or ``None`` if it cannot say. Never ask inside a transaction."""
    try:
        with connected(current_app.connection_for_read, SECONDS) as broker:
            return int(broker.default_channel.queue_declare(queue, passive=True).message_count)
    except ChannelError:
        return 0  # Redis forgets an empty queue.
    except (*BROKER_ERRORS, *AWAY, BrokerAway) as error:
        logger.warning("The broker is away (%s).", error)
        return None


def queue_depths(queues: Iterable[str]) -> dict[str, int]:
    """Messages that wait in each of ``queues``, by one connection. Never ask inside a transaction.

    Raises :class:`BrokerAway`, at once if it :func:`seems_away`.
    """
    if seems_away():
        raise BrokerAway("the broker was found away a moment ago")
    found = {}
    with connected(current_app.connection_for_read, SECONDS) as broker:
        for queue in queues:
            try:
                with broker.channel() as channel:
                    found[queue] = int(channel.queue_declare(queue, passive=True).message_count)
            except ChannelError:
                found[queue] = 0  # Redis forgets an empty queue.
            except (*BROKER_ERRORS, *AWAY) as error:
                note_away(is_away=True)
                raise BrokerAway(sentence(error)) from error
    return found


def is_reachable() -> bool:
    """Whether the broker takes connections now; :func:`seems_away` remembers it. Never ask inside a transaction."""
    try:
        with connected(current_app.connection_for_write, SECONDS):
            return True
    except BrokerAway:
        return False


def publish(sendings: Iterable[Sending], *, within: float = SECONDS) -> list[PublishResult]:
    """Make the ``sendings``, in order; the result of each. ``within``: the longest wait for one answer, in seconds."""
    messages = list(sendings)
    try:
        with sender(within) as open_sender:
            return open_sender.publish(messages)
    except BrokerAway as error:
        return [PublishResult("away", str(error))] * len(messages)


@contextmanager
def sender(within: float = SECONDS) -> Iterator[Sender]:
    """A connection to send by. Raises :class:`BrokerAway` if there is none."""
    found = Sender(within)
    try:
        yield found
    finally:
        found.close()


class Sender:
    """Sends messages, with a result for each. On AMQP the broker confirms or refuses every one."""

    def __init__(self, within: float = SECONDS) -> None:
        self._within = within
        self._line = Line(within)
        self._gone = ""

    @property
    def is_gone(self) -> bool:
        """Whether the broker was found away: nothing more is sent by this sender."""
        return bool(self._gone)

    def close(self) -> None:
        """Let the connection go, without waiting for a broker that does not answer."""
        self._line.close()

    def publish(self, messages: Sequence[Sending], *, until: float | None = None) -> list[PublishResult]:
        """Send ``messages``, in order; the result of each. What has none at ``until`` (monotonic) is left: away.

        One that the broker refuses keeps no other from being sent. Once the broker is away, all that is left is.
        """
        results: list[PublishResult] = []
        for first in range(0, len(messages), _AT_ONCE):
            if self._gone or (until is not None and time.monotonic() >= until):
                break
            results += self._some(messages[first : first + _AT_ONCE])
            if results[-1].what == "away":
                self._gone = results[-1].why
        if messages:
            note_away(is_away=bool(self._gone))
        return results + [PublishResult("away", self._gone or NOT_IN_TIME)] * (len(messages) - len(results))

    def _some(self, messages: Sequence[Sending]) -> list[PublishResult]:
        told: list[PublishResult | None] = self._line.send(messages)
        if self._line.missing is not None:
            told = [None]  # There was one, whose queue may be made.
        results: list[PublishResult] = []
        for message, result in zip(messages, told, strict=True):
            if results and results[-1].what == "away":
                results.append(results[-1])
            else:
                results.append(result or self._alone(message))
        return results

    def _alone(self, message: Sending) -> PublishResult:
        """The result of a message whose connection or channel was lost: that is its fault if it happens once more."""
        result, is_declared = PublishResult("refused"), False
        for _ in range(3):
            if not self._line.is_open:
                self._line.close()
                try:
                    self._line = Line(self._within)
                except BrokerAway as error:
                    return PublishResult("away", str(error))
            (told,) = self._line.send([message])
            if told is None and self._line.is_silent:
                return PublishResult("away", self._line.why)
            result = told or PublishResult("refused", self._line.why)
            queue = self._line.missing
            if told is None or (queue is not None and not is_declared and self._declare(queue)):
                is_declared = is_declared or told is not None
                continue
            return result
        return result

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
                self._line = Line(self._within)
            return False
