"""How quick the studio is, measured in a real browser (Chromium through playwright).

python benchmarks/studio.py [CLIP] [--long 10000] [--chromium /usr/bin/chromium]

Without CLIP a 320x180 clip of 325 frames is made. Renders once around the first keyframe and one shot, steps through
the result, edits, kills the server while it renders and starts it again, and opens a clip of --long frames (0 leaves
that out).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from playwright.sync_api import Page, sync_playwright

from sparkvsr.keyframes.references import resize_image
from sparkvsr.video import EncodeOptions, VideoWriter

STEPS = 60


def make_clip(path: Path, frames: int, shots: int = 5, size: tuple[int, int] = (180, 320)) -> Path:
    """A drifting texture, another one in each shot."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    length = -(-frames // shots)
    options = EncodeOptions(crf=23, preset="ultrafast")
    with VideoWriter(path, source=None, size=size, options=options) as writer:
        for index in range(frames):
            if index % length == 0:
                small = torch.rand(3, height // 8, (width + 256) // 8, generator=generator)
                texture = resize_image(small, (height, width + 256)).clamp(0, 1)
            left = index % length % 256
            writer.write(texture[:, :, left : left + width])
    return path


class Server:
    """`sparkvsr studio`, and when it was started."""

    def __init__(self, clip: Path, folder: Path, *more: str) -> None:
        self.started = time.monotonic()
        command = [str(Path(sys.executable).with_name("sparkvsr")), "studio", str(clip), "--no-browser", *more]
        environment = {**os.environ, "XDG_STATE_HOME": str(folder)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split()[1]
        self.port = self.address.split(":")[2].partition("/")[0]

    def since_start(self) -> float:
        """Seconds since the command was typed."""
        return time.monotonic() - self.started

    def memory(self) -> tuple[float, float]:
        """MB in use by the server and by the render process with its model."""
        server = psutil.Process(self.process.pid)
        children = server.children()
        return server.memory_info().rss / 1e6, sum(child.memory_info().rss for child in children) / 1e6

    def stop(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(2)
        self.process.wait(20)


def wait(page: Page, expression: str, seconds: float = 300) -> float:
    """Seconds until something is true in the page."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        if page.evaluate(expression):
            return time.monotonic() - started
        time.sleep(0.005)
    raise TimeoutError(expression)


READY = "document.body.dataset.ready === 'true'"
DRAWN = "document.getElementById('picture').dataset.complete === 'true'"

# Steps as fast as a finger on the key, and tells when each frame was drawn.
STEPPING = """async (count) => {
  const picture = document.getElementById("picture");
  const took = [];
  for (let step = 0; step < count; step += 1) {
    const wanted = String(studio.model.frame + 1);
    const started = performance.now();
    document.getElementById("stage").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
    while (picture.dataset.frame !== wanted || picture.dataset.complete !== "true") {
      await new Promise(requestAnimationFrame);
    }
    took.push(performance.now() - started);
    await new Promise((resolve) => setTimeout(resolve, 120));
  }
  return took;
}"""


def opening(page: Page, server: Server) -> tuple[float, float]:
    """Seconds from the command to a usable page, and to the first picture."""
    page.goto(server.address)
    wait(page, READY)
    usable = server.since_start()
    wait(page, DRAWN)
    return usable, server.since_start()


def measure(page: Page, server: Server) -> dict[str, Any]:
    """All of one clip."""
    rows: dict[str, Any] = {}
    usable, picture = opening(page, server)
    rows["page usable after the command / first picture (goal 4 s / 5 s)"] = f"{usable:.1f} s / {picture:.1f} s"
    wait(page, "studio.model.studio.ready && studio.model.state.segments.length > 0")
    rows["model loaded, clip looked through"] = f"{server.since_start():.1f} s"
    page.focus("#stage")
    page.keyboard.press("Enter")
    wait(page, "studio.model.state.keyframes.length === 1")
    page.keyboard.press("s")
    wait(page, "studio.model.state.segments[0][3]")
    wait(page, "studio.model.state.queue.length === 0")
    page.evaluate(STEPPING, 5)
    took = sorted(page.evaluate(STEPPING, min(STEPS, int(page.evaluate("studio.model.state.shots[0][1]")) - 8)))
    p95 = took[int(0.95 * (len(took) - 1))]
    rows["step to the next frame of the result, median / 95th percentile (goal 60 ms)"] = (
        f"{statistics.median(took):.0f} ms / {p95:.0f} ms"
    )
    page.keyboard.press("Home")
    time.sleep(1)
    page.locator('[data-name="weight"]').focus()
    started = time.monotonic()
    page.locator('[data-name="weight"]').fill("0.5")
    fresh = "studio.model.state.segments[0][3] === false && Object.entries(studio.model.state.previews).filter"
    of_plan = "(([index, key]) => key === studio.model.state.segments[0][2] && Number(index) < 100).length"
    wait(page, f"{fresh}{of_plan} > 0")
    first = time.monotonic() - started
    wait(page, f"{fresh}{of_plan} >= Math.round(studio.model.state.clip.fps)")
    rows["edit of a keyframe to the first new frame / one second of video (goal 2.5 s / 8 s)"] = (
        f"{first:.1f} s / {time.monotonic() - started:.1f} s"
    )
    server_mb, model_mb = server.memory()
    rows["memory of the server / of the render process"] = f"{server_mb:.0f} MB / {model_mb:.0f} MB"
    return rows


def killed(page: Page, server: Server, clip: Path, folder: Path) -> tuple[Server, str]:
    """The server is killed in the middle of a render and started again with the same command."""
    page.focus("#stage")
    page.keyboard.press("Shift+S")
    wait(page, "studio.model.state.queue.some((one) => one.done > 0)", 600)
    kept = "JSON.stringify([studio.model.state.keyframes.map((one) => [one.index, one.image, one.weight]), {stored}])"
    stored = "studio.model.state.segments.filter((one) => one[3]).map((one) => one[2])"
    before = json.loads(page.evaluate(kept.format(stored=stored)))
    server.process.kill()
    server.process.wait()
    server = Server(clip, folder, "--port", server.port)
    wait(page, "!document.body.classList.contains('offline') && studio.model.studio.ready !== null", 120)
    again = server.since_start()
    wait(page, "studio.model.state.segments.length > 0")
    after = json.loads(page.evaluate(kept.format(stored=stored)))
    wait(page, f"{stored}.length > {len(before[1])}", 900)
    assert after[0] == before[0], "a keyframe was lost"
    assert set(before[1]) <= set(after[1]), "a rendered segment was lost"
    return server, f"nothing lost, the page is back after {again:.1f} s and the render went on by itself"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?")
    parser.add_argument("--long", type=int, default=10_000, help="frames of the long clip; 0 leaves it out")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = Path(scratch)
        clip = folder / "in.mp4"
        if arguments.clip is None:
            make_clip(clip, 325)
        else:
            clip = folder / arguments.clip.name
            clip.write_bytes(arguments.clip.read_bytes())
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 720})
        server = Server(clip, folder)
        try:
            page = context.new_page()
            rows = measure(page, server)
            server, rows["kill -9 while rendering, started again"] = killed(page, server, clip, folder)
        finally:
            server.stop()
        if arguments.long:
            long = make_clip(folder / "long.mp4", arguments.long, shots=max(1, arguments.long // 200))
            server = Server(long, folder)
            page = context.new_page()
            try:
                usable, picture = opening(page, server)
                rows[f"{arguments.long} frames: page usable / first picture (goal 4 s)"] = (
                    f"{usable:.1f} s / {picture:.1f} s"
                )
                wait(page, "studio.model.state.segments.length > 0", 1200)
                page.evaluate(STEPPING, 20)
                rows[f"{arguments.long} frames: looked through after"] = f"{server.since_start():.0f} s"
                rows[f"{arguments.long} frames: memory of the server (goal 600 MB)"] = f"{server.memory()[0]:.0f} MB"
            finally:
                server.stop()
        browser.close()
    for name, value in rows.items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
