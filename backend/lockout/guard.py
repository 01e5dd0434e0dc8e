"""Limits wrong passwords and tokens per account and address, and per address.

An attempt is counted before it is made, and taken back if it was right: so concurrent attempts count like consecutive
ones. No account is ever locked for everyone: an attacker does not lock out users at other addresses.
"""

from __future__ import annotations

import hashlib
import logging
import unicodedata

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import transaction

from backend.lockout import counter
from backend.lockout.counter import Count
from pause_manager.actor import Actor
from pause_manager.observability import audit, log_context

logger = logging.getLogger("backend.lockout")

SCOPE = "access"
FAILED, LOCKED_OUT = "sign_in_failed", "locked_out"
MOST_EVENTS, EVENT_SECONDS = 60, 60
"""The most such events in the audit trail within ``EVENT_SECONDS``; more go to the log only."""
LONGEST_NAME = 150


class Guard:
    """The attempts of one caller at ``account``: a user name, or a token if ``secret``."""

    def __init__(self, *, address: str, account: str, channel: str, secret: bool = False) -> None:
        self.address, self.channel = address, channel
        self.account = "" if secret else _clean(account)[:LONGEST_NAME]
        # A digest keeps the key short and free of tokens, whatever was typed.
        subject = f"token:{account}:{address}" if secret else f"name:{_clean(account).casefold()}:{address}"
        digest = hashlib.blake2b(subject.encode("utf-8", "replace"), key=_key(), digest_size=16).hexdigest()
        seconds = int(settings.LOCKOUT["seconds"])
        self._pair = Count(f"tries:{digest}", int(settings.LOCKOUT["tries"]), seconds)
        self._from = Count(f"tries-from:{address}", int(settings.LOCKOUT["tries_per_address"]), seconds)
        self.known = f"known:{digest}"
        self._pending: tuple[str, int] | None = None

    def admit(self) -> float:
        """Count an attempt; returns 0, or the seconds until the next one is admitted."""
        return self._taken(counter.take(self._pair, self._from))

    def wait(self) -> float:
        """Return the seconds until an attempt is admitted, without counting one."""
        return counter.look(self._pair, self._from).wait

    def succeeded(self) -> None:
        """Take back the admitted attempt, which was right."""
        counter.forget(self._pair.key)
        counter.give_back(self._from.key)

    def _taken(self, taken: counter.Taken) -> float:
        if taken.wait:
            return taken.wait
        of_pair, from_address = taken.counts
        if from_address == self._from.most:
            self._pending = (LOCKED_OUT, from_address)
        elif of_pair == self._pair.most:
            self._pending = (LOCKED_OUT, of_pair)
        elif (of_pair if self.account else from_address) == 1:  # tokens look alike
            self._pending = (FAILED, 1)
        return 0.0

    def failed(self) -> None:
        """Record the admitted attempt as wrong in the audit trail, if it is the first one or the one that locks out."""
        if self._pending is None:
            return
        action, tries = self._pending
        sentence = f"{self._subject()} from {self.address}: {tries} wrong attempt{'s' if tries > 1 else ''}"
        if action == LOCKED_OUT:
            sentence += f"; locked out for {self._pair.seconds} s"
        if counter.take(Count("events", MOST_EVENTS, EVENT_SECONDS)).wait:
            logger.warning("%s (%s): %s.", action, self.channel, sentence)
            return
        details = {"account": self.account, "address": self.address, "channel": self.channel, "tries": tries}
        actor = Actor(f"address:{self.address}", self.channel, log_context.request_id())
        try:
            with transaction.atomic():
                audit.record(action, scope=SCOPE, actor=actor, reason=f"{sentence}.", details=details)
        except DatabaseError as error:
            logger.warning("%s (%s): %s (not recorded: %s).", action, self.channel, sentence, error)

    def _subject(self) -> str:
        return f"As {self.account}" if self.account else "With a token"


def _clean(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", name[:1_000]).strip() if c.isprintable())


def _key() -> bytes:
    return hashlib.sha256(str(settings.SECRET_KEY).encode()).digest()
