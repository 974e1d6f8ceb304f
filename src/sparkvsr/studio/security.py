"""Who may talk to the studio: this machine's browser, with the token of the printed address, from its own page.

A page on the internet can make the browser send requests to 127.0.0.1. So the name that the browser believes to talk to
is checked (DNS rebinding), whoever asks needs a cookie that only the printed address gives, and whatever changes
something has to come from the studio's own page.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
import sys
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger(__name__)

POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
SAFE_METHODS = ("GET", "HEAD")
COOKIE_SECONDS = 30 * 24 * 3600


def allowed_hosts(names: Iterable[str], port: int) -> frozenset[str]:
    """Values of the Host header that are this server: the names with the port; an IPv6 address gets its brackets."""
    hosts = set()
    for name in names:
        shown = f"[{name}]" if ":" in name and not name.startswith("[") else name
        hosts.add(f"{shown}:{port}".lower())
        if port == 80:
            hosts.add(shown.lower())
    return frozenset(hosts)


def lasting_secret(folder: Path) -> str:
    """The value of the cookie, kept for this user so that an open page goes on after the server was started again.

    Args:
        folder: of this user's own; a new secret is made where it cannot be kept.
    """
    path = folder / "studio-secret"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_file() and not path.is_symlink():
            status = path.stat()
            kept = path.read_text(encoding="ascii").strip()
            if len(kept) >= 40 and _is_private(status):
                return kept
        path.unlink(missing_ok=True)
        made = secrets.token_urlsafe(32)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(made + "\n")
    except (OSError, UnicodeDecodeError):
        _log.info("no place for the studio's secret in %s; open pages end with the server", folder)
        return secrets.token_urlsafe(32)
    return made


def _is_private(status: os.stat_result) -> bool:
    """Whether a file is this user's own and closed to all others; Windows says that in the folder's access list."""
    if sys.platform == "win32":
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)


class Guard:
    """Lets only the studio's own page through; everything else gets one line and a status.

    Args:
        app: what is guarded.
        hosts: allowed Host headers, see ``allowed_hosts``.
        token: of the printed address, exchanged for the cookie.
        secret: value of the cookie.
        cookie: its name (browsers do not tell ports apart).
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str, secret: str, cookie: str) -> None:
        self._app = app
        self._hosts = hosts
        self._token = token
        self._secret = secret
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        hosts = [value.decode("latin-1").lower() for value in headers.get(b"host", [])]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            await _answer(send, 400, "this is not the address that sparkvsr studio printed; open that one")
            return
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if given and scope["method"] == "GET":
            await self._exchange(scope, given[0], send)
            return
        if not secrets.compare_digest(self._cookie_value(headers), self._secret):
            await _answer(send, 403, "open the address that sparkvsr studio printed in the terminal, with its token")
            return
        if scope["method"] not in SAFE_METHODS and not _is_own_page(headers, hosts[0]):
            await _answer(send, 403, "only the studio's own page may change something")
            return
        await self._app(scope, receive, _with_headers(send))

    async def _exchange(self, scope: Scope, given: str, send: Send) -> None:
        if not secrets.compare_digest(given.encode(), self._token.encode()):
            await _answer(send, 403, "this token is of an earlier start; open the address in the terminal")
            return
        cookie = f"{self._cookie}={self._secret}; HttpOnly; SameSite=Strict; Path=/; Max-Age={COOKIE_SECONDS}"
        # Only to a path of our own: "//elsewhere" would be another host.
        target = "/" + scope["path"].lstrip("/")
        await _answer(send, 303, "", ((b"location", target.encode()), (b"set-cookie", cookie.encode())))

    def _cookie_value(self, headers: dict[bytes, list[bytes]]) -> str:
        for line in headers.get(b"cookie", []):
            jar: SimpleCookie = SimpleCookie()
            try:
                jar.load(line.decode("latin-1"))
            except CookieError:
                continue
            if self._cookie in jar:
                value = jar[self._cookie].value
                return value if value.isascii() else ""
        return ""


def _is_own_page(headers: dict[bytes, list[bytes]], host: str) -> bool:
    origins = headers.get(b"origin", [])
    if origins:
        return len(origins) == 1 and origins[0].decode("latin-1").lower() == f"http://{host}"
    return headers.get(b"sec-fetch-site", []) == [b"same-origin"]


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
        await send(message)

    return wrapped


async def _answer(send: Send, status: int, text: str, more: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    headers += [(b"cache-control", b"no-store"), *HEADERS, *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
