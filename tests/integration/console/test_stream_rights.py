"""Whether the readers of open streams may still read, also one that connects while they are being looked at."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connections
from django.test import Client

from pause_manager.console.live import rights
from pause_manager.console.live.rights import RIGHTS_SECONDS, Reader, Readers

pytestmark = pytest.mark.django_db(transaction=True)

TOPICS = ("fleet",)


class Late(ThreadPoolExecutor):
    """Threads that begin what they are given when they are let."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked, self.let = threading.Event(), threading.Event()

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        def later() -> Any:
            self.asked.set()
            self.let.wait(10)
            try:
                return work(*args, **kwargs)
            finally:
                connections.close_all()

        return super().submit(later)


@pytest.fixture
def late() -> Iterator[Late]:
    with Late() as executor:
        yield executor
        executor.let.set()


def connect(name: str) -> Reader:
    """A reader with the rights that somebody who has just signed in has now."""
    client = Client()
    client.force_login(User.objects.create_user(name))
    assert client.session.session_key is not None
    found = rights.resolved(client.session.session_key, TOPICS)
    assert found is not None
    return Reader(client.session.session_key, TOPICS, rights.rights_of(found))


def meanwhile(late: Late, first: Reader, second: Reader, happens: Callable[[], object], seconds: float) -> list[bool]:
    """What both are told where the second connects, and something ``happens``, while the first is looked at."""

    async def look() -> list[bool]:
        readers = Readers()
        readers.add(first)
        check = asyncio.create_task(readers.may_still_read(first, late))
        await asyncio.to_thread(late.asked.wait, 10)
        readers.add(second)
        await asyncio.to_thread(happens)
        await asyncio.sleep(seconds)
        late.let.set()
        return [await check, await readers.may_still_read(second, late)]

    return asyncio.run(look())


def test_one_that_connects_during_a_look_stays(late: Late) -> None:
    first, second = connect("ann"), connect("ben")

    assert meanwhile(late, first, second, lambda: None, 0.0) == [True, True]


def test_one_that_connects_during_a_look_does_not_keep_rights_that_were_taken_meanwhile(late: Late) -> None:
    """The look began before the loss and lasted: what it did not see is looked at by the next, at once."""
    first, second = connect("ann"), connect("ben")

    def sign_out() -> None:
        Session.objects.filter(pk=second.session_key).delete()
        connections.close_all()

    began = time.monotonic()
    told = meanwhile(late, first, second, sign_out, RIGHTS_SECONDS + 0.1)

    assert told == [True, False]
    assert time.monotonic() - began < 10
