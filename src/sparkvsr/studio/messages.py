"""JSON objects between the server and the render process."""

from __future__ import annotations

import json
import threading
from multiprocessing.connection import Connection
from typing import Any

Message = dict[str, Any]


class Pipe:
    """One end of a socket; sending may be done from any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, message: Message) -> None:
        """Send one object.

        Raises:
            OSError: the other end is gone.
        """
        data = json.dumps(message).encode()
        with self._sending:
            self._connection.send_bytes(data)

    def receive(self) -> Message:
        """Wait for one object.

        Raises:
            EOFError, OSError: the other end is gone.
        """
        message: Message = json.loads(self._connection.recv_bytes())
        return message

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
