"""The figures of docs/recipes.md: each recipe is walked on a public clip, as its page says.

    python benchmarks/recipes.py DATA [face sign film style cuts]

Clips, folders of references and results are made by `sparkvsr keyframes` and `sparkvsr upscale` (results as lossless
FFV1) in a temporary folder, read back, and measured: PSNR of the BT.601 luma without a border of 8 pixels.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import torch
from keyframe_reach import psnr, read_clip
from torch import Tensor

from sparkvsr.video import EncodeOptions, VideoReader, VideoWriter
from sparkvsr.video.pixels import resize_image

TOOL = str(Path(sys.executable).with_name("sparkvsr"))
SIGN_BOX = (slice(110, 370), slice(120, 500))
"""Rows and columns of the two shop signs in frame 0 of vid4_calendar."""


def luma(frames: Tensor) -> Tensor:
    """``(F, 3, H, W)`` in [0, 1] to BT.601 luma on the scale of 255, ``(F, H, W)``."""
    weights = torch.tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)
    return (frames * weights).sum(1) + 16


def run(*words: str | Path) -> None:
    """One command of ours."""
    subprocess.run([TOOL, *map(str, words)], check=True, capture_output=True)


def upscale(clip: Path, *words: str | Path) -> Tensor:
    """``(F, 3, H, W)`` of the result."""
    out = clip.with_name("out.mkv")
    run("upscale", clip, "-o", out, "--look", "faithful", "--codec", "ffv1", "--overwrite", *words)
    return read(out)


def read(path: Path, frames: int | None = None) -> Tensor:
    """``(F, 3, H, W)``."""
    with VideoReader(path, frames=frames) as reader:
        return torch.stack([frame.pixels for frame in reader])


def write(frames: Tensor, path: Path) -> Path:
    """Lossless."""
    size = (frames.shape[-2], frames.shape[-1])
    with VideoWriter(path, source=None, size=size, options=EncodeOptions(codec="ffv1"), overwrite=True) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def save(image: Tensor, path: Path) -> None:
    """``(3, H, W)`` as PNG."""
    cv2.imwrite(str(path), (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()[..., ::-1])


def load(path: Path) -> Tensor:
    """``(3, H, W)`` of a PNG."""
    return torch.from_numpy(cv2.imread(str(path))[..., ::-1].copy()).permute(2, 0, 1) / 255


def reduced(frames: Tensor, factor: int = 4) -> Tensor:
    """By a whole number, antialiased."""
    return resize_image(frames, (frames.shape[-2] // factor, frames.shape[-1] // factor)).clamp(0, 1)


def show(title: str, columns: Sequence[object], rows: dict[str, Sequence[float]], form: str = "{:.1f}") -> None:
    """A table for the page."""
    print(f"\n{title}\n| | {' | '.join(map(str, columns))} |\n|{'---|' * (len(columns) + 1)}")
    for name, values in rows.items():
        print(f"| {name} | {' | '.join(form.format(value) for value in values)} |", flush=True)


def face(data: Path, folder: Path) -> None:
    """Frame 0 of a damaged clip, replaced by the undamaged clip's, enlarged by a photo upscaler."""
    pristine = read(data / "lq" / "carphone_pristine.mp4", 60)
    damaged = write(read(data / "lq" / "carphone_distorted.mp4", 60), folder / "in.mkv")
    at = (0, 1, 4, 12, 20, 30, 59)

    def row(*words: str | Path) -> list[float]:
        # The undamaged clip is no larger than the damaged one, so results are compared at its size.
        found = psnr(reduced(upscale(damaged, *words)), pristine)
        return [*(found[k] for k in at), sum(found) / len(found)]

    run("keyframes", damaged, "--best", "3", "-o", folder / "three")
    run("keyframes", damaged, "--keyframes", "0", "-o", folder / "one")
    good = write(pristine[:1], folder / "good.mkv")
    run("keyframes", good, "--keyframes", "0", "--references", "realesrgan:animevideov3", "-o", folder / "good")
    rows = {"blind": row("--no-keyframes"), "three references by lite": row("--references", folder / "three")}
    shutil.copy(folder / "good" / "00000.png", folder / "one" / "00000.png")
    for guidance in ("1", "2"):
        name = f"frame 0 replaced, guidance {guidance}"
        rows[name] = row("--references", folder / "one", "--guidance", guidance)
    show("Face (carphone), dB", [*at, "mean"], rows)


def sign(data: Path, folder: Path) -> None:
    """The lettering of frame 0 replaced by the original's."""
    original = read_clip(data / "gt" / "vid4_calendar.mkv", 14)
    clip = write(reduced(original), folder / "in.mkv")
    at = (0, 1, 2, 4, 8, 13)

    def inside(result: Tensor) -> list[float]:
        return [psnr(result[k : k + 1, :, *SIGN_BOX], original[k : k + 1, :, *SIGN_BOX])[0] for k in at]

    def outside(result: Tensor) -> float:
        away = torch.ones(original.shape[-2:], dtype=torch.bool)
        # Frames move by less than 24 pixels in the clip; what lies within that of the box may be reached by it.
        away[SIGN_BOX[0].start - 24 : SIGN_BOX[0].stop + 24, SIGN_BOX[1].start - 24 : SIGN_BOX[1].stop + 24] = False
        error = (luma(result) - luma(original))[:, away].square().mean()
        return float(10 * torch.log10(255**2 / error))

    run("keyframes", clip, "--keyframes", "0", "-o", folder / "refs")
    image = folder / "refs" / "00000.png"
    results = {
        "blind": upscale(clip, "--no-keyframes"),
        "reference by lite": upscale(clip, "--references", image.parent),
    }
    edited = load(image)
    edited[:, *SIGN_BOX] = original[0, :, *SIGN_BOX]
    save(edited, image)
    results["lettering replaced"] = upscale(clip, "--references", image.parent)
    show("Sign (vid4_calendar), dB inside", at, {name: inside(result) for name, result in results.items()})
    for name, result in results.items():
        print(f"outside, {name}: {outside(result):.2f} dB")


