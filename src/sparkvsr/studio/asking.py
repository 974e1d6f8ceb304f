"""Questions of the server to the render process, each with its answer: a value, bytes, or a refusal.

Asked again by itself when the process died meanwhile: whatever is asked may be done twice.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from sparkvsr import errors
from sparkvsr.errors import ConfigError, SparkVSRError

ANSWER_SECONDS = 120.0
"""A large picture on a busy machine, or the process starting anew."""

ANSWERING_THREADS = 4

_log = logging.getLogger(__name__)


class Asker:
    """The server's end; ``ask`` may be called from any thread."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._open: dict[int, tuple[bytes, Future[Any]]] = {}
        self._number = 0
        self._lock = threading.Lock()
        self._over: str | None = "the render process has not been started"

    def attach(self, connection: Connection) -> None:
        """Talk to a process, and ask it what the one before did not answer."""
        with self._lock:
            self._connection, self._over = connection, None
            for data, _ in self._open.values():
                self._send(data)
        threading.Thread(target=self._listen, args=(connection,), name="sparkvsr-answers", daemon=True).start()

    def end(self, why: str) -> None:
        """Nobody answers any more."""
        with self._lock:
            self._over = why
            waiting, self._open = self._open, {}
        for _, future in waiting.values():
            future.set_exception(ConfigError(why))

    def ask(self, name: str, /, **values: Any) -> Any:
        """See ``Pictures.ask``.

        Raises:
            SparkVSRError: what the process says, or that there is none.
        """
        future: Future[Any] = Future()
        with self._lock:
            if self._over is not None:
                raise ConfigError(self._over)
            self._number += 1
            number = self._number
            data = json.dumps({"id": number, "name": name, "values": values}).encode()
            self._open[number] = (data, future)
            self._send(data)
        try:
            return future.result(ANSWER_SECONDS)
        except TimeoutError as exc:
            msg = f"no answer within {ANSWER_SECONDS:.0f} seconds: the machine is too busy; try again"
            raise ConfigError(msg) from exc
        finally:
            with self._lock:
                self._open.pop(number, None)

    def _send(self, data: bytes) -> None:
        with suppress(OSError):  # it has just died; asked again when the next one is there
            if self._connection is not None:
                self._connection.send_bytes(data)

    def _listen(self, connection: Connection) -> None:
        with suppress(EOFError, OSError):
            while True:
                head, _, body = connection.recv_bytes().partition(b"\n")
                answer = json.loads(head)
                with self._lock:
                    _, future = self._open.get(answer["id"], (b"", None))
                if future is None:
                    continue
                if "error" in answer:
                    future.set_exception(_error(answer))
                else:
                    future.set_result(body if answer["bytes"] else answer["value"])


def _error(answer: dict[str, Any]) -> Exception:
    kind = getattr(errors, str(answer["kind"]), None)
    if isinstance(kind, type) and issubclass(kind, SparkVSRError):
        return kind(answer["error"])
    return RuntimeError(answer["error"])


def answer_questions(connection: Connection, ask: Callable[..., Any]) -> None:
    """The render process's end: answer until the other end is gone.

    Raises:
        EOFError, OSError: it is.
    """
    sending = threading.Lock()

    def answer(question: dict[str, Any]) -> None:
        head: dict[str, Any] = {"id": question["id"]}
        body = b""
        try:
            value = ask(question["name"], **question["values"])
            if isinstance(value, bytes):
                head, body = {**head, "bytes": True}, value
            else:
                head |= {"bytes": False, "value": value}
        except SparkVSRError as exc:
            head |= {"error": str(exc), "kind": type(exc).__name__}
        except Exception as exc:  # noqa: BLE001  (told to whoever asked)
            _log.exception("%s failed", question["name"])
            head |= {"error": f"{type(exc).__name__}: {exc}", "kind": ""}
        with sending, suppress(OSError):
            connection.send_bytes(json.dumps(head).encode() + b"\n" + body)

    with ThreadPoolExecutor(ANSWERING_THREADS, "sparkvsr-pictures") as pool:
        while True:
            pool.submit(answer, json.loads(connection.recv_bytes()))
