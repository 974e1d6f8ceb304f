"""`sparkvsr compare` as a user runs it, and its page as a browser shows it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from importlib.metadata import entry_points
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from sparkvsr.inference.compare.comparison import match_size, wipe, wipe_position
from sparkvsr.output_lock import OutputLock

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def write_clip(path: Path, level: int, frames: int = 10, size: tuple[int, int] = (48, 64), rate: int = 25) -> Path:
    """Grey frames, brighter by 5 each."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=rate, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        for index in range(frames):
            picture = np.full((*size, 3), level + 5 * index, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        out.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return write_clip(folder / "dark.mp4", 40), write_clip(folder / "light.mp4", 140)


def run(*arguments: str | Path) -> Result:
    app = next(iter(entry_points(group="console_scripts", name="sparkvsr"))).load().__globals__["app"]
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def fails(result: Result, code: int, words: str) -> None:
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1, result.stderr
    assert words in lines[0], lines[0]


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_side_by_side_shows_both_in_order(clips: tuple[Path, Path], tmp_path: Path) -> None:
    result = run(*clips, "-o", tmp_path / "out.mp4")
    assert result.exit_code == 0, result.output
    frames = decode(tmp_path / "out.mp4")
    assert len(frames) == 10
    assert frames[0].shape == (48, 132, 3)
    for index in (0, 9):
        assert frames[index][5, 20].mean() == pytest.approx(40 + 5 * index, abs=4)
        assert frames[index][5, 110].mean() == pytest.approx(140 + 5 * index, abs=4)


def test_wipe_moves_a_line_over_one_picture(clips: tuple[Path, Path], tmp_path: Path) -> None:
    result = run(*clips, "-o", tmp_path / "out.mp4", "--wipe", "--labels", "before, after", "--json")
    assert result.exit_code == 0, result.output
    frames = decode(tmp_path / "out.mp4")
    assert frames[0].shape == (48, 64, 3)
    assert frames[0][5, 5].mean() == pytest.approx(40, abs=5)
    assert frames[0][5, 60].mean() == pytest.approx(140, abs=5)
    assert json.loads(result.stdout.splitlines()[-1])["event"] == "compared"


def test_the_wipe_splits_where_it_says() -> None:
    dark, light = torch.zeros(3, 40, 100), torch.full((3, 40, 100), 0.5)
    out = wipe(dark, light, 0.3, ("a", "b"))
    assert out[0, 0, :29].max() == 0
    assert out[0, 0, 30] == 1
    assert out[0, 0, 31:].min() == 0.5
    assert wipe(dark, light, 0.0, ("a", "b")).shape == (3, 40, 100)
    assert wipe(dark, light, 1.0, ("a", "b"))[0, 0, :98].max() == 0
    assert [round(wipe_position(seconds), 3) for seconds in (0, 1, 2, 3)] == [0.5, 0, 0.5, 1]


def test_the_smaller_clip_is_enlarged_and_that_is_said(clips: tuple[Path, Path], tmp_path: Path) -> None:
    large = write_clip(tmp_path / "large.mp4", 90, frames=7, size=(96, 128), rate=50)
    result = run(clips[0], large, "-o", tmp_path / "out.mp4", "--resize", "nearest")
    assert result.exit_code == 0, result.output
    assert "dark.mp4 (64x48) is scaled up to 128x96 (nearest)" in result.stdout
    assert "10 against 7 frames: only the first 7 are compared" in result.stdout
    assert "25 against 50 fps" in result.stdout
    assert len(decode(tmp_path / "out.mp4")) == 7


def test_nearest_keeps_pixels_and_bicubic_keeps_the_range() -> None:
    frame = torch.rand(3, 5, 6)
    assert torch.equal(match_size(frame, (20, 24), "nearest")[:, ::4, ::4], frame)
    smooth = match_size(frame, (20, 24), "bicubic")
    assert 0 <= smooth.min() <= smooth.max() <= 1


def test_a_part_of_the_clips(clips: tuple[Path, Path], tmp_path: Path) -> None:
    assert run(*clips, "-o", tmp_path / "out.mp4", "--start", "4", "--frames", "3").exit_code == 0
    frames = decode(tmp_path / "out.mp4")
    assert len(frames) == 3
    assert frames[0][5, 20].mean() == pytest.approx(60, abs=4)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--labels", "one"], 2, "is not two names"),
        (["--labels", "a,b,c"], 2, "is not two names"),
        (["--resize", "lanczos"], 2, "use bicubic or nearest"),
        (["--start", "10"], 2, "--start 10 is beyond the clips"),
        (["--start", "-1"], 2, "--start -1"),
        (["--frames", "0"], 2, "--frames 0"),
        (["--html-frames", "0"], 2, "--html-frames 0"),
        (["-o", "x.html", "--wipe"], 2, "--wipe is for videos"),
        (["-o", "x.txt"], 1, ".txt"),
    ],
)
def test_wrong_usage_is_one_clear_line(
    clips: tuple[Path, Path],
    arguments: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    fails(run(*clips, *arguments), code, words)
    assert list(tmp_path.iterdir()) == []


def test_outputs_are_not_replaced_and_shapes_have_to_fit(clips: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("out.mp4", "out.html"):
        (tmp_path / name).write_text("mine")
        fails(run(*clips, "-o", tmp_path / name), 1, "--overwrite")
        assert (tmp_path / name).read_text() == "mine"
    assert run(*clips, "-o", tmp_path / "out.html", "--overwrite").exit_code == 0
    square = write_clip(tmp_path / "square.mp4", 10, size=(64, 64))
    fails(run(clips[0], square, "-o", tmp_path / "x.mp4"), 2, "aspect ratios differ")
    fails(run(clips[0], tmp_path / "none.mp4", "-o", tmp_path / "x.mp4"), 1, "none.mp4")
    (tmp_path / "file").write_text("")
    fails(run(*clips, "-o", tmp_path / "file" / "x.html"), 1, "cannot be written")


def page_of(clips: tuple[Path, Path], folder: Path, *arguments: str) -> str:
    result = run(*clips, "-o", folder / "page.html", *arguments)
    assert result.exit_code == 0, result.output
    return (folder / "page.html").read_text()


def test_a_comparison_too_wide_for_the_codec_is_refused_before_a_frame(tmp_path: Path) -> None:
    wide = tmp_path / "wide.png"
    cv2.imwrite(str(wide), np.zeros((32, 9000, 3), np.uint8))
    fails(run(wide, wide, "-o", tmp_path / "c.mp4"), 1, "h264 cannot encode frames of 18004x32; use --wipe or .html")
    assert not (tmp_path / "c.mp4").exists()


def test_the_page_is_one_file_without_any_address(clips: tuple[Path, Path], tmp_path: Path) -> None:
    page = page_of(clips, tmp_path, "--html-frames", "4")
    without_pictures = re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", "", page)
    assert page.count("data:image/jpeg;base64,") == 8
    assert not re.search(r"https?:|//|@[A-Z]+@", without_pictures.replace("</", ""))
    assert "default-src 'none'" in page
    assert len(without_pictures) < 12_000
    frames = json.loads(re.search(r"const frames = (\[.*\]);", page)[1])  # type: ignore[index]
    assert [frame["index"] for frame in frames] == [0, 3, 6, 9]
    assert "the page holds 4 of 10 frames" in page


def test_hostile_labels_stay_text(clips: tuple[Path, Path], tmp_path: Path) -> None:
    page = page_of(clips, tmp_path, "--labels", '<script>alert(1)</script>@FRAMES@,"><img src=x onerror=alert(1)>')
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;@FRAMES@" in page


# What a person does, and what is then on the screen; the result is left in the page's title.
DRIVER = """
<script>
addEventListener("load", () => {
  const seen = [];
  const state = () => [frame, Math.round(wipe), byId("first").dataset.index, byId("first").naturalWidth,
                       byId("first").style.clipPath, byId("where").textContent];
  const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
  const slide = (id, value) => { byId(id).value = value; byId(id).dispatchEvent(new Event("input")); };
  const point = (type, share) => {
    const box = stage.getBoundingClientRect();
    stage.dispatchEvent(new PointerEvent(type, {clientX: box.left + share * box.width, clientY: box.top + 5,
      pointerType: "mouse", pointerId: 1, bubbles: true}));
  };
  seen.push(["start", ...state()]);
  press("ArrowRight"); seen.push(["right", ...state()]);
  press("End"); press("ArrowRight"); seen.push(["end", ...state()]);
  press("ArrowLeft"); seen.push(["left", ...state()]);
  press("Home"); press("1"); seen.push(["first", ...state()]);
  press("2"); seen.push(["second", ...state()]);
  press(" "); seen.push(["swap", ...state()]);
  press("ArrowDown"); seen.push(["down", ...state()]);
  slide("frame", 2); slide("wipe", 25); seen.push(["slide", ...state()]);
  point("pointermove", 0.7); seen.push(["mouse", ...state()]);
  point("pointerdown", 0.1); seen.push(["press", ...state()]);
  document.title = "RESULT" + JSON.stringify(seen);
});
</script>
"""


def test_the_page_works_in_a_browser(clips: tuple[Path, Path], tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)} in the PATH")
    page = page_of(clips, tmp_path, "--html-frames", "4")
    (tmp_path / "driven.html").write_text(page.replace("</body>", DRIVER + "</body>"))
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=900,900", "--dump-dom",
        (tmp_path / "driven.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r"<title>RESULT(.*?)</title>", done.stdout)
    assert found, done.stderr[-2000:] + done.stdout[-2000:]
    seen = {name: state for name, *state in json.loads(html.unescape(found[1]))}
    assert seen["start"][:4] == [0, 50, "0", 64]
    assert seen["start"][4] == "inset(0px 50% 0px 0px)"
    assert seen["start"][5] == "0 at 0:00.00 (1 of 4)"
    assert seen["right"][:3] == [1, 50, "3"]
    assert seen["right"][5] == "3 at 0:00.12 (2 of 4)"
    assert seen["end"][:3] == [3, 50, "9"]
    assert seen["left"][:3] == [2, 50, "6"]
    assert seen["first"][:2] == [0, 100]
    assert seen["second"][:2] == [0, 0]
    assert seen["swap"][1] == 100
    assert seen["down"][1] == 95
    assert seen["slide"][:2] == [2, 25]
    assert seen["mouse"][:2] == [2, 70]
    assert seen["press"][:2] == [2, 10]


def test_two_comparisons_into_one_file_do_not_mix(clips: tuple[Path, Path], tmp_path: Path) -> None:
    with OutputLock(tmp_path / "c.mp4"):
        fails(run(*clips, "-o", tmp_path / "c.mp4"), 1, "another sparkvsr writes")
    assert run(*clips, "-o", tmp_path / "c.mp4").exit_code == 0


def test_images_can_be_compared(tmp_path: Path) -> None:
    for name, value in (("a.png", 20), ("b.png", 200)):
        cv2.imwrite(str(tmp_path / name), np.full((30, 40, 3), value, np.uint8))
    assert run(tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "c.html").exit_code == 0


def test_numbered_images_are_compared_by_number(tmp_path: Path) -> None:
    for name, level, gap in (("a", 40, 2), ("b", 140, 5)):
        (tmp_path / name).mkdir()
        for number in range(8):
            if number != gap:
                cv2.imwrite(
                    str(tmp_path / name / f"{number:03d}.png"), np.full((48, 64, 3), level + 8 * number, np.uint8)
                )
    result = run(tmp_path / "a", tmp_path / "b", "-o", tmp_path / "c.mp4", "--start", "1", "--frames", "4")
    assert result.exit_code == 0, result.output
    assert "paired by their numbers; in one of the folders only, left out: 2, 5" in " ".join(result.output.split())
    frames = decode(tmp_path / "c.mp4")
    expected = [8 * number for number in (1, 3, 4, 6)]
    assert [int(frame[10, 20].mean()) - 40 for frame in frames] == pytest.approx(expected, abs=3)
    assert [int(frame[10, -20].mean()) - 140 for frame in frames] == pytest.approx(expected, abs=3)
    assert run(tmp_path / "a", tmp_path / "b", "-o", tmp_path / "c.html").exit_code == 0
    (tmp_path / "far").mkdir()
    for number in (100, 102):
        cv2.imwrite(str(tmp_path / "far" / f"{number}.png"), np.zeros((48, 64, 3), np.uint8))
    fails(run(tmp_path / "a", tmp_path / "far", "-o", tmp_path / "d.mp4"), 2, "no image of the same number")