def film(data: Path, folder: Path) -> None:
    """Grey, with grain and scratches of its own on every frame; keyframes without any, as a perfect tool gives them."""
    original = luma(read_clip(data / "gt" / "vid4_walk.mkv", 13)).sub(16).div(219).clamp(0, 1)[:, None]
    original = original.expand(-1, 3, -1, -1)
    generator = torch.Generator().manual_seed(0)
    aged = reduced(original).clone()
    aged += 0.03 * torch.randn(aged[:, :1].shape, generator=generator)
    for frame in aged:
        for column in torch.randint(0, aged.shape[-1], (3,), generator=generator):
            frame[:, :, column] += 0.3
    clip = write(aged.clamp(0, 1), folder / "in.mkv")
    run("keyframes", clip, "--every", "6", "--references", "bicubic", "-o", folder / "refs")
    for path in (folder / "refs").glob("000*.png"):
        save(original[int(path.stem)], path)
    between = [k for k in range(13) if k % 6]
    rows: dict[str, Sequence[float]] = {}
    for name, words in {
        "blind": ("--no-keyframes",),
        "guidance 1": ("--references", folder / "refs", "--guidance", "1"),
        "guidance 2": ("--references", folder / "refs", "--guidance", "2"),
    }.items():
        result = upscale(clip, *words)
        found = psnr(result, original)
        flicker = (result[1:] - result[:-1]).abs().mean() * 255
        chroma = (result.amax(1) - result.amin(1)).mean() * 255
        on, off = sum(found[::6]) / 3, sum(found[k] for k in between) / len(between)
        rows[name] = [on, off, float(flicker), float(chroma)]
    columns = ["keyframes, dB", "frames between, dB", "change from frame to frame (of 255)", "chroma (of 255)"]
    show("Film (vid4_walk, aged)", columns, rows, "{:.2f}")
    print(f"the original changes by {float((original[1:] - original[:-1]).abs().mean() * 255):.2f} from frame to frame")


def style(data: Path, folder: Path) -> None:
    """Frame 0 turned to sepia."""
    original = read_clip(data / "gt" / "whitedog.mp4", 32)
    small = resize_image(original, (90, 160)).clamp(0, 1)
    clip = write(small, folder / "in.mkv")
    run("keyframes", clip, "--keyframes", "0", "-o", folder / "refs")
    matrix = torch.tensor([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
    image = folder / "refs" / "00000.png"
    save(torch.einsum("ij,jhw->ihw", matrix, load(image)), image)
    blind = upscale(clip, "--no-keyframes")
    wanted = torch.einsum("ij,fjhw->fihw", matrix, blind).clamp(0, 1)

    def tint(frames: Tensor) -> Tensor:
        return (frames[:, 0] - frames[:, 2]).mean((-2, -1))

    at = (0, 1, 4, 8, 16, 31)
    rows: dict[str, Sequence[float]] = {}
    for guidance in ("1", "2", "4"):
        result = upscale(clip, "--references", image.parent, "--guidance", guidance)
        share = (tint(result) - tint(blind)) / (tint(wanted) - tint(blind))
        rows[f"guidance {guidance}"] = [100 * float(share[k]) for k in at]
    show("Style (whitedog), share of the tint", at, rows, "{:.0f}%")


def cuts(data: Path, folder: Path) -> None:
    """A keyframe before a cut leaves the shot after it alone."""
    first, second = (reduced(read_clip(data / "gt" / name, 10)) for name in ("vid4_calendar.mkv", "vid4_foliage.mkv"))
    height, width = (min(a, b) for a, b in zip(first.shape[-2:], second.shape[-2:], strict=True))
    clip = write(torch.cat([first[..., :height, :width], second[..., :height, :width]]), folder / "in.mkv")
    blind = upscale(clip, "--no-keyframes")
    keyed = upscale(clip, "--keyframes", "0", "--references", "bicubic")
    change = (keyed - blind).abs().amax((1, 2, 3)) * 255
    print(f"\nCuts: largest change of 255 in shot 1 {change[:10].max():.0f}, in shot 2 {change[10:].max():.0f}")


RECIPES: dict[str, Callable[[Path, Path], None]] = {
    "face": face,
    "sign": sign,
    "film": film,
    "style": style,
    "cuts": cuts,
}


def main() -> None:
    """Walk the asked recipes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with gt/ and lq/")
    parser.add_argument("recipes", nargs="*", choices=[*RECIPES, []], help="default: all")
    arguments = parser.parse_args()
    for name in arguments.recipes or RECIPES:
        with tempfile.TemporaryDirectory() as folder:
            RECIPES[name](arguments.data, Path(folder))


if __name__ == "__main__":
    main()
