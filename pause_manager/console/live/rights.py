"""Whether the readers of open streams may still read: asked for all of them at once, however many there are.

A stream holds what its reader may see at its beginning. Before each event it asks again, and the answer is at most
:data:`RIGHTS_SECONDS` old; one look at sessions, users and topics serves every stream of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Hashable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from weakref import WeakSet

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from pause_manager.console.live import topics
from pause_manager.console.live.sse import Topic

RIGHTS_SECONDS = 1.0
"""For how long a reader's rights are not checked again."""

Rights = tuple[Hashable, ...]


@dataclass(frozen=True, eq=False)
class Reader:
    """One stream: its session, the topics it asked for, and what their keys were then."""

    session_key: str
    names: tuple[str, ...]
    rights: Rights


class Readers:
    """The readers of this process."""

    def __init__(self) -> None:
        self._readers: WeakSet[Reader] = WeakSet()
        self._allowed: WeakSet[Reader] = WeakSet()
        self._checked_at = float("-inf")
        self._lock: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, reader: Reader) -> Reader:
        """Follow a reader for as long as somebody refers to it; it may read now."""
        self._readers.add(reader)
        self._allowed.add(reader)
        return reader

    async def may_still_read(self, reader: Reader, executor: Executor) -> bool:
        """Return whether ``reader`` may read, as of at most :data:`RIGHTS_SECONDS` ago; False without a database."""
        async with self._lock_of_loop():
            if time.monotonic() >= self._checked_at + RIGHTS_SECONDS:
                started, asked = time.monotonic(), set(self._readers)
                found = await asyncio.get_running_loop().run_in_executor(executor, _allowed, list(asked))
                came_meanwhile = set(self._readers) - asked
                self._allowed, self._checked_at = WeakSet([*found, *came_meanwhile]), started
            return reader in self._allowed

    def _lock_of_loop(self) -> asyncio.Lock:
        loop = asyncio.get_running_loop()
        if self._lock is None or self._loop is not loop:
            self._lock, self._loop = asyncio.Lock(), loop
        return self._lock


readers = Readers()
"""The readers of this process."""


def resolved(session_key: str, names: Iterable[str]) -> list[Topic] | None:
    """Return the topics with the present rights of a session; ``None`` if it has ended or may not follow them."""
    user = _users([session_key]).get(session_key)
    return None if user is None else _topics_for(user, names)


def rights_of(found: Iterable[Topic]) -> Rights:
    """Return what a reader of ``found`` may see: the keys of the topics."""
    return tuple(topic.key for topic in found)


def _topics_for(user: Any, names: Iterable[str]) -> list[Topic] | None:
    try:
        return [topics.resolve(name, user) for name in names]
    except PermissionDenied:
        return None


def _allowed(asked: list[Reader]) -> list[Reader]:
    """Return those of ``asked`` that may still read. Each user's rights are looked up once."""
    try:
        users = _users({reader.session_key for reader in asked})
        known: dict[tuple[Any, tuple[str, ...]], Rights | None] = {}
        found = []
        for reader in asked:
            user = users.get(reader.session_key)
            if user is None:
                continue
            if (key := (user.pk, reader.names)) not in known:
                now = _topics_for(user, reader.names)
                known[key] = None if now is None else rights_of(now)
            if known[key] == reader.rights:
                found.append(reader)
        return found
    except DatabaseError:
        # The browsers reconnect.
        with contextlib.suppress(DatabaseError):
            connections.close_all()
        return []


def _users(session_keys: Iterable[str]) -> dict[str, Any]:
    """Return the active user of each session that is alive; two statements for sessions in the database."""
    data = _data_of(list(session_keys))
    model = get_user_model()
    ids = {key: model._meta.pk.to_python(one[SESSION_KEY]) for key, one in data.items() if SESSION_KEY in one}
    known = {user.pk: user for user in model._default_manager.filter(pk__in=set(ids.values()), is_active=True)}
    return {
        key: known[pk]
        for key, pk in ids.items()
        if pk in known and constant_time_compare(data[key].get(HASH_SESSION_KEY, ""), known[pk].get_session_auth_hash())
    }


def _data_of(keys: list[str]) -> dict[str, dict[str, Any]]:
    store: type[SessionBase] = import_module(settings.SESSION_ENGINE).SessionStore
    if store is DatabaseStore:
        rows = DatabaseStore.get_model_class()._default_manager.filter(
            session_key__in=keys, expire_date__gt=timezone.now()
        )
        return {row.session_key: row.get_decoded() for row in rows}
    return {key: store(key).load() for key in keys}
