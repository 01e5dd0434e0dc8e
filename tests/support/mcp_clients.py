"""Real clients of the SDK, over stdio and over HTTP, driven from a test that is not async."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from backend.embedded import die_with_parent
from tests.support.workers import REPOSITORY, eventually


class Assistant:
    """A connected client."""

    def __init__(self, client: Client, portal: BlockingPortal) -> None:
        self.client, self.portal = client, portal

    def tools(self) -> dict[str, Any]:
        return {tool.name: tool for tool in self.portal.call(self.client.list_tools).tools}

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """The answer, which the SDK has compared with the tool's schema."""
        result = self.portal.call(self.client.call_tool, name, arguments)
        assert not result.is_error, result.structured_content
        answer: dict[str, Any] = result.structured_content
        return answer

    def refusal(self, name: str, **arguments: Any) -> dict[str, Any]:
        """The refusal, which an assistant can read in the text, too."""
        result = self.portal.call(self.client.call_tool, name, arguments)
        assert result.is_error, result.structured_content
        found: dict[str, Any] = result.structured_content
        assert result.content[0].text == f"{found['message']} ({found['code']})"
        return found


@contextmanager
def over_stdio(env: dict[str, str], root: Path, *options: str, mode: str = "auto") -> Iterator[Assistant]:
    """A client of a ``manage.py mcp`` that it has started."""
    wanted = ("DATABASE_URL", "REDIS_URL", "REDIS_PREFIX", "DATA_DIR", "SLACKWATER_APPS", "SLACKWATER_MCP_TOKEN")
    known = {name: env[name] for name in wanted if name in env}
    server = StdioServerParameters(
        command=sys.executable,
        args=[str(REPOSITORY / "manage.py"), "mcp", *options],
        env={**known, "DJANGO_SETTINGS_MODULE": "backend.settings.test"},
        cwd=root,
    )
    with (root / "mcp.log").open("a") as log, start_blocking_portal() as portal:
        transport = stdio_client(server, errlog=log)
        with portal.wrap_async_context_manager(Client(transport, mode=mode)) as client:
            yield Assistant(client, portal)


@contextmanager
def over_http(url: str, token: str, mode: str = "auto") -> Iterator[Assistant]:
    """A client of a web server."""
    http = create_mcp_http_client(headers={"Authorization": f"Bearer {token}"})
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(http):
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        with portal.wrap_async_context_manager(Client(transport, mode=mode)) as client:
            yield Assistant(client, portal)


@contextmanager
def web_server(env: dict[str, str], root: Path) -> Iterator[str]:
    """The URL of a uvicorn that is started as ``manage.py up`` does it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = ["uvicorn", "backend.asgi:application", "--app-dir", str(REPOSITORY), "--lifespan", "off"]
    with (root / "web.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", str(port), "--log-level", "warning"],
            cwd=root,
            env={**os.environ, **env},
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent(9),
        )

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5):
                return True
        except urllib.error.URLError:
            return False

    try:
        assert eventually(answers, 60), (root / "web.log").read_text()
        yield url
    finally:
        server.terminate()
        server.wait(30)
