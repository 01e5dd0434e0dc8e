"""Nobody waits for ever for a server that hangs, and nobody keeps a cursor open that a pooler would lose."""

from __future__ import annotations

import ast

from tests.architecture.test_threads import sources

FACTORY = "pause_manager/messaging/redis_clients.py"
OWN_TIME_OUTS = {
    "backend/embedded/redis_server.py": "asks its own server whether it is up, for two seconds at most",
    "pause_manager/pausable/chord_results.py": "asks the project's result backend, with time-outs of ours",
}
SERVER_SIDE = {
    "pause_manager/management/commands/pause_queue.py": "reads inside one transaction",
}


def calls(attribute: str) -> set[str]:
    """The files of ours that call a method of that name."""
    return {
        path
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == attribute
    }


def test_every_redis_client_is_made_in_one_place_which_bounds_its_sockets():
    assert calls("from_url") == {FACTORY}
    assert calls("Redis") == set(OWN_TIME_OUTS)


def test_no_query_is_read_through_a_cursor_that_outlives_its_transaction():
    assert calls("iterator") - set(SERVER_SIDE) == set()
