"""HTTP with the standard library: one request, retried where that helps, and no secret in any message.

Redirects are refused: they would carry the key, or the picture, to a place that the user did not name.
"""

from __future__ import annotations

import json
import secrets
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import IO, Any

from sparkvsr.errors import KeyframeError

MAX_ANSWER_BYTES = 256 * 2**20
MAX_ATTEMPTS = 5
MAX_PAUSE_SECONDS = 60.0
_RETRIED = (408, 429, 500, 502, 503, 504, 529)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """None turns the redirect into an ``HTTPError``."""


class Requester:
    """Sends requests for one maker.

    Args:
        name: who is asked, for messages.
        key_variable: name of the environment variable, for messages.
        key: its value, taken out of whatever the other side writes.
        timeout_seconds: of one attempt.
        backoff_seconds: first pause.
        closed: ends pauses.
    """

    def __init__(
        self,
        name: str,
        *,
        key_variable: str,
        key: str,
        timeout_seconds: float,
        backoff_seconds: float,
        closed: threading.Event,
    ) -> None:
        self._name, self._key_variable, self._key = name, key_variable, key
        self._timeout, self._backoff, self._closed = timeout_seconds, backoff_seconds, closed
        self._opener = urllib.request.build_opener(_NoRedirects)

    def send(self, url: str, body: bytes, headers: dict[str, str]) -> Any:
        """POST, and read the JSON that comes back.

        Raises:
            KeyframeError: refused, still failing after the last attempt, or not JSON.
        """
        data = self._attempts(urllib.request.Request(url, body, headers, method="POST"))
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as exc:
            msg = f"{self._name} answered with something that is not JSON ({len(data)} bytes); check the URL"
            raise KeyframeError(msg) from exc

    def fetch(self, url: str) -> bytes:
        """GET a picture that an answer points to, without the key.

        Raises:
            KeyframeError: see ``send``.
        """
        return self._attempts(urllib.request.Request(url, method="GET"))

    def _attempts(self, request: urllib.request.Request) -> bytes:
        pause = self._backoff
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                with self._opener.open(request, timeout=self._timeout) as answer:
                    data: bytes = answer.read(MAX_ANSWER_BYTES + 1)
                if len(data) > MAX_ANSWER_BYTES:
                    msg = f"{self._name} answered with more than {MAX_ANSWER_BYTES // 2**20} MB; that is no image"
                    raise KeyframeError(msg)
                return data
            except urllib.error.HTTPError as exc:
                problem, wanted_pause = self._explain(exc), _retry_after(exc)
                if exc.code not in _RETRIED:
                    raise KeyframeError(problem) from None
            except urllib.error.URLError as exc:
                problem, wanted_pause = self._clean(f"{self._name} cannot be reached ({exc.reason})"), None
            except (OSError, HTTPException, ValueError) as exc:
                # The request had been sent: the work may have been done and charged, so it is not sent again.
                msg = self._clean(
                    f"{self._name} did not answer ({str(exc) or type(exc).__name__}) within {self._timeout:g} seconds; "
                    f"give it more with --timeout"
                )
                raise KeyframeError(msg) from None
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
    return float(value) if value.isdigit() and len(value) < 6 else None
