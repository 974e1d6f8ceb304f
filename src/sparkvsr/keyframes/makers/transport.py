"""HTTP with the standard library: one request, retried where that helps, and no secret in any message.

Redirects are refused: they would carry the key, or the picture, to a place that the user did not name. Where an answer
points to its picture, that has to lie on the same host or behind https, and not on this machine or in its network
unless the endpoint itself does: an endpoint must not read from there through us.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import secrets
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import IO, Any
from urllib.parse import urlsplit

from sparkvsr.errors import KeyframeError

MAX_ANSWER_BYTES = 256 * 2**20
MAX_ATTEMPTS = 5
MAX_PAUSE_SECONDS = 60.0
_RETRIED = (408, 429, 500, 502, 503, 504, 529)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """None turns the redirect into an ``HTTPError``."""


class _Line:
    """The connection of one attempt: cut when its time is up, and looked at before anything is sent."""

    def __init__(self, check_peer: Callable[[str], None] | None) -> None:
        self._check_peer = check_peer
        self._sock: socket.socket | None = None
        self.is_cut = False
        self.peer = ""

    def opener(self) -> urllib.request.OpenerDirector:
        """Opens URLs over connections that report to this object."""
        line = self

        class Http(HTTPConnection):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self._create_connection = line.connect

        class Https(HTTPSConnection):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self._create_connection = line.connect

            def connect(self) -> None:
                super().connect()
                line.hold(self.sock)

        class HttpHandler(urllib.request.HTTPHandler):
            def http_open(self, req: urllib.request.Request) -> HTTPResponse:
                return self.do_open(Http, req)

        class HttpsHandler(urllib.request.HTTPSHandler):
            def https_open(self, req: urllib.request.Request) -> HTTPResponse:
                return self.do_open(Https, req)

        return urllib.request.build_opener(_NoRedirects, HttpHandler, HttpsHandler)

    def connect(self, *args: Any, **kwargs: Any) -> socket.socket:
        """``socket.create_connection``, and a look at who answered before anything is said, TLS included."""
        sock = socket.create_connection(*args, **kwargs)
        try:
            self.peer = str(sock.getpeername()[0])
            if self._check_peer is not None:
                self._check_peer(self.peer)
        except BaseException:
            sock.close()
            raise
        self.hold(sock)
        return sock

    def hold(self, sock: socket.socket) -> None:
        """The socket to cut; TLS takes the place of the plain one."""
        self._sock = sock
        if self.is_cut:
            self.cut()

    def cut(self) -> None:
        """End whatever waits for this connection."""
        self.is_cut = True
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)


class Requester:
    """Sends requests for one maker.

    Args:
        name: who is asked, for messages.
        url: of the endpoint.
        key_variable: name of the environment variable, for messages.
        key: its value, taken out of whatever the other side writes.
        timeout_seconds: of one attempt, from the first byte sent to the last one received.
        backoff_seconds: first pause.
        closed: ends pauses.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        key_variable: str,
        key: str,
        timeout_seconds: float,
        backoff_seconds: float,
        closed: threading.Event,
    ) -> None:
        self._url = url
        self._name, self._key_variable, self._key = name, key_variable, key
        self._timeout, self._backoff, self._closed = timeout_seconds, backoff_seconds, closed
        self._is_local = False

    def send(self, url: str, body: bytes, headers: dict[str, str]) -> Any:
        """POST, and read the JSON that comes back.

        Raises:
            KeyframeError: refused, still failing after the last attempt, or not JSON.
        """
        data = self._attempts(urllib.request.Request(url, body, headers, method="POST"), own=True)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as exc:
            msg = f"{self._name} answered with something that is not JSON ({len(data)} bytes); check the URL"
            raise KeyframeError(msg) from exc

    def fetch(self, url: str) -> bytes:
        """GET a picture that an answer points to, without the key.

        Raises:
            KeyframeError: see ``send``; or it points to a place that an endpoint may not send us to.
        """
        if not is_address(url):
            msg = f"{self._name} points to a picture at an address that is none (bad characters, host or port)"
            raise KeyframeError(msg)
        there, here = urlsplit(url), urlsplit(self._url)
        if there.hostname != here.hostname and there.scheme != "https":
            msg = f"{self._name} points to a picture on another host without https, which is not fetched"
            raise KeyframeError(msg)
        own = there.hostname == here.hostname

        def check(address: str) -> None:
            if not own and not self._is_local and _is_inside(url, address):
                msg = f"{self._name} points to a picture inside this network, which is not fetched"
                raise KeyframeError(msg)

        return self._attempts(urllib.request.Request(url, method="GET"), own=own, check_peer=check)

    def _attempts(
        self, request: urllib.request.Request, *, own: bool, check_peer: Callable[[str], None] | None = None
    ) -> bytes:
        pause = self._backoff
        for attempt in range(1, MAX_ATTEMPTS + 1):
            line = _Line(check_peer)
            clock = threading.Timer(self._timeout, line.cut)
            clock.daemon = True
            started = time.monotonic()
            clock.start()
            try:
                with line.opener().open(request, timeout=self._timeout) as answer:
                    data: bytes = answer.read(MAX_ANSWER_BYTES + 1)
                    missing = answer.length or 0
                if own:
                    self._is_local = _is_inside(request.full_url, line.peer)
                if line.is_cut:
                    raise TimeoutError
                if missing and len(data) <= MAX_ANSWER_BYTES:
                    text = f"its answer was cut short by {missing} bytes"
                    raise ConnectionError(text)
                if len(data) > MAX_ANSWER_BYTES:
                    msg = f"{self._name} answered with more than {MAX_ANSWER_BYTES // 2**20} MB; that is no image"
                    raise KeyframeError(msg)
                return data
            except urllib.error.HTTPError as exc:
                problem, wanted_pause = self._explain(exc), _retry_after(exc)
                if exc.code not in _RETRIED:
                    raise KeyframeError(problem) from None
            except urllib.error.URLError as exc:
                if line.is_cut:
                    msg = f"{self._name} did not answer within {self._timeout:g} seconds; give it more with --timeout"
                    raise KeyframeError(msg) from None
                problem, wanted_pause = self._clean(f"{self._name} cannot be reached ({exc.reason})"), None
            except (OSError, HTTPException, ValueError) as exc:
                # The request had been sent: the work may have been done and charged, so it is not sent again.
                took = time.monotonic() - started
                if line.is_cut or isinstance(exc, TimeoutError):
                    text = f"did not answer within {self._timeout:g} seconds; give it more with --timeout"
                else:
                    text = f"broke off after {took:.1f} seconds ({str(exc) or type(exc).__name__}); see what it reports"
                msg = self._clean(f"{self._name} {text}")
                raise KeyframeError(msg) from None
            finally:
                clock.cancel()
            if attempt == MAX_ATTEMPTS:
                break
            if self._closed.wait(min(MAX_PAUSE_SECONDS, wanted_pause if wanted_pause is not None else pause)):
                msg = f"{self._name}: stopped while waiting to try again"
                raise KeyframeError(msg)
            pause *= 2
        msg = f"{problem}; gave up after {MAX_ATTEMPTS} attempts, try again later"
        raise KeyframeError(msg)

    def _explain(self, error: urllib.error.HTTPError) -> str:
        said = self._clean(_message_of(error))
        said = f": {said}" if said else ""
        if error.code in (401, 403):
            hint = f"put a valid key into ${self._key_variable}" if self._key else f"set ${self._key_variable}"
            return f"{self._name} refused the key (HTTP {error.code}){said}; {hint}"
        if error.code == 429:
            return f"{self._name} limits the rate (HTTP 429){said}"
        if 300 <= error.code < 400:
            return f"{self._name} redirects elsewhere (HTTP {error.code}), which is not followed; give the final URL"
        if error.code >= 500:
            return f"{self._name} failed (HTTP {error.code}){said}"
        return f"{self._name} refused the request (HTTP {error.code}){said}; check the URL, the model and the prompt"

    def _clean(self, text: str) -> str:
        """Without the key, control characters and length."""
        if self._key:
            text = text.replace(self._key, "***")
        return "".join(char if char.isprintable() else " " for char in text)[:300].strip()


