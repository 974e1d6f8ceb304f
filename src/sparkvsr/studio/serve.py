"""Binding the port and running the server."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio.to_thread
import uvicorn

from sparkvsr.errors import ConfigError
from sparkvsr.studio.security import Guard, allowed_hosts, lasting_secret
from sparkvsr.studio.studio import Studio
from sparkvsr.studio.web import Web

DEFAULT_PORT = 8765
PORTS_TRIED = 20
THREADS = 6
EVERY_ADDRESS = ("0.0.0.0", "::")


def bind(host: str, port: int | None) -> socket.socket:
    """A listening socket: on the wanted port, or on the first free one from the default on.

    Raises:
        ConfigError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    wanted = [port] if port is not None else [*range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED), 0]
    error: OSError | None = None
    for one in wanted:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, one))
            listener.listen(128)
        except OSError as exc:
            listener.close()
            error = exc
            continue
        return listener
    msg = f"--port {port} on {host} cannot be used ({error.strerror if error else ''}); give another, or leave it out"
    raise ConfigError(msg)


def names_of(host: str) -> list[str]:
    """What a server that listens on an address is called, the name to be told first.

    Args:
        host: as given; ``0.0.0.0`` and ``::`` stand for every address of this machine.
    """
    own = ["127.0.0.1", "localhost", "::1"]
    if host in own:
        return [host, *(name for name in own if name != host)]
    if host not in EVERY_ADDRESS:
        return [host, "127.0.0.1"]
    machine = socket.gethostname()
    found = [_outward_address()]
    with suppress(OSError):
        found += [str(entry[4][0]) for entry in socket.getaddrinfo(machine, None)]
    return list(dict.fromkeys([*(name for name in found if name), machine, *own]))


def _outward_address() -> str:
    """The address by which other machines most likely know this one; empty without a network."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # chooses a route, sends nothing
        return str(probe.getsockname()[0])
    return ""


def serve(
    studio: Studio, listener: socket.socket, host: str, secrets_folder: Path, told: Callable[[str], None]
) -> None:
    """Serve until Ctrl-C.

    Args:
        host: that was bound; its names are the ones that are answered to.
        secrets_folder: of the user's own, for the cookie.
        told: gets the address with the token, once it works.
    """
    port = listener.getsockname()[1]
    token = secrets.token_urlsafe(24)
    names = names_of(host)
    cookie = f"sparkvsr-studio-{port}"
    app = Guard(Web(studio).app(), allowed_hosts(names, port), token, lasting_secret(secrets_folder), cookie)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", server_header=False, timeout_graceful_shutdown=2
    )
    server = _Server(config, studio)
    shown = f"[{names[0]}]" if ":" in names[0] else names[0]
    address = f"http://{shown}:{port}/?token={token}"
    threading.Thread(target=lambda: server.told(lambda: told(address)), daemon=True).start()
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # the way to stop it; uvicorn has ended in peace and passes it on
    finally:
        studio.close()


class _Server(uvicorn.Server):
    """Ends the event streams before it waits for them."""

    def __init__(self, config: uvicorn.Config, studio: Studio) -> None:
        super().__init__(config)
        self._studio = studio
        self._begun = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        # Every thread keeps memory of its own; a browser asks for at most six things at a time.
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        self._begun.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._studio.end_streams()
        await super().shutdown(sockets)

    def told(self, tell: Callable[[], None]) -> None:
        """Call when the server answers."""
        if self._begun.wait(60):
            tell()
