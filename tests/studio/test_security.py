"""What local tools with a page were reported for, each point tried."""

from __future__ import annotations

import json
import socket
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient
from studio_clips import studio_of, write_clip

from sparkvsr.errors import ConfigError
from sparkvsr.studio.frames import encoded
from sparkvsr.studio.pictures import Pictures
from sparkvsr.studio.project import MAX_UPLOAD_BYTES, Project
from sparkvsr.studio.security import Guard, allowed_hosts, lasting_secret
from sparkvsr.studio.serve import bind, names_of
from sparkvsr.studio.studio import Studio
from sparkvsr.studio.web import Web

PORT = 8765
ORIGIN = {"origin": f"http://127.0.0.1:{PORT}"}
TOKEN, SECRET, COOKIE = "the-token", "the-secret", "sparkvsr-studio-8765"


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    monkeypatch.setenv("STUDIO_TEST_KEY", "sk-very-secret")
    made = studio_of(
        write_clip(tmp_path / "in.mp4"),
        makers=("https://user:pw@example.org/v1/images?key=abc", "command:upscale {input} {output} --key xyz", "lite"),
        maker={"key_variable": "STUDIO_TEST_KEY"},
    )
    yield made
    made.close()


def guarded(studio: Studio, host: str = "127.0.0.1", *, cookie: bool = True) -> TestClient:
    hosts = allowed_hosts(["127.0.0.1", "localhost", "::1"], PORT)
    client = TestClient(
        Guard(Web(studio).app(), hosts, TOKEN, SECRET, COOKIE), base_url=f"http://{host}:{PORT}", follow_redirects=False
    )
    if cookie:
        client.headers["cookie"] = f"{COOKIE}={SECRET}"
    return client


def png(width: int = 256, height: int = 192) -> bytes:
    return encoded(np.full((height, width, 3), 99, np.uint8), "png")


def test_it_listens_on_this_machine_only_and_says_when_a_port_is_taken() -> None:
    with bind("127.0.0.1", None) as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(ConfigError, match=f"--port {port}"):
            bind("127.0.0.1", port)


def test_every_address_of_this_machine_is_answered_to_only_when_all_are_listened_on() -> None:
    assert set(names_of("127.0.0.1")) == {"127.0.0.1", "localhost", "::1"}
    assert names_of("192.0.2.7") == ["192.0.2.7", "127.0.0.1"]
    names = names_of("0.0.0.0")
    assert {"127.0.0.1", "localhost", socket.gethostname()} <= set(names)
    assert "0.0.0.0" not in names


def test_the_token_is_exchanged_for_a_cookie_that_scripts_cannot_read(studio: Studio) -> None:
    client = guarded(studio, cookie=False)
    answer = client.get(f"/?token={TOKEN}")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}={SECRET}; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert client.get("/c/0/state", headers={"cookie": f"{COOKIE}={SECRET}"}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/c/0/", "/page/main.js", "/c/0/state", "/c/0/events", "/api/clips", "/?token=no"]
)
def test_without_the_token_there_is_nothing(studio: Studio, path: str) -> None:
    client = guarded(studio, cookie=False)
    for cookies in ({}, {"cookie": f"{COOKIE}=wrong"}, {"cookie": f"{COOKIE}=\xe9"}, {"cookie": "a=b; ;;="}):
        answer = client.get(path, headers={name: value.encode("latin-1") for name, value in cookies.items()})
        assert answer.status_code == 403, cookies
        assert "SparkVSR" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "LOCALHOST:8765", "[::1]:8765"])
def test_its_own_names_are_answered_to(studio: Studio, host: str) -> None:
    assert guarded(studio).get("/c/0/state", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example:8765", "127.0.0.1", "127.0.0.1:80", "127.0.0.1.evil.example:8765", "[::1", "", "localhost:8765.x"],
)
def test_a_foreign_host_is_refused_even_with_the_cookie(studio: Studio, host: str) -> None:
    client = guarded(studio)
    assert client.get("/c/0/state", headers={"host": host}).status_code == 400
    assert client.get(f"/?token={TOKEN}", headers={"host": host}).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:8765"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "http://evil.example", "sec-fetch-site": "same-origin"},
    ],
)
def test_only_the_own_page_changes_something(studio: Studio, headers: dict[str, str]) -> None:
    client = guarded(studio)
    for path in ("/c/0/do/guidance", "/c/0/upload/0", "/c/0/paint/0"):
        assert client.post(path, json={"guidance": 2}, headers=headers).status_code == 403
    assert studio.clip(0).history.table["guidance"] == 1.0
    for own in (ORIGIN, {"sec-fetch-site": "same-origin"}):
        assert client.post("/c/0/do/guidance", json={"guidance": 2}, headers=own).status_code == 200
    assert studio.clip(0).history.table["guidance"] == 2.0


