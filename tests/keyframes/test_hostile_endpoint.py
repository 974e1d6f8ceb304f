"""Endpoints that drip, stop short, point elsewhere or send a bomb: one line, in time, in bounded memory."""

from __future__ import annotations

import base64
import json
import re
import resource
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sparkvsr.errors import ConfigError, KeyframeError
from sparkvsr.keyframes.makers import transport
from sparkvsr.keyframes.makers.endpoint import EndpointMaker
from sparkvsr.keyframes.makers.interface import MakerOptions
from sparkvsr.keyframes.references import make_reference_maker

LR = torch.rand(3, 32, 48)
SIZE = (128, 192)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SPARKVSR_API_KEY", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[tuple[int, list[bytes]]]:
    """A server that reads a request and answers byte by byte as told."""
    seen: list[bytes] = []
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    line, _ = listening.accept()
                    with line, suppress(OSError):
                        seen.append(whole_request(line))
                        answer(line)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1], seen


def whole_request(line: socket.socket) -> bytes:
    """All of it: closing a connection with something unread takes back what was answered."""
    given = b""
    while (more := line.recv(65536)) != b"":
        given += more
        head, _, body = given.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        if b"\r\n\r\n" in given and (length is None or len(body) >= int(length[1])):
            break
    return given


def bomb(height: int, width: int) -> bytes:
    """A small PNG that declares many pixels and holds almost none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def head(length: int) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()


def dripping(line: socket.socket) -> None:
    line.sendall(head(100_000))
    for _ in range(600):
        line.sendall(b"x")
        time.sleep(0.05)


def dripping_without_length(line: socket.socket) -> None:
    line.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
    for _ in range(600):
        line.sendall(b"x")
        time.sleep(0.05)


def dripping_headers(line: socket.socket) -> None:
    line.sendall(b"HTTP/1.1 200 OK\r\n")
    for k in range(600):
        line.sendall(f"X-{k}: x\r\n".encode())
        time.sleep(0.05)


@pytest.mark.parametrize("answer", [dripping, dripping_without_length, dripping_headers])
def test_the_timeout_holds_over_the_whole_answer(answer: Callable[[socket.socket], None]) -> None:
    with raw_server(answer) as (port, seen):
        maker = EndpointMaker(f"http://127.0.0.1:{port}/x", MakerOptions(timeout_seconds=0.5), backoff_seconds=0.01)
        started = time.monotonic()
        with pytest.raises(KeyframeError, match=r"did not answer within 0.5 seconds; give it more with --timeout"):
            maker.make(LR, SIZE)
        assert time.monotonic() - started < 3
        assert len(seen) == 1


def test_an_answer_cut_short_is_no_answer() -> None:
    body = json.dumps({"data": [{"b64_json": "AAAA"}]}).encode()
    with raw_server(lambda line: line.sendall(head(len(body) + 7) + body)) as (port, _):
        maker = EndpointMaker(f"http://127.0.0.1:{port}/x", backoff_seconds=0.01)
        with pytest.raises(KeyframeError, match="cut short by 7 bytes") as caught:
            maker.make(LR, SIZE)
    assert "--timeout" not in str(caught.value)


def test_an_endpoint_that_fails_at_once_is_not_told_to_take_longer() -> None:
    with raw_server(lambda line: line.sendall(b"nonsense\r\n\r\n")) as (port, _):
        maker = EndpointMaker(f"http://127.0.0.1:{port}/x", backoff_seconds=0.01)
        with pytest.raises(KeyframeError, match="broke off after") as caught:
            maker.make(LR, SIZE)
    assert "--timeout" not in str(caught.value)


def answer_with(text: bytes) -> Callable[[socket.socket], None]:
    return lambda line: line.sendall(head(len(text)) + text)


def test_pictures_on_other_hosts_need_https_and_the_open_network(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    with raw_server(lambda line: None) as (inner, seen):
        for url, words in (
            (f"http://localhost:{inner}/files/1.png", "another host without https"),
            (f"https://localhost:{inner}/files/1.png", "inside this network"),
        ):
            body = json.dumps({"images": [{"url": url}]}).encode()
            with raw_server(answer_with(body)) as (port, _):
                # As if the endpoint itself were out there.
                monkeypatch.setattr(transport, "_is_inside", lambda url, peer: asked.append(peer) or "/files/" in url)
                maker = EndpointMaker(f"http://127.0.0.1:{port}/x#style=fal", backoff_seconds=0.01)
                with pytest.raises(KeyframeError, match=words):
                    maker.make(LR, SIZE)
        assert seen == [] or seen == [b""], "nothing was sent to the inner address"
    assert "127.0.0.1" in asked


BAD_ADDRESSES = [
    "http://[::1",
    "http://127.0.0.1:99999/x.png",
    "http://127.0.0.1:abc/x.png",
    "http://127.0.0.1/a b\n.png",
    "https://\u2603\ud800.example/x.png",
    f"https://{'a' * 70}.example/x.png",
    "https://user:secret@a.example/x.png",
]


@pytest.mark.parametrize("url", BAD_ADDRESSES)
def test_addresses_that_are_none(url: str) -> None:
    with raw_server(answer_with(json.dumps({"images": [{"url": url}]}).encode())) as (port, seen):
        maker = EndpointMaker(f"http://127.0.0.1:{port}/x", backoff_seconds=0.01)
        with pytest.raises(KeyframeError, match="points to a picture at an address that is none") as caught:
            maker.make(LR, SIZE)
        assert len(seen) == 1
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="is not the URL of an endpoint") as told:
        make_reference_maker(url)
    assert "secret" not in str(told.value)


def test_a_pause_that_is_no_number_is_no_pause() -> None:
    busy = b"HTTP/1.1 429 Busy\r\nRetry-After: \xb2\r\nContent-Length: 0\r\n\r\n"
    with raw_server(lambda line: line.sendall(busy)) as (port, seen):
        maker = EndpointMaker(f"http://127.0.0.1:{port}/x", backoff_seconds=0.01)
        with pytest.raises(KeyframeError, match="limits the rate"):
            maker.make(LR, SIZE)
    assert len(seen) == transport.MAX_ATTEMPTS


def test_base64_in_lines_and_pictures_cut_short() -> None:
    image = cv2.resize(np.random.default_rng(3).integers(0, 255, (8, 12, 3), np.uint8), (192, 128))
    png, jpeg = (cv2.imencode(suffix, image)[1].tobytes() for suffix in (".png", ".jpg"))
    body = json.dumps({"data": [{"b64_json": base64.encodebytes(png).decode()}]}).encode()
    with raw_server(answer_with(body)) as (port, _):
        made = EndpointMaker(f"http://127.0.0.1:{port}/x").make(LR, SIZE)
    assert torch.equal(made, torch.from_numpy(image[:, :, ::-1].copy()).permute(2, 0, 1) / 255)
    body = json.dumps({"data": [{"b64_json": base64.b64encode(jpeg[: len(jpeg) // 2]).decode()}]}).encode()
    with raw_server(answer_with(body)) as (port, _), pytest.raises(KeyframeError, match="sent no readable image"):
        EndpointMaker(f"http://127.0.0.1:{port}/x").make(LR, SIZE)


@pytest.mark.parametrize(
    ("url", "peer", "is_inside"),
    [
        ("https://a.example/", "93.184.216.34", False),
        ("https://a.example/", "2606:4700::1111", False),
        ("https://a.example/", "127.0.0.1", True),
        ("https://a.example/", "10.1.2.3", True),
        ("https://a.example/", "192.168.0.9", True),
        ("https://a.example/", "169.254.169.254", True),
        ("https://a.example/", "100.64.0.1", True),
        ("https://a.example/", "::1", True),
        ("https://a.example/", "::ffff:10.0.0.1", True),
        ("https://a.example/", "fe80::1%eth0", True),
        ("https://a.example/", "", True),
    ],
)
def test_what_lies_inside(url: str, peer: str, is_inside: bool) -> None:
    assert transport._is_inside(url, peer) is is_inside


def test_behind_a_proxy_the_address_itself_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("https_proxy", "http://10.0.0.1:3128")
    assert not transport._is_inside("https://cdn.example/x.png", "10.0.0.1")
    assert transport._is_inside("https://192.168.1.1/x.png", "10.0.0.1")
    assert transport._is_inside("https://localhost/x.png", "10.0.0.1")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_huge_files_of_programs_are_not_read_to_be_refused(tmp_path: Path) -> None:
    before = peak_mb()
    for start in ("", "\\211PNG\\r\\n\\032\\nx"):
        (tmp_path / "tool.sh").write_text(f'printf \'{start}\' > "$1"; truncate -s 3G "$1"')
        maker = make_reference_maker(f"command:sh {tmp_path}/tool.sh {{output}} {{input}}")
        with pytest.raises(KeyframeError, match="wrote no readable image"):
            maker.make(LR, SIZE, 0)
    assert peak_mb() - before < 200


@pytest.mark.parametrize("sides", [(16000, 16000), (10_000, 15_000)], ids=["another shape", "same shape"])
def test_declared_sizes_are_judged_before_anything_is_decoded(tmp_path: Path, sides: tuple[int, int]) -> None:
    data = bomb(*sides)
    refs = tmp_path / "refs"
    refs.mkdir()
    (refs / "00000.png").write_bytes(data)
    (tmp_path / "bomb.png").write_bytes(data)
    body = json.dumps({"data": [{"b64_json": base64.b64encode(data).decode()}]}).encode()
    before, started = peak_mb(), time.monotonic()
    with raw_server(answer_with(body)) as (port, _):
        makers = [
            EndpointMaker(f"http://127.0.0.1:{port}/x", backoff_seconds=0.01),
            make_reference_maker(f"command:sh -c 'cp {tmp_path}/bomb.png $1' sh {{output}} {{input}}"),
            make_reference_maker(str(refs)),
        ]
        for maker in makers:
            with pytest.raises(KeyframeError, match=rf"is {sides[1]}x{sides[0]}"):
                maker.make(LR, SIZE, 0)
    assert peak_mb() - before < 200
    assert time.monotonic() - started < 10
