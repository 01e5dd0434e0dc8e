"""A proxy between real clients and a real server that cuts, stalls and refuses connections when it is told to.

:class:`Proxy` knows nothing of what passes. :class:`PostgresProxy` reads PostgreSQL's protocol, version 3 without TLS,
and breaks a connection at a statement: before the server has it, or after the server has executed it and before the
client has its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import shutil
import socket
import struct
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from weakref import WeakSet

Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""

T = TypeVar("T")

CHUNK = 2**16


class Proxy:
    """Listens on a Unix socket of its own, or on a port of this machine, and passes on what it is given.

    Its loop has a thread of its own; every verb may be called from any other. Use it as a context manager.
    """

    def __init__(self, upstream: Address, *, over_tcp: bool = False, name: str = "server") -> None:
        self.upstream = upstream
        self.directory = Path(tempfile.mkdtemp(prefix="px-"))
        """Of its socket; short, as the path of a Unix socket has to be."""
        self.address: Address = ("127.0.0.1", _unused_port()) if over_tcp else str(self.directory / name)
        self.accepted = 0
        """Connections that it has taken so far."""
        self._links: set[_Link] = set()
        self._transports: WeakSet[asyncio.WriteTransport] = WeakSet()
        """Of both sides of every connection that may still be open: also of one that has no link, or none any more."""
        self._serving: set[asyncio.Task[None]] = set()
        self._has_ended = False
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._lifetimes: Callable[[], float] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._prepare())
        self.admit()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self.cut()
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def open(self) -> int:
        """Connections that pass through it now."""
        return len(self._links)

    def cut(self) -> int:
        """Break all connections now; how many there were."""
        return self._do(self._cut(1.0, random.Random()))

    def cut_some(self, share: float, dice: random.Random) -> int:
        """Break each connection with the probability ``share``; how many were broken."""
        return self._do(self._cut(share, dice))

    def live_for(self, lifetimes: Callable[[], float] | None) -> None:
        """From now on break each connection when the seconds have passed that ``lifetimes`` says at its beginning.

        Those that are there begin now. ``None``: leave them alone again.
        """

        async def begin() -> None:
            self._lifetimes = lifetimes
            for link in self._links:
                self._limit(link)

        self._do(begin())

    def stall(self) -> None:
        """Accept connections and bytes, and pass none, until :meth:`flow`."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def flow(self) -> None:
        self._loop.call_soon_threadsafe(self._flows.set)

    def refuse(self) -> None:
        """Take no new connections until :meth:`admit`: nobody listens. Those that are there stay."""
        self._do(self._close_door())

    def admit(self) -> None:
        self._do(self._open_door())

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        self.stall()
        try:
            yield
        finally:
            self.flow()

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """As a server that hangs, or a firewall that forgets: connections, old and new, pass nothing ever again.

        Nobody is told. What connects afterwards is served.
        """

        async def forget(flows: bool) -> None:
            self._flows = asyncio.Event()
            if flows:
                self._flows.set()
            else:
                for link in self._links:
                    link.flows = self._flows

        self._do(forget(False))
        try:
            yield
        finally:
            self._do(forget(True))

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """As while the server is down: all connections are broken, and new ones refused."""
        self.refuse()
        self.cut()
        try:
            yield
        finally:
            self.admit()

    def _link(self, client: _Peer, server: _Peer) -> _Link:
        return _Link(client, server, self._flows)

    async def _prepare(self) -> None:
        self._flows = asyncio.Event()
        self._flows.set()

    async def _open_door(self) -> None:
        if self._server is not None:
            return
        if isinstance(self.address, str):
            self._server = await asyncio.start_unix_server(self._take, self.address)
        else:
            self._server = await asyncio.start_server(self._take, *self.address, reuse_address=True)

    async def _close_door(self) -> None:
        if self._server is None:
            return
        for listening in self._server.sockets:
            self._loop.remove_reader(listening)
        await asyncio.sleep(0)  # what it has accepted becomes a transport first: a closed server would leak the socket
        self._server.close()
        self._server = None
        if isinstance(self.address, str):
            Path(self.address).unlink(missing_ok=True)

    async def _cut(self, share: float, dice: random.Random) -> int:
        chosen = [link for link in self._links if dice.random() < share]
        for link in chosen:
            link.break_off()
        return len(chosen)

    async def _end(self) -> None:
        self._has_ended = True
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for serving in self._serving:
                serving.cancel()
            await asyncio.wait(others)  # those that asyncio accepts with close their socket only if they may run
        for transport in list(self._transports):
            transport.abort()
        await asyncio.sleep(0)  # an aborted transport closes its socket in the loop's next turn

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody has connected. Not a coroutine: one that is cancelled before it begins would close nothing."""
        self._transports.add(writer.transport)
        if self._has_ended:
            return
        self.accepted += 1
        serving = self._loop.create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self.upstream, str):
                server = await asyncio.open_unix_connection(self.upstream)
            else:
                server = await asyncio.open_connection(*self.upstream)
        except OSError:
            writer.transport.abort()
            return
        self._transports.add(server[1].transport)
        link = self._link(_Peer(reader, writer), _Peer(*server))
        self._links.add(link)
        self._limit(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
            link.close()

    def _limit(self, link: _Link) -> None:
        if self._lifetimes is not None:
            self._loop.call_later(self._lifetimes(), link.break_off)

    def _do(self, act: Coroutine[Any, Any, T]) -> T:
        done: Future[T] = asyncio.run_coroutine_threadsafe(act, self._loop)
        return done.result(10)


@dataclass
class _Peer:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


class _Link:
    """One connection: client, server, and a task for each direction."""

    def __init__(self, client: _Peer, server: _Peer, flows: asyncio.Event) -> None:
        self.client = client
        self.server = server
        self.flows = flows

    async def run(self) -> None:
        """Until either side has ended."""
        pumps = [asyncio.ensure_future(self._upward()), asyncio.ensure_future(self._downward())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def break_off(self) -> None:
        """Both sides lose what is under way."""
        for peer in (self.client, self.server):
            peer.writer.transport.abort()

    def close(self) -> None:
        """Both sides get what was sent to them, and then the end."""
        for peer in (self.client, self.server):
            peer.writer.close()

    async def _upward(self) -> None:
        while chunk := await self.client.reader.read(CHUNK):
            await self.flows.wait()
            await self.server.send(chunk)

    async def _downward(self) -> None:
        while chunk := await self.server.reader.read(CHUNK):
            await self.flows.wait()
            await self.client.send(chunk)


When = Literal["before", "after"]


@dataclass(frozen=True)
class Statement:
    """What a client had executed. ``shape`` is its text without values; that of a COMMIT says of what.

    ``connection`` numbers the connections of the proxy, from 1.
    """

    connection: int
    text: str
    shape: str


@dataclass
class Fault:
    """Break the connection at the ``nth`` statement, from the arming on, whose shape ``pattern`` matches.

    ``before``: the server never has it. ``after``: the server has executed it, and the client has no answer; of a
    COMMIT, or of a statement that is a transaction of its own, that means committed. ``is_per_connection`` counts the
    statements of each connection by themselves, and breaks the first that comes so far.
    """

    pattern: str | re.Pattern[str]
    nth: int = 1
    when: When = "before"
    is_per_connection: bool = False
    fired: threading.Event = field(default_factory=threading.Event)
    statement: Statement | None = None
    """The one that it struck."""
    _seen: Counter[int] = field(default_factory=Counter)

    def strikes(self, statement: Statement) -> bool:
        if self.fired.is_set() or not self._matches(statement):
            return False
        counted = statement.connection if self.is_per_connection else 0
        self._seen[counted] += 1
        if self._seen[counted] < self.nth:
            return False
        self.statement = statement
        self.fired.set()
        return True

    def _matches(self, statement: Statement) -> bool:
        if isinstance(self.pattern, re.Pattern):
            return self.pattern.search(statement.shape) is not None
        return self.pattern == statement.shape


class PostgresProxy(Proxy):
    """Stands before a PostgreSQL server; ``host`` is what a client connects to."""

    def __init__(self, upstream: Address) -> None:
        super().__init__(upstream, name=".s.PGSQL.5432")
        self.statements: list[Statement] = []
        """What clients had executed, while it is recorded."""
        self.is_recording = False
        self._faults: list[Fault] = []

    @classmethod
    def of(cls, settings: dict[str, Any]) -> PostgresProxy:
        """Before the server of Django's ``connection.settings_dict``."""
        host, port = settings["HOST"] or "/var/run/postgresql", int(settings["PORT"] or 5432)
        return cls(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port))

    @property
    def host(self) -> str:
        return str(self.directory)

    def arm(self, *faults: Fault) -> None:
        """Let these faults happen, and no others."""
        self._faults = list(faults)

    def disarm(self) -> None:
        self._faults = []

    @contextlib.contextmanager
    def recorded(self) -> Iterator[list[Statement]]:
        """The statements that clients have executed meanwhile, in the order in which they came."""
        self.statements = []
        self.is_recording = True
        try:
            yield self.statements
        finally:
            self.is_recording = False

    def _link(self, client: _Peer, server: _Peer) -> _Link:
        return _PostgresLink(self, self.accepted, client, server, self._flows)

    def note(self, statement: Statement) -> When | None:
        """A client is about to have ``statement`` executed; how its connection is to break, if it is."""
        if self.is_recording:
            self.statements.append(statement)
        return next((fault.when for fault in self._faults if fault.strikes(statement)), None)


