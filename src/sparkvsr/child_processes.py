"""Start one of our own modules as a process with connections to it, on Linux, macOS and Windows.

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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

TOKEN_VARIABLE = "SPARKVSR_CONNECTION_TOKEN"
START_SECONDS = 120.0
"""For the process to call back; a virus scanner may look through torch first."""

_TOKEN_BYTES = 64


def start_module(
    module: str, environment: Mapping[str, str], connections: int = 1
) -> tuple[subprocess.Popen[bytes], list[Connection]]:
    """Run ``python -m module ADDRESS...``; the module gets its ends with ``connect(sys.argv[1:])``, in the same order.

    Args:
        module: of this package.
        environment: of the process.
        connections: how many.

    Raises:
        OSError: the process cannot be started or does not connect.
    """
    return (_over_loopback if os.name == "nt" else _inherited)(module, environment, connections)


def connect(addresses: Sequence[str]) -> list[Connection]:
    """The started module's ends, from the arguments it was given."""
    token = os.environ.pop(TOKEN_VARIABLE, "").encode("ascii")
    return [Connection(int(one)) if one.isdecimal() else _call_back(one, token) for one in addresses]


def is_running(process: int) -> bool:
    """Whether the process that started this one lives; its number is asked for at the start (``os.getppid``)."""
    if os.name != "nt":  # an orphan gets another parent
        return os.getppid() == process
    import psutil

    return psutil.pid_exists(process)


def _inherited(
    module: str, environment: Mapping[str, str], connections: int
) -> tuple[subprocess.Popen[bytes], list[Connection]]:
    pairs = [socket.socketpair() for _ in range(connections)]
    theirs = [pair[1].fileno() for pair in pairs]
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, theirs)],
            pass_fds=theirs,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment,
        )
    finally:
        for _, their in pairs:
            their.close()
    return process, [Connection(ours.detach()) for ours, _ in pairs]


def _over_loopback(
    module: str, environment: Mapping[str, str], connections: int
) -> tuple[subprocess.Popen[bytes], list[Connection]]:
    token = secrets.token_hex(_TOKEN_BYTES // 2)
    lines: list[Connection] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", module, *[address] * connections],
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
                    lines.append(Connection(line.detach()))
                else:
                    line.close()
            if len(lines) == connections:
                return process, lines
    process.kill()
    msg = f"the process of {module} did not connect (exit code {process.wait()})"
    raise ConnectionError(msg)


def _call_back(address: str, token: bytes) -> Connection:
    port = int(address.rpartition(":")[2])
    line = socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS)
    line.sendall(token)
    line.settimeout(None)
    return Connection(line.detach())


def _shows(line: socket.socket, token: str) -> bool:
    """Whether who connected sends the token as its first bytes."""
    line.settimeout(5)
    said = b""
    with suppress(OSError):
        while len(said) < _TOKEN_BYTES and (piece := line.recv(_TOKEN_BYTES - len(said))):
            said += piece
    line.settimeout(None)
    return hmac.compare_digest(said, token.encode("ascii"))
