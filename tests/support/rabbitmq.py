"""A RabbitMQ server of a test's own, where one is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Not the wrapper in the PATH, which has one fixed place for everything."""


def is_installed() -> bool:
    return SERVER.exists() and shutil.which("erl") is not None


class RabbitMQ:
    """Listens on a port of this machine alone; all that it writes is under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = _unused_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self._env = os.environ | {
            "HOME": str(root),
            "RABBITMQ_NODENAME": f"slackwater-{uuid4().hex[:8]}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(_unused_port()),
            "ERL_EPMD_PORT": str(_unused_port()),
            "RABBITMQ_MNESIA_BASE": str(root / "mnesia"),
            "RABBITMQ_LOG_BASE": str(root / "log"),
            "RABBITMQ_PID_FILE": str(root / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(root / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [SERVER], env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            alive = time.monotonic() < deadline and self._process.poll() is None
            assert alive, (self.root / "server.log").read_text()
            time.sleep(0.2)

    def shut_down(self) -> None:
        """Have the server write down what it has and end, as for a restart."""
        for process in self._processes():
            if process.name().startswith("beam"):
                process.terminate()
        if self._process is not None:
            self._process.wait(30)

    def close_connections(self) -> None:
        """Break every connection that it has, and go on."""
        command = [str(SERVER.with_name("rabbitmqctl")), "close_all_connections", "by the test"]
        subprocess.run(command, env=self._env, check=True, capture_output=True, timeout=60)

    def stop(self) -> None:
        """End all that the server has started, daemons of Erlang's included."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self._process is not None:
            self._process.wait(10)

    def _processes(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("RABBITMQ_NODENAME") == self._env["RABBITMQ_NODENAME"]:
                    yield process

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(probe.recv(8))
        except OSError:
            return False


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
