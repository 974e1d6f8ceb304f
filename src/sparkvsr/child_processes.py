"""Start one of our own modules as a process with a connection to it, on Linux, macOS and Windows.

Where a process can inherit an open socket, it does: nobody else can reach that. Windows cannot hand one on in this way;
there the process connects to a port of this machine that is open until it has done so, and shows a token from its
environment, which other users cannot read.
"""

from __future__ import annotations

import hmac
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection

TOKEN_VARIABLE = "SPARKVSR_CONNECTION_TOKEN"
START_SECONDS = 120.0
"""For the process to call back; a virus scanner may look through torch first."""

_TOKEN_BYTES = 64


def start_module(module: str, environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], Connection]:
    """Run ``python -m module ADDRESS``; the module gets its end with ``connect(ADDRESS)``.

    Args:
        module: of this package.
        environment: of the process.

    Raises:
        OSError: the process cannot be started or does not connect.
    """
    return _over_loopback(module, environment) if os.name == "nt" else _inherited(module, environment)


def connect(address: str) -> Connection:
    """The started module's end, from the argument it was given."""
    if address.isdigit():
        return Connection(int(address))
    port = int(address.rpartition(":")[2])
    line = socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS)
    line.sendall(os.environ.pop(TOKEN_VARIABLE).encode("ascii"))
    line.settimeout(None)
    return Connection(line.detach())


def is_running(process: int) -> bool:
    """Whether the process that started this one lives; its number is asked for at the start (``os.getppid``)."""
    if os.name != "nt":  # an orphan gets another parent
        return os.getppid() == process
    import psutil

    return psutil.pid_exists(process)


def _inherited(module: str, environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment,
        )
    return process, Connection(ours.detach())


def _over_loopback(module: str, environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], Connection]:
    token = secrets.token_hex(_TOKEN_BYTES // 2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1)
        process = subprocess.Popen(
            [sys.executable, "-m", module, f"127.0.0.1:{server.getsockname()[1]}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**environment, TOKEN_VARIABLE: token},
            # Ctrl-C goes to this process alone, which decides what becomes of the other.
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(TimeoutError):
                line, _ = server.accept()
                if _shows(line, token):
                    return process, Connection(line.detach())
                line.close()
    process.kill()
    msg = f"the process of {module} did not connect (exit code {process.wait()})"
    raise ConnectionError(msg)


def _shows(line: socket.socket, token: str) -> bool:
    """Whether who connected sends the token as its first bytes."""
    line.settimeout(5)
    said = b""
    with suppress(OSError):
        while len(said) < _TOKEN_BYTES and (piece := line.recv(_TOKEN_BYTES - len(said))):
            said += piece
    line.settimeout(None)
    return hmac.compare_digest(said, token.encode("ascii"))