_STARTUP, _SSL, _GSS, _CANCEL = 3 << 16, 80877103, 80877104, 80877102
_QUERY, _PARSE, _BIND, _EXECUTE, _SYNC, _FUNCTION = (bytes([one]) for one in b"QPBESF")
_COMPLETE = b"CIs"
"""CommandComplete, EmptyQueryResponse and PortalSuspended: an Execute has its answer."""
_ERROR, _READY = ord("E"), ord("Z")
SYNC_SECONDS = 0.2
"""An Execute without a Sync behind it ends no transaction: so long after it is done its connection is broken."""


class _Broken(Exception):
    """The connection was to break here."""


@dataclass
class _Awaited:
    """Something that the server will answer; ``is_last`` if the connection breaks when it has."""

    kind: bytes
    is_last: bool = False


class _PostgresLink(_Link):
    """Reads both directions message by message."""

    def __init__(self, proxy: PostgresProxy, number: int, client: _Peer, server: _Peer, flows: asyncio.Event) -> None:
        super().__init__(client, server, flows)
        self.proxy = proxy
        self.number = number
        self._prepared: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}
        self._awaited: deque[_Awaited] = deque()
        self._is_mute = False
        """Nothing goes to the client any more: the connection breaks as soon as the server has done its work."""
        self._transaction: str | None = None
        """The shape of the first statement of the open transaction; ``None`` outside one."""

    async def _upward(self) -> None:
        with contextlib.suppress(_Broken, asyncio.IncompleteReadError, ConnectionError):
            await self._start_up()
            while True:
                head = await self.client.reader.readexactly(5)
                rest = await self.client.reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
                await self.flows.wait()
                self._read_request(head[:1], rest)
                await self.server.send(head + rest)

    async def _start_up(self) -> None:
        while True:
            head = await self.client.reader.readexactly(8)
            length, code = struct.unpack("!II", head)
            rest = await self.client.reader.readexactly(length - 8)
            if code in (_SSL, _GSS):
                await self.client.send(b"N")
                continue
            await self.flows.wait()
            await self.server.send(head + rest)
            if code == _STARTUP:
                return
            if code == _CANCEL:
                raise _Broken

    def _read_request(self, kind: bytes, rest: bytes) -> None:
        """Keep track of what is prepared, executed and awaited; break the connection where it is to break."""
        if kind == _PARSE:
            name, text, _ = rest.split(b"\0", 2)
            self._prepared[name] = text.decode(errors="replace")
        elif kind == _BIND:
            portal, name, _ = rest.split(b"\0", 2)
            self._portals[portal] = self._prepared.get(name, "")
        elif kind == _EXECUTE:
            portal, _ = rest.split(b"\0", 1)
            self._execute(kind, self._portals.get(portal, ""))
        elif kind == _QUERY:
            self._execute(kind, rest.rstrip(b"\0").decode(errors="replace"))
        elif kind in (_SYNC, _FUNCTION):
            self._awaited.append(_Awaited(kind))

    def _execute(self, kind: bytes, text: str) -> None:
        when = self.proxy.note(self._statement(text))
        if when == "before":
            self.break_off()
            raise _Broken
        self._is_mute = self._is_mute or when == "after"
        self._awaited.append(_Awaited(kind, is_last=when == "after"))

    def _statement(self, text: str) -> Statement:
        shape = shape_of(text)
        verb = shape.partition(" ")[0].upper()
        if verb in ("BEGIN", "START"):
            self._transaction = ""
        elif verb in ("COMMIT", "END", "ROLLBACK") and " TO " not in shape:
            shape = f"{verb} of: {self._transaction}" if self._transaction else verb
            self._transaction = None
        elif self._transaction == "" and verb not in ("SAVEPOINT", "SET"):
            self._transaction = shape
        return Statement(self.number, text, shape)

    async def _downward(self) -> None:
        with contextlib.suppress(_Broken, ConnectionError):
            unread = b""
            while chunk := await self.server.reader.read(CHUNK):
                await self.flows.wait()
                # What came before the statement at which it breaks is told; of what comes after, nothing.
                is_mute = self._is_mute
                unread = self._read_answers(unread + chunk)
                if not is_mute:
                    await self.client.send(chunk)

    def _read_answers(self, data: bytes) -> bytes:
        """Take the answers in ``data`` off what is awaited; what is left of it is the beginning of one."""
        at = 0
        while len(data) - at >= 5:
            end = at + 1 + struct.unpack_from("!I", data, at + 1)[0]
            if end > len(data):
                break
            self._answered(data[at])
            at = end
        return data[at:]

    def _answered(self, kind: int) -> None:
        if not self._awaited:
            return
        if kind in _COMPLETE and self._awaited[0].kind == _EXECUTE:
            self._done(self._awaited.popleft())
        elif kind == _ERROR:
            # The server skips the rest up to the next Sync.
            while self._awaited and self._awaited[0].kind == _EXECUTE:
                self._done(self._awaited.popleft())
        elif kind == _READY:
            # What came behind an error and before its Sync has no answer of its own.
            while (done := self._awaited.popleft()).kind == _EXECUTE:
                self._done(done)
            if done.is_last:
                self.break_off()
                raise _Broken

    def _done(self, executed: _Awaited) -> None:
        if not executed.is_last:
            return
        # The Sync that ends the transaction comes with it, unless there is a pipeline that goes on.
        following = next((one for one in self._awaited if one.kind == _SYNC), None)
        if following is not None:
            following.is_last = True
        else:
            asyncio.get_running_loop().call_later(SYNC_SECONDS, self.break_off)


_LITERALS: tuple[tuple[str, str], ...] = (
    (r"\s+", " "),
    (r"(?:\bE)?'(?:[^']|'')*'", "?"),
    (r'"s\d+_x\d+"', "s"),
    (r'"_django_curs_\w+"', "cursor"),
    (r"\$\d+", "?"),
    (r"(?<![\w\"])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?\b", "?"),
    (r"\b(?:NULL|true|false)\b(?=[,)])", "?"),
    (r"\?(?:::[\w\[\]]+)", "?"),
    (r"\?(?:, ?\?)+", "?"),
    (r"\(\?\)(?:, ?\(\?\))+", "(?)"),
)


def shape_of(text: str) -> str:
    """A statement without its values, the same for one row and for many."""
    for pattern, without in _LITERALS:
        text = re.sub(pattern, without, text)
    return text.strip()


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
