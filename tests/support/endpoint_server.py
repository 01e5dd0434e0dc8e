"""A real HTTP server on a free port that answers like an OpenAI-compatible endpoint, as the test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """``body`` is JSON, or text to send as it is; ``delay`` in seconds comes before it."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


Script = Callable[[Asked], Answer]


@dataclass
class EndpointServer:
    url: str
    script: Script
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def endpoint_server(script: Script) -> Iterator[EndpointServer]:
    served = EndpointServer("", script)
    is_over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            asked = Asked(self.path, dict(self.headers), json.loads(content))
            served.asked.append(asked)
            answer = served.script(asked)
            is_over.wait(answer.delay)
            sent = (answer.body if isinstance(answer.body, str) else json.dumps(answer.body)).encode()
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(sent))}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(sent)
            except OSError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield served
    finally:
        is_over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def chat(text: str) -> Answer:
    return Answer({"choices": [{"message": {"role": "assistant", "content": text}}]})


def completion(text: str) -> Answer:
    return Answer({"choices": [{"text": text}]})
