"""The pictures of docs/studio.md, taken in Chromium: python benchmarks/studio_pictures.py CLIP

CLIP is the one of `make demo`, or a part of it. Takes about two minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Page, sync_playwright
from studio import Server, opening, wait

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
WEBP_QUALITY = 84
PATIENCE = 1800.0
"""Seconds for what a slow machine needs."""


def keep(page: Page, name: str) -> None:
    """A screenshot as WebP."""
    data = np.frombuffer(page.screenshot(), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    path = FOLDER / f"studio_{name}.webp"
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def go_to(page: Page, frame: int) -> None:
    """Show a frame."""
    page.keyboard.press("g")
    page.keyboard.type(str(frame))
    page.keyboard.press("Enter")
    wait(page, f"document.getElementById('picture').dataset.frame === '{frame}'")


def take(page: Page, server: Server, first: int, second: int) -> None:
    """All pictures, one after the other."""
    opening(page, server)
    wait(page, "studio.model.studio.ready && studio.model.state.segments.length > 0", PATIENCE)
    page.focus("#stage")
    for frame in (first, second):
        go_to(page, frame)
        page.keyboard.press("Enter")
        wait(page, f"studio.model.state.keyframes.some((one) => one.index === {frame})", PATIENCE)
    page.keyboard.press("Shift+S")
    wait(page, "studio.model.state.queue.some((one) => one.done > one.total / 3)", PATIENCE)
    keep(page, "rendering")
    wait(page, "studio.model.state.queue.length === 0", PATIENCE)
    go_to(page, first)
    time.sleep(4)
    keep(page, "wipe")
    page.keyboard.press("4")
    time.sleep(1)
    keep(page, "difference")
    page.keyboard.press("3")
    page.keyboard.press("o")
    wait(page, "studio.model.state.keyframes.some((one) => one.maker === 'output')")
    page.keyboard.press("b")
    page.wait_for_selector("#paint-apply")
    box = page.locator("#picture").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + box["height"] * 0.6, steps=12)
    page.mouse.up()
    time.sleep(0.5)
    keep(page, "brush")
    page.keyboard.press("Escape")


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--frames", type=int, nargs=2, default=(20, 70), help="two frames that become keyframes")
    arguments = parser.parse_args()
    first, second = arguments.frames
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = Path(scratch)
        clip = folder / arguments.clip.name
        clip.write_bytes(arguments.clip.read_bytes())
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 720}, color_scheme="dark")
        server = Server(clip, folder)
        try:
            take(context.new_page(), server, first, second)
        finally:
            context.close()
            server.stop()
            browser.close()


if __name__ == "__main__":
    main()
