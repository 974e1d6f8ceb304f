"""Endpoints as reference makers, against a server on this machine: good answers, refusals, failures, nonsense."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from sparkvsr.errors import ConfigError, KeyframeError
from sparkvsr.keyframes.makers.endpoint import EndpointMaker, cut_out, place
from sparkvsr.keyframes.makers.interface import MakerOptions
from sparkvsr.keyframes.makers.transport import MAX_ATTEMPTS
from sparkvsr.keyframes.references import make_reference_maker, resize_image

KEY = "sk-very-secret-0123456789"
LR = torch.rand(3, 18, 32)

Reply = tuple[int, dict[str, str], bytes]


def png(height: int = 72, width: int = 128, value: int = 90) -> bytes:
    return cv2.imencode(".png", np.full((height, width, 3), value, np.uint8))[1].tobytes()


def openai_answer(picture: bytes) -> Reply:
    return 200, {}, json.dumps({"data": [{"b64_json": base64.b64encode(picture).decode()}]}).encode()


class Server:
    """Gives the replies in order (the last one for ever) and keeps what was asked."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.replies: list[Reply | Callable[[dict[str, Any]], Reply]] = []
        self.requests: list[dict[str, Any]] = []
        self.lock = threading.Lock()


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers, sent = dict(self.headers), self.rfile.read(length)
            request = {"path": self.path, "method": self.command, "headers": headers, "body": sent}
            with state.lock:
                state.requests.append(request)
                reply = state.replies.pop(0) if len(state.replies) > 1 else state.replies[0]
            status, headers, body = reply(request) if callable(reply) else reply
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hung up is part of the tests."""

    listening = Quiet(("127.0.0.1", 0), Handler)
    state = Server(listening)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield state
    listening.shutdown()
    listening.server_close()


@pytest.fixture(autouse=True)
def _key_and_no_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPARKVSR_API_KEY", KEY)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def maker(server: Server, path: str = "/v1/images/edits", **options: Any) -> EndpointMaker:
    return EndpointMaker(server.url + path, MakerOptions(**options), backoff_seconds=0.01)


def form(request: dict[str, Any]) -> dict[str, bytes]:
    head = f"Content-Type: {request['headers']['Content-Type']}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + request["body"])
    parts: Any = message.get_payload()
    return {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in parts}


def test_an_openai_style_endpoint_gets_a_form_and_its_image_is_used(server: Server) -> None:
    server.replies = [openai_answer(png(value=90))]
    made = maker(server, "/v1/images/edits#model=gpt-image-1", prompt="a face").make(LR, (72, 128), 3)
    assert made.shape == (3, 72, 128)
    assert made.mean().item() == pytest.approx(90 / 255, abs=1e-3)
    (request,) = server.requests
    assert request["path"] == "/v1/images/edits"
    assert request["headers"]["Authorization"] == f"Bearer {KEY}"
    fields = form(request)
    assert fields["prompt"] == b"a face"
    assert fields["model"] == b"gpt-image-1"
    sent = cv2.imdecode(np.frombuffer(fields["image"], np.uint8), cv2.IMREAD_COLOR)
    assert sent.shape == (72, 128, 3)


def test_a_fal_style_endpoint_gets_json_and_its_url_is_fetched_without_the_key(server: Server) -> None:
    body = json.dumps({"images": [{"url": f"{server.url}/files/1.png", "width": 128}]}).encode()
    server.replies = [(200, {}, body), (200, {}, png(value=30))]
    made = maker(server, "/fal-ai/edit#style=fal").make(LR, (72, 128))
    assert made.mean().item() == pytest.approx(30 / 255, abs=1e-3)
    post, get = server.requests
    assert post["headers"]["Authorization"] == f"Key {KEY}"
    assert json.loads(post["body"])["image_urls"][0].startswith("data:image/png;base64,")
    assert get["method"] == "GET"
    assert KEY not in str(get["headers"])


def test_a_data_address_is_decoded(server: Server) -> None:
    address = "data:image/png;base64," + base64.b64encode(png()).decode()
    server.replies = [(200, {}, json.dumps({"image": {"url": address}}).encode())]
    assert maker(server).make(LR, (72, 128)).shape == (3, 72, 128)


def test_nothing_is_paid_twice(server: Server) -> None:
    server.replies = [openai_answer(png(value=77))]
    first = maker(server).make(LR, (72, 128), 0)
    again = maker(server).make(LR, (72, 128), 9)
    assert torch.equal(first, again)
    assert len(server.requests) == 1
    maker(server, prompt="other words").make(LR, (72, 128))
    maker(server, prompts={4: "words of one keyframe"}).make(LR, (72, 128), 4)
    maker(server).make(1 - LR, (72, 128))
    assert len(server.requests) == 4


def test_a_damaged_cache_is_asked_for_again(server: Server, tmp_path: Path) -> None:
    server.replies = [openai_answer(png())]
    maker(server, cache_dir=tmp_path / "mine").make(LR, (72, 128))
    (stored,) = (tmp_path / "mine").iterdir()
    assert KEY.encode() not in stored.read_bytes()
    stored.write_bytes(b"damaged")
    maker(server, cache_dir=tmp_path / "mine").make(LR, (72, 128))
    assert len(server.requests) == 2


def test_a_cache_that_cannot_be_written_does_not_lose_the_image(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    server.replies = [openai_answer(png())]
    assert maker(server, cache_dir=tmp_path / "file").make(LR, (72, 128)).shape == (3, 72, 128)


def test_rate_limits_and_failures_are_retried(server: Server) -> None:
    busy: Reply = (429, {"Retry-After": "0"}, b'{"error": {"message": "slow down"}}')
    broken: Reply = (500, {}, b"<html>oops</html>")
    server.replies = [busy, broken, openai_answer(png())]
    assert maker(server).make(LR, (72, 128)).shape == (3, 72, 128)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("reply", "words", "attempts"),
    [
        ((401, {}, b'{"error": {"message": "bad key ' + KEY.encode() + b'"}}'), "the key (HTTP 401): bad key", 1),
        ((403, {}, b"{}"), "put a valid key into $SPARKVSR_API_KEY", 1),
        ((400, {}, b'{"detail": [{"message": "blocked by policy"}]}'), "(HTTP 400): blocked by policy", 1),
        ((404, {}, b"<html>"), "(HTTP 404); check the URL", 1),
        ((302, {"Location": "http://example.com/"}, b""), "redirects elsewhere (HTTP 302)", 1),
        ((429, {}, b""), "limits the rate (HTTP 429); gave up after 5", MAX_ATTEMPTS),
        ((500, {}, b'{"message": "boom"}'), "failed (HTTP 500): boom; gave up after 5", MAX_ATTEMPTS),
        ((200, {}, b"<html>login</html>"), "not JSON", 1),
        ((200, {}, b"[" * 50_000), "not JSON", 1),
        ((200, {}, b"[1, 2]"), "without an image", 1),
        ((200, {}, b'{"data": []}'), "without an image", 1),
        ((200, {}, b'{"data": [{"b64_json": 5}]}'), "without an image", 1),
        ((200, {}, b'{"data": [{"b64_json": "!!!"}]}'), "not base64", 1),
        ((200, {}, b'{"data": [{"url": "file:///etc/passwd"}]}'), "not base64", 1),
        ((200, {}, b'{"data": [{"b64_json": "bm9uc2Vuc2U="}]}'), "no readable image for keyframe 6", 1),
        (openai_answer(png(9, 16)), "gave 16x9, smaller than the frame of 32x18", 1),
        (openai_answer(png(100, 100)), "gave 100x100", 1),
    ],
)  # fmt: skip
def test_every_bad_answer_is_one_clear_line_without_the_key(
    server: Server, reply: Reply, words: str, attempts: int
) -> None:
    server.replies = [reply]
    with pytest.raises(KeyframeError) as caught:
        maker(server).make(LR, (72, 128), 6)
    assert words in str(caught.value)
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value.__context__)
    assert len(server.requests) == attempts


def test_nobody_listening_is_said() -> None:
    nobody = EndpointMaker("http://127.0.0.1:9/v1/images/edits", backoff_seconds=0.001)
    with pytest.raises(KeyframeError, match="cannot be reached"):
        nobody.make(LR, (72, 128))


def test_a_slow_endpoint_times_out_and_is_not_asked_again(server: Server) -> None:
    release = threading.Event()

    def slow(request: dict[str, Any]) -> Reply:
        release.wait(5)
        return openai_answer(png())

    server.replies = [slow]
    with pytest.raises(KeyframeError, match=r"did not answer within 0.1 seconds.*--timeout"):
        maker(server, timeout_seconds=0.1).make(LR, (72, 128))
    release.set()
    assert len(server.requests) == 1, "a request that may have been charged was sent again"


def test_close_ends_the_waiting(server: Server) -> None:
    server.replies = [(503, {"Retry-After": "50"}, b"")]
    waiting = maker(server)
    timer = threading.Timer(0.2, waiting.close)
    timer.start()
    with pytest.raises(KeyframeError, match="stopped while waiting"):
        waiting.make(LR, (72, 128))


def test_without_a_key_no_authorization_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARKVSR_API_KEY")
    server.replies = [(401, {}, b"{}")]
    with pytest.raises(KeyframeError, match=r"set \$SPARKVSR_API_KEY"):
        maker(server).make(LR, (72, 128))
    assert "Authorization" not in server.requests[0]["headers"]


def test_the_key_may_have_another_name(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_KEY", "other")
    server.replies = [openai_answer(png())]
    maker(server, key_variable="FAL_KEY").make(LR, (72, 128))
    assert server.requests[0]["headers"]["Authorization"] == "Bearer other"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("http://example.com/v1/images/edits", "unencrypted"),
        ("https://", "not the URL"),
        ("https:example", "not the URL"),
        ("https://user:pass@example.com/x", "not the URL"),
        ("https://example.com/x#colour=red", "'colour' behind"),
        ("https://example.com/x#model", "'model' behind"),
        ("https://example.com/x#style=other", "style 'other'"),
        ("https://example.com/x#size=big", "size 'big'"),
        ("https://example.com/x#size=99999999x9", "size"),
    ],
)
def test_a_wrong_address_is_refused_before_any_work(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        make_reference_maker(name)
    assert "pass@" not in str(caught.value)


def test_names_hold_no_secret() -> None:
    made = make_reference_maker("https://fal.run/fal-ai/clarity?token=abc")
    assert made.name == "fal endpoint fal.run"
    assert isinstance(made, EndpointMaker)
    assert made.style == "fal"


def test_endpoints_with_fixed_sizes_get_the_frame_inside_and_it_is_cut_out_again(server: Server) -> None:
    def echo(request: dict[str, Any]) -> Reply:
        return openai_answer(form(request)["image"])

    server.replies = [echo]
    smooth = resize_image(torch.rand(3, 4, 6), (18, 32))
    made = maker(server, "/v1/images/edits#size=96x96").make(smooth, (72, 128))
    sent: Tensor = torch.from_numpy(cv2.imdecode(np.frombuffer(form(server.requests[0])["image"], np.uint8), 1))
    assert tuple(sent.shape) == (96, 96, 3)
    assert form(server.requests[0])["size"] == b"96x96"
    assert (made - resize_image(smooth, (72, 128))).abs().mean() < 0.01


def test_place_and_cut_out_are_inverse_at_any_size() -> None:
    image = resize_image(torch.rand(3, 5, 9), (90, 160))
    placed, box = place(image, (128, 128))
    assert placed.shape == (3, 128, 128)
    assert (resize_image(cut_out(resize_image(placed, (256, 256)), box), (90, 160)) - image).abs().mean() < 0.01