def test_a_form_of_another_page_cannot_send_commands(studio: Studio) -> None:
    client = guarded(studio)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = client.post("/c/0/do/guidance", content=b'{"guidance": 2}', headers={**ORIGIN, "content-type": kind})
        assert answer.status_code == 415


def test_every_answer_forbids_foreign_content_and_allows_no_other_origin(studio: Studio) -> None:
    client = guarded(studio)
    for path in ("/c/0/", "/page/main.js", "/c/0/state", "/c/0/source/x/0.png", "/nothing", "/c/0/out/none.mp4"):
        headers = client.get(path, headers={"origin": "http://evil.example"}).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "path",
    [
        "/c/0/out/..%2F..%2Fin.mp4",
        "/c/0/out/%2e%2e/state.json",
        "/c/0/out/.hidden",
        "/c/0/image/..%2Fstate.png",
        "/c/0/image/" + "0" * 32 + ".png",
        "/c/0/mask/..%2F..%2Fetc.png",
        "/c/0/preview/..%2F..%2Fstore/0.png",
        "/c/0/result/..%2F..%2Fin/0.png",
        "/page/..%2Fweb.py",
        "/page/%2e%2e%2f%2e%2e%2fversion.py",
        "/page/web.py",
        "/c/7/state",
        "/c/0/source/x/999999.png",
        "/c/0/source/x/0.svg",
    ],
)
def test_paths_do_not_lead_out(studio: Studio, path: str) -> None:
    answer = guarded(studio).get(path)
    assert answer.status_code in (404, 409)
    assert b"import" not in answer.content


@pytest.mark.parametrize(
    "name", ["../in.mp4", "/etc/x.mp4", "a/b.mp4", ".x.mp4", "x.mp4\0", "", "CON:x.mp4", "x" * 200 + ".mp4"]
)
def test_the_name_of_an_export_is_a_plain_name(studio: Studio, name: str) -> None:
    client = guarded(studio)
    for command in ("export", "command"):
        answer = client.post(f"/c/0/do/{command}", json={"output": name or "..", "codec": "h264"}, headers=ORIGIN)
        assert answer.status_code in (404, 409)
    assert studio.queue.of(0) == []


def test_links_out_of_the_project_are_not_followed(studio: Studio, tmp_path: Path) -> None:
    client = guarded(studio)
    folder = studio.clip(0).project.folder
    secret = tmp_path / "secret.png"
    secret.write_bytes(png())
    (folder / "out" / "leak.mp4").symlink_to(secret)
    (folder / "candidates" / ("a" * 32 + ".png")).symlink_to(secret)
    (folder / "refs" / "00003.png").symlink_to(secret)
    assert client.get("/c/0/out/leak.mp4").status_code == 404
    assert client.get(f"/c/0/image/{'a' * 32}.png").status_code == 404
    assert "leak.mp4" not in json.dumps(client.get("/c/0/state").json()["exports"])
    assert not studio.clip(0).watch()
    assert studio.clip(0).history.table["keyframes"] == {}


def test_a_project_with_a_link_for_a_folder_is_refused(tmp_path: Path) -> None:
    clip, elsewhere = write_clip(tmp_path / "in.mp4"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = tmp_path / "in.studio"
    folder.mkdir()
    (folder / "refs").symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="is a link"):
        Project(folder, clip, Pictures().ask)
    assert list(elsewhere.iterdir()) == []


