"""The whole system behind PgBouncer in transaction mode: a run that is paused and loses a worker is complete."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from backend.embedded import Layout
from backend.embedded.layout import DATABASE, SUPERUSER
from tests.chaos.fleet import Fleet, eventually, fleet_in
from tests.chaos.runs import Run
from tests.support.pgbouncer import PORT, pgbouncer

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.slow,
    pytest.mark.xdist_group("chaos"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="needs pgbouncer"),
]


@pytest.fixture
def pooled() -> Iterator[Fleet]:
    """A fleet all of whose members reach the database by the pooler: of five connections, for all of them."""
    root = Path(tempfile.mkdtemp(prefix="sw-pool-"))
    try:
        sockets = root / "b"
        sockets.mkdir()
        layout = Layout(root / "data")
        layout.create()
        host = str(layout.socket_dir)
        with pgbouncer(sockets, name=DATABASE, host=host, port=5432, user=SUPERUSER, connections=5) as at:
            url = f"postgresql://{SUPERUSER}@{quote(str(at), safe='')}:{PORT}/{DATABASE}"
            with fleet_in(root, {"DATABASE_URL": url}) as fleet:
                yield fleet
    finally:
        shutil.rmtree(root, ignore_errors=True)


def test_a_run_that_is_paused_and_loses_a_worker_is_complete(pooled: Fleet):
    run = Run(pooled, items=24, seconds=0.15)
    run.wait_until_at("toil", after=2)

    run.ask("pause")
    assert eventually(lambda: run.status == "paused", 20)
    before = len(run.ledger.starts())
    assert run.leases() == 0
    assert len(run.ledger.starts()) == before
    run.ask("resume")
    run.kill_mid_item()
    run.wait_until_at("toil", after=8)
    pooled.kill("stages")
    pooled.start("stages")

    run.check_complete()
    said = "".join(pooled.said(name) for name in ("stages", "control"))
    for trouble in ("prepared statement", "InvalidSqlStatementName", "DuplicatePreparedStatement"):
        assert trouble not in said
