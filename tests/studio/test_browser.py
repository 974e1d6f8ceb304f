"""The whole story in a real browser: open, step, add, upload, mask, preview, undo, render, kill, go on, export."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from studio_clips import reference, until, write_clip

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSERS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
COMMAND = Path(sys.executable).with_name("sparkvsr")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; a skip without it, a failure where CI says that it must be there."""
    found = next((path for path in BROWSERS if Path(path).exists()), None) or shutil.which("chromium")
    missing = None
    if found is None:
        missing = "no chromium is installed"
    elif importlib.util.find_spec("playwright") is None:
        missing = "the package playwright is not installed"
    if missing is not None:
        if os.environ.get("SPARKVSR_REQUIRE_BROWSER") == "1":
            pytest.fail(f"SPARKVSR_REQUIRE_BROWSER=1, but {missing}")
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield made
        made.close()


class Server:
    """`sparkvsr studio` as a user starts it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        environment = {**os.environ, "XDG_STATE_HOME": str(folder / "user")}
        command = [str(COMMAND), "studio", *arguments, "--no-browser"]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("Studio"):
            self.process.wait(10)
            raise AssertionError(line + (self.process.stderr.read() if self.process.stderr else ""))
        self.address = line.split()[1]
        self.port = self.address.partition("127.0.0.1:")[2].partition("/")[0]

    def kill(self) -> None:
        """As a power cut would."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> str:
        """Ctrl-C; what it said on stderr."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=20)[1]


class Studio:
    """The page, as somebody at the keyboard has it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))

    def state(self) -> dict[str, Any]:
        text: str = self.page.evaluate("JSON.stringify(studio.model.state)")
        state: dict[str, Any] = json.loads(text)
        return state

    def wait(self, expression: str, seconds: float = 150) -> None:
        until(lambda: self.page.evaluate(expression), seconds)

    def open(self, address: str) -> None:
        self.page.goto(address)
        self.wait("document.body.dataset.ready === 'true'")
        self.wait("studio.model.state.segments.length > 0")

    def shows(self, index: int) -> None:
        """The picture of a frame is drawn, complete."""
        at = f"document.getElementById('picture').dataset.frame === '{index}'"
        self.wait(f"{at} && document.getElementById('picture').dataset.complete === 'true'")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def keyframe(self, index: int) -> dict[str, Any]:
        found = until(lambda: [one for one in self.state()["keyframes"] if one["index"] == index])
        entry: dict[str, Any] = found[0]
        return entry

    def idle(self) -> None:
        self.wait("studio.model.state.queue.length === 0")


