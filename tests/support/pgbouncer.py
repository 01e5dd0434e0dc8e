"""A real PgBouncer in transaction mode before a server that is reached by a socket."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.workers import eventually

PORT = 6543
SETTINGS = """
[databases]
{name} = host={host} port={port} user={user}
[pgbouncer]
listen_addr =
unix_socket_dir = {root}
unix_socket_mode = 0777
listen_port = 6543
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
logfile = {root}/log
"""


@contextmanager
def pgbouncer(root: Path, *, name: str, host: str, port: int | str, user: str, connections: int = 3) -> Iterator[Path]:
    """The directory of its socket, ``root``, for as long as the block lasts. The server may start later."""
    settings = SETTINGS.format(root=root, name=name, host=host, port=port, user=user, connections=connections)
    (root / "ini").write_text(settings)
    command = ["pgbouncer", str(root / "ini")]
    if os.geteuid() == 0:
        command[1:1] = ["-u", "nobody"]
        root.chmod(0o777)
        for path in (*list(root.parents)[:2], Path(host), *list(Path(host).parents)[:2]):
            if path.exists() and path != Path("/"):
                path.chmod(path.stat().st_mode | 0o011)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert eventually((root / f".s.PGSQL.{PORT}").exists, 10), (root / "log").read_text()
        yield root
    finally:
        process.kill()
        process.wait()
