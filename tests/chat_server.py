"""An OpenAI-compatible endpoint on loopback that answers by a function, and fails on demand."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatServer(ThreadingHTTPServer):
    """`reply` makes an answer of the last message; one that ends in "..." was cut. `asked` are the bodies of requests.

    Where `counts`, it says how many words prompt and answer have, as their tokens.
    """

    daemon_threads = True

    def __init__(self, reply: Callable[[str], str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.busy = 0  # how many requests are told to come again
        self.counts = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.keys.append(self.headers["Authorization"])
        status, reply = self.server.refusal or (200, self._reply(body))
        if self.server.busy:
            self.server.busy -= 1
            status, reply = 503, {"error": {"message": "busy"}}
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(data)

    def _reply(self, body: dict[str, Any]) -> dict[str, Any]:
        said = self.server.reply(body["messages"][-1]["content"])
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "finish_reason": "length" if said.endswith("...") else "stop", "message": message}
        reply = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}
        if self.server.counts:
            words = sum(len(message["content"].split()) for message in body["messages"]), len(said.split())
            reply["usage"] = {"prompt_tokens": words[0], "completion_tokens": words[1], "total_tokens": sum(words)}
        return reply

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def chat_server(reply: Callable[[str], str]) -> Iterator[ChatServer]:
    with ChatServer(reply) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
