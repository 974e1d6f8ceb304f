"""Fetch one file: into a temporary name, held against its checksum, then put in place in one step."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sparkvsr.errors import MetricError

TIMEOUT_SECONDS = 30
"""Without a byte; proxies that check a file before they pass it on take their time."""

_TRIES = 2
_PIECE = 1 << 18


def open_url(url: str, headers: dict[str, str] | None = None) -> Any:
    """Open an address; proxies as the environment names them, certificates also from ``$PIP_CERT``.

    Raises:
        OSError: it cannot be reached.
    """
    bundle = os.environ.get("PIP_CERT")
    context = ssl.create_default_context(cafile=bundle) if bundle and Path(bundle).is_file() else None
    request = urllib.request.Request(url, headers={"User-Agent": "sparkvsr", **(headers or {})})
    return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS, context=context)


def fetch(
    url: str,
    target: Path,
    sha256: str,
    progress: Callable[[int, int], None] | None = None,
    *,
    total: int = 0,
    headers: dict[str, str] | None = None,
) -> None:
    """Download a file; nothing is left under the target's name, or beside it, unless the checksum is right.

    Args:
        url: where from.
        target: where to; its folder is made.
        sha256: checksum or its first digits; empty is refused.
        progress: gets bytes so far and bytes in all (0 where nobody knows).
        total: bytes in all, if the server does not tell.
        headers: of the request.

    Raises:
        MetricError: it cannot be fetched or written, or has another checksum.
    """
    error: Exception | None = None
    for _ in range(_TRIES):
        try:
            _try_once(url, target, sha256, progress, total, headers)
        except (OSError, http.client.HTTPException) as exc:
            error = exc
        else:
            return
    msg = f"cannot download {url} ({error}); place the file at {target} yourself"
    raise MetricError(msg) from error


def keep(content: bytes, target: Path, sha256: str, origin: str) -> None:
    """Write bytes under a name in one step, if their checksum is right.

    Args:
        content: of the file.
        target: where to; its folder is made.
        sha256: checksum or its first digits.
        origin: where they come from, for the error.

    Raises:
        MetricError: another checksum, or the folder cannot be written.
    """
    _refuse_other(hashlib.sha256(content).hexdigest(), sha256, origin)
    try:
        with _complete(target) as out:
            out.write(content)
    except OSError as exc:
        msg = f"{target} cannot be written ({exc.strerror or exc}); make room or set XDG_CACHE_HOME to another folder"
        raise MetricError(msg) from exc


def _try_once(
    url: str,
    target: Path,
    sha256: str,
    progress: Callable[[int, int], None] | None,
    total: int,
    headers: dict[str, str] | None,
) -> None:
    digest, done = hashlib.sha256(), 0
    with _complete(target) as out, open_url(url, headers) as answer:
        total = int(answer.headers.get("Content-Length") or total)
        while piece := answer.read(_PIECE):
            out.write(piece)
            digest.update(piece)
            done += len(piece)
            if progress is not None:
                progress(done, total)
        _refuse_other(digest.hexdigest(), sha256, url)


@contextmanager
def _complete(target: Path) -> Iterator[BinaryIO]:
    """A file to write that gets its name at the end of the block; after an error nothing is left of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _refuse_other(digest: str, expected: str, origin: str) -> None:
    if not expected or not digest.startswith(expected):
        msg = f"{origin} has sha256 {digest[:16]}..., expected {expected[:16]}...; it was not kept"
        raise MetricError(msg)