def test_uploads_are_bounded_in_bytes(studio: Studio) -> None:
    client = guarded(studio)
    headers = {**ORIGIN, "content-type": "image/png"}
    assert client.post("/c/0/upload/0", content=b"x" * (MAX_UPLOAD_BYTES + 1), headers=headers).status_code == 413

    def endless() -> Iterator[bytes]:  # no length is announced
        for _ in range(MAX_UPLOAD_BYTES // 2**20 + 2):
            yield b"x" * 2**20

    assert client.post("/c/0/upload/0", content=endless(), headers=headers).status_code == 413
    long = json.dumps({"prompt": "x" * 200_000}).encode()
    answer = client.post("/c/0/do/add", content=long, headers={**ORIGIN, "content-type": "application/json"})
    assert answer.status_code == 413


def bomb(width: int, height: int) -> bytes:
    """A small PNG that unpacks to many pixels."""
    packer = zlib.compressobj(9)
    row = b"\0" * (width + 1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_image_bombs_are_refused_before_they_unpack(studio: Studio) -> None:
    client = guarded(studio)
    data = bomb(12000, 8000)
    assert len(data) < 200_000
    for path in ("/c/0/upload/0", f"/c/0/paint/0?over={'a' * 32}&base=source"):
        answer = client.post(path, content=data, headers={**ORIGIN, "content-type": "image/png"})
        assert answer.status_code == 409
    assert studio.clip(0).history.table["keyframes"] == {}


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x89PNG\r\n\x1a\n" + b"\0" * 99]
)
def test_what_is_no_image_is_refused_in_plain_words(studio: Studio, data: bytes) -> None:
    client = guarded(studio)
    answer = client.post("/c/0/upload/0", content=data, headers={**ORIGIN, "content-type": "image/png"})
    assert answer.status_code == 409
    assert "not an image that can be used" in answer.json()["error"]
    assert list(studio.clip(0).project.path("candidates").iterdir()) == []
    svg = client.post("/c/0/upload/0", content=data, headers={**ORIGIN, "content-type": "image/svg+xml"})
    assert svg.status_code == 415


def test_makers_cannot_be_named_by_the_page_and_their_secrets_stay(studio: Studio) -> None:
    client = guarded(studio)
    for maker in ("command:touch {input} {output}", "/etc/passwd", 3, -1, True, None, {"name": "lite"}):
        answer = client.post("/c/0/do/add", json={"index": 0, "maker": maker}, headers=ORIGIN)
        assert answer.status_code == 409, maker
    text = client.get("/c/0/state").text
    for secret in ("sk-very-secret", "user:pw", "key=abc", "xyz", "STUDIO_TEST_KEY"):
        assert secret not in text
    assert [one["label"] for one in client.get("/c/0/state").json()["makers"]] == [
        "endpoint example.org",
        "command upscale",
        "lite",
    ]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("guidance", {"guidance": 11}),
        ("guidance", {"guidance": "1"}),
        ("guidance", {"guidance": True}),
        ("look", {"look": "../vivid"}),
        ("keyframe_guidance", {"index": 0, "guidance": 1.5}),
        ("weight", {"index": 0, "weight": 0.5}),
        ("weight", {"index": "0", "weight": 2}),
        ("remove", {"index": -1}),
        ("remove", {"index": 10**30}),
        ("choose", {"index": 0, "image": "../x"}),
        ("choose", {"index": 0, "image": "a" * 32}),
        ("fix", {"index": 0, "fix": "rm"}),
        ("undo", {}),
        ("render", {"what": "all", "here": None}),
        ("preview", {"here": 1.5}),
        ("export", {"output": "x.exe"}),
        ("export", {"output": "x.mp4", "codec": "; rm"}),
        ("export", {"output": "x.mp4", "crf": 99}),
        ("export", {"output": "x.mp4", "height": 10**9}),
        ("output_frame", {"index": 0}),
        ("add", {"index": 0, "prompt": "x" * 5000}),
        ("add", {"index": 0, "seed": -5}),
    ],
)
def test_wrong_values_get_one_plain_line(studio: Studio, name: str, values: dict[str, object]) -> None:
    answer = guarded(studio).post(f"/c/0/do/{name}", json=values, headers=ORIGIN)
    assert answer.status_code == 409, answer.text
    error = answer.json()["error"]
    assert "\n" not in error
    assert "Traceback" not in error
    assert len(error) > 15


@pytest.mark.parametrize("body", [b"[1]", b"{", b"\xff", b"[" * 50_000])
def test_broken_commands_are_refused(studio: Studio, body: bytes) -> None:
    answer = guarded(studio).post(
        "/c/0/do/guidance", content=body, headers={**ORIGIN, "content-type": "application/json"}
    )
    assert answer.status_code == 400


def test_the_lasting_secret_is_the_users_own(tmp_path: Path) -> None:
    secret = lasting_secret(tmp_path / "state")
    path = tmp_path / "state" / "studio-secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert lasting_secret(tmp_path / "state") == secret
    path.chmod(0o644)  # somebody may have read it
    fresh = lasting_secret(tmp_path / "state")
    assert fresh != secret
    assert len(fresh) >= 40


def test_nothing_on_the_page_comes_from_elsewhere() -> None:
    folder = Path(__file__).parents[2] / "src" / "sparkvsr" / "studio" / "page"
    for path in folder.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path
        assert "https://" not in text, path
        assert "innerHTML" not in text, path
        assert len(text.splitlines()) <= 500, path