def _is_inside(url: str, peer: str) -> bool:
    """Whether a URL leads to this machine or its network, by the address that answered.

    Behind a proxy that address is the proxy's: then only what the URL itself says is known.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_proxied = parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host)
    try:
        found = ipaddress.ip_address((host if is_proxied else peer).partition("%")[0])
    except ValueError:
        return not is_proxied or host == "localhost" or host.endswith(".localhost")
    mapped = getattr(found, "ipv4_mapped", None)
    return not (mapped or found).is_global


def is_address(text: str) -> bool:
    """Whether a request can be sent there: printable ASCII, a host whose name can be asked for, a port that exists."""
    if not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").encode("idna")
        _ = parts.port
    except ValueError:
        return False
    return bool(host) and "@" not in parts.netloc


def multipart(fields: dict[str, str], name: str, filename: str, kind: str, data: bytes) -> tuple[bytes, str]:
    """A form with one file: body and content type."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
        for field, value in fields.items()
    ]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    )
    body = b"".join(parts) + head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def _message_of(error: IO[bytes]) -> str:
    """What the other side says is wrong, as far as it can be found."""
    try:
        text = error.read(4096).decode(errors="replace")
    except (OSError, HTTPException):
        return ""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return "" if text.lstrip().startswith("<") else text
    for _ in range(3):
        if isinstance(content, dict):
            content = next((content[name] for name in ("error", "detail", "message") if name in content), "")
        elif isinstance(content, list) and content:
            content = content[0]
    return content if isinstance(content, str) else ""


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    value = (error.headers.get("Retry-After") or "").strip()
    return float(value) if value.isdecimal() and len(value) < 6 else None
