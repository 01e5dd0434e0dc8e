"""Who may try a password or a token now: so many wrong ones per account and address, and per address.

A try is counted before it is made and given back if it was right, so that many at once are no more than many in a row.
No account is ever locked for everybody: an attacker locks out nobody who comes from another address.
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
"""Events of this sort in the audit trail; beyond, the log alone tells."""
LONGEST_NAME = 150


class Guard:
    """The tries of one caller: ``account`` is what is guessed at (a user name), ``secret`` if it is a token."""

    def __init__(self, *, address: str, account: str, door: str, secret: bool = False) -> None:
        self.address, self.door = address, door
        self.account = "" if secret else _clean(account)[:LONGEST_NAME]
        # Whatever was typed, a key is short, and no token stands in one.
        subject = f"token:{account}:{address}" if secret else f"name:{_clean(account).casefold()}:{address}"
        digest = hashlib.blake2b(subject.encode("utf-8", "replace"), key=_key(), digest_size=16).hexdigest()
        seconds = int(settings.LOCKOUT["seconds"])
        self._pair = Count(f"tries:{digest}", int(settings.LOCKOUT["tries"]), seconds)
        self._from = Count(f"tries-from:{address}", int(settings.LOCKOUT["tries_per_address"]), seconds)
        self.known = f"known:{digest}"
        self._pending: tuple[str, int] | None = None

    def admit(self) -> float:
        """Count a try; returns 0, or for how many seconds none is admitted."""
        return self._taken(counter.take(self._pair, self._from))

    def wait(self) -> float:
        """For how many seconds no try is admitted; 0 if one is."""
        return counter.look(self._pair, self._from).wait

    def succeeded(self) -> None:
        """The try that was admitted was right."""
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
        elif (of_pair if self.account else from_address) == 1:  # of tokens all are alike
            self._pending = (FAILED, 1)
        return 0.0

    def failed(self) -> None:
        """The try that was admitted was wrong; says so in the audit trail where that is news."""
        if self._pending is None:
            return
        action, tries = self._pending
        sentence = f"{self._whom()} from {self.address}: {tries} wrong {'tries' if tries > 1 else 'try'}"
        if action == LOCKED_OUT:
            sentence += f"; none is admitted for {self._pair.seconds} s"
        if counter.take(Count("events", MOST_EVENTS, EVENT_SECONDS)).wait:
            logger.warning("%s at the door %s: %s.", action, self.door, sentence)
            return
        details = {"account": self.account, "address": self.address, "door": self.door, "tries": tries}
        actor = Actor(f"address:{self.address}", self.door, log_context.request_id())
        try:
            with transaction.atomic():
                audit.record(action, scope=SCOPE, actor=actor, reason=f"{sentence}.", details=details)
        except DatabaseError as error:
            logger.warning("%s at the door %s: %s (not on record: %s).", action, self.door, sentence, error)

    def _whom(self) -> str:
        return f"As {self.account}" if self.account else "With a token"


def _clean(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", name[:1_000]).strip() if c.isprintable())


def _key() -> bytes:
    return hashlib.sha256(str(settings.SECRET_KEY).encode()).digest()