def test_the_whole_story(browser: Any, tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mp4")
    (tmp_path / "upload.png").write_bytes(reference(18, 25, scene=1))
    server = Server(tmp_path, "in.mp4", "--device", "cpu")
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    try:
        page = context.new_page()
        studio = Studio(page)
        studio.open(server.address)
        assert "token" not in page.url
        studio.shows(0)

        # Step, with keys; the picture is that of the frame.
        studio.press("ArrowRight", ".", "ArrowRight", ",", "ArrowRight")
        studio.shows(3)
        studio.press("g")
        page.keyboard.type("0:00.5")
        studio.press("Enter")
        studio.shows(12)
        studio.press("Control+ArrowRight")
        studio.shows(14)  # the second shot
        studio.press("1", "2", "4", "5", "3", "Tab", "0", "9", "0")
        studio.press("Home")

        # A keyframe by the first maker, with a preview where one looks.
        studio.press("ArrowRight", "ArrowRight", "ArrowRight", "Enter")
        made = studio.keyframe(3)
        assert made["maker"] == "detail"
        studio.wait("Object.keys(studio.model.state.previews).includes('3')")
        studio.wait("document.getElementById('tag-right').textContent.includes('preview')")

        # An image of one's own, and the brush: only a part of it.
        studio.press("g")
        page.keyboard.type("18")
        studio.press("Enter", "Enter")
        studio.keyframe(18)
        page.set_input_files("#file", str(tmp_path / "upload.png"))
        studio.wait("studio.model.state.keyframes.find((one) => one.index === 18).maker === 'upload'")
        uploaded = studio.keyframe(18)["image"]
        studio.press("b")
        page.wait_for_selector("#paint-apply")
        page.select_option("#paint-bar select", label="detail")
        box = page.locator("#picture").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5, steps=5)
        page.mouse.up()
        page.click("#paint-apply")
        studio.wait("studio.model.state.keyframes.find((one) => one.index === 18).maker === 'painted'")
        painted = studio.keyframe(18)["image"]

        # Undo and redo.
        page.click("#picture", position={"x": 20, "y": 200})
        studio.press("Control+z")
        studio.wait(f"studio.model.state.keyframes.find((one) => one.index === 18).image === '{uploaded}'")
        studio.press("Control+Shift+Z")
        studio.wait(f"studio.model.state.keyframes.find((one) => one.index === 18).image === '{painted}'")

        # Render, kill the server in the middle, start it again: nothing is lost, it goes on by itself.
        studio.press("Shift+S")
        studio.wait("studio.model.state.queue.length > 0")
        server.kill()
        studio.wait("document.body.classList.contains('offline')")
        server = Server(tmp_path, "in.mp4", "--device", "cpu", "--port", server.port)
        studio.wait("!document.body.classList.contains('offline')")
        studio.wait("studio.model.state.segments.length > 0 && studio.model.state.segments.every((one) => one[3])")
        studio.idle()
        assert studio.keyframe(18)["image"] == painted
        assert studio.state()["undo"] == "paint 18"

        # The finished file, and the same from the command line.
        studio.press("e")
        page.fill("#export-name", "result.mp4")
        page.click("#export-go")
        until(lambda: [one for one in studio.state()["exports"] if one["name"] == "result.mp4"])
        studio.idle()
        with page.expect_download() as download:
            page.click('a[download="result.mp4"]')
        download.value.save_as(tmp_path / "downloaded.mp4")
        assert [error for error in studio.errors if "ERR_" not in error and "Failed to load" not in error] == []
    finally:
        context.close()
        said = server.stop()
    assert said == ""
    refs = tmp_path / "in.studio" / "refs"
    subprocess.run(
        [COMMAND, "upscale", "in.mp4", "--references", refs, "--device", "cpu", "--no-work", "-o", "cli.mp4"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert (tmp_path / "downloaded.mp4").read_bytes() == (tmp_path / "cli.mp4").read_bytes()
    assert (tmp_path / "in.studio" / "out" / "result.mp4").read_bytes() == (tmp_path / "cli.mp4").read_bytes()


def test_the_list_and_the_names_of_all_controls(browser: Any, tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", frames=12, cut=None)
    write_clip(tmp_path / "b.mp4", frames=12, cut=None)
    (tmp_path / "c.mp4").write_bytes(b"no video")
    server = Server(tmp_path, "a.mp4", "b.mp4", "c.mp4", "--model", "bicubic")
    context = browser.new_context(viewport={"width": 1280, "height": 720}, color_scheme="dark")
    try:
        page = context.new_page()
        studio = Studio(page)
        page.goto(server.address)
        page.click("text=c.mp4")
        page.wait_for_selector("#cover.problem")  # in plain words, and with the way back
        assert "not a video" in page.inner_text("#cover")
        page.click("#to-list")
        page.click("text=b.mp4")
        studio.wait("document.body.dataset.ready === 'true' && studio.model.state.segments.length > 0")
        assert studio.state()["clip"]["name"] == "b.mp4"
        studio.press("Enter")
        studio.keyframe(0)
        studio.press("?")
        page.wait_for_selector("#help-dialog[open]")
        studio.press("Escape")
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, textarea, [role=slider]")]
            .filter((one) => !one.hidden && one.type !== "file")
            .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.length))
            .map((one) => one.outerHTML)"""
        )
        assert unnamed == []
        for width, height in ((1280, 720), (2560, 1440)):
            page.set_viewport_size({"width": width, "height": height})
            cut = page.evaluate(
                """() => [...document.querySelectorAll("button, header label, #transport *, aside *")]
                .filter((one) => one.offsetParent && one.children.length === 0 && one.textContent.trim())
                .filter((one) => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflow !== "visible")
                .map((one) => one.textContent)"""
            )
            assert cut == []
            outside = page.evaluate(
                """() => [...document.querySelectorAll("header *, #transport *")]
                .filter((one) => one.offsetParent && one.getBoundingClientRect().right > innerWidth + 1)
                .map((one) => one.outerHTML.slice(0, 80))"""
            )
            assert outside == []
        assert [error for error in studio.errors if "404" not in error] == []  # of the clip that is none
    finally:
        context.close()
        server.stop()
