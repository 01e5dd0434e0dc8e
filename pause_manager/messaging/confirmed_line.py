"""One connection to the broker and its channel, on which each message is numbered, and on AMQP confirmed or refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from celery import current_app
from kombu import Producer
from kombu.exceptions import ChannelError, OperationalError

from pause_manager.messaging.broker_connection import (
    AWAY,
    SILENCE,
    BrokerAway,
    connect,
    hang_up,
    note_away,
    sentence,
)
from pause_manager.messaging.outgoing import Sending


class PublishResult(NamedTuple):
    """What became of a message: the broker took it, refuses it, or is away (then it may have taken it, or not)."""

    what: Literal["taken", "refused", "away"]
    why: str = ""


TAKEN = PublishResult("taken")


class Line:
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
        self._confirmed: dict[int, PublishResult] = {}
        self._returned: set[str] = set()
        self._connection = connect(current_app.connection_for_write, within)
        try:
            self.channel: Any = self._connection.channel()
            self._is_confirmed = self._connection.transport.driver_name == "py-amqp"
            if self._is_confirmed:
                self._confirm()
            self._producer = Producer(self.channel, auto_declare=False)
        except Exception as error:
            self._lose(error)
            self.close()
            note_away(is_away=True)
            raise BrokerAway(sentence(error)) from error

    def close(self) -> None:
        """Let the connection go."""
        self.is_open = False
        hang_up(self._connection, is_polite=not self.is_silent)

    def send(self, messages: Sequence[Sending]) -> list[PublishResult | None]:
        """The result of each, as far as it is known: ``None`` where that takes another try, alone."""
        self._confirmed.clear()
        self._queues.clear()
        self._returned.clear()
        self.missing = None
        told: list[tuple[PublishResult | None, int]] = []
        for message in messages:
            result = self._try(message)
            told.append((result, self._sent))
            if not self.is_open:
                break
        told += [(None, 0)] * (len(messages) - len(told))
        if not self._is_confirmed:
            return [result for result, _ in told]
        awaited = {number for result, number in told if result == TAKEN}
        if self.is_open:
            self._await(awaited)
        if len(messages) == 1 and self._returned:
            self.missing = next(iter(self._returned))
            return [PublishResult("refused", f"There is no queue {self.missing}.")]
        return [self._confirmation(number) if result == TAKEN else result for result, number in told]

    def _confirmation(self, number: int) -> PublishResult | None:
        # What came back is told by its queue only: whose it was is clear when it is sent alone.
        return None if self._queues.get(number) in self._returned else self._confirmed.get(number)

    def _try(self, message: Sending) -> PublishResult | None:
        try:
            message(self._producer)
        except Exception as error:
            fault = (error.__cause__ or error) if isinstance(error, OperationalError) else error
            # A closed channel may be the fault of a message before; so may a lost connection.
            if isinstance(fault, (ChannelError, *AWAY)):
                self._lose(fault)
                return None
            return PublishResult("refused", sentence(fault))
        return TAKEN

    def _lose(self, error: BaseException) -> None:
        self.is_open = False
        self.is_silent = isinstance(error, SILENCE) or isinstance(error.__cause__ or error.__context__, SILENCE)
        self.why = sentence(error)

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
        refused = PublishResult("refused", "The queue takes no more messages.")
        events["basic_nack"].add(lambda number, multiple: self._answered(number, multiple, refused))
        events["basic_return"].add(lambda error, exchange, routing_key, message: self._returned.add(routing_key))

    def _answered(self, number: int, multiple: bool, result: PublishResult) -> None:
        for one in range(min(self._queues, default=number), number + 1) if multiple else (number,):
            self._confirmed.setdefault(one, result)

    def _await(self, numbers: set[int]) -> None:
        try:
            while not numbers <= self._confirmed.keys():
                self._connection.drain_events(timeout=self._within)
        except Exception as error:
            self._lose(error)
