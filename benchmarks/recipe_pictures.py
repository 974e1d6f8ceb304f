"""The pictures of docs/recipes.md: single frames of two recipes, source, blind and with the keyframe.

    python benchmarks/recipe_pictures.py DATA [face sign]

The same clips and steps as `benchmarks/recipes.py`, fewer frames. Writes docs/images/recipe_NAME.jpg.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import torch
from keyframe_reach import read_clip
from recipes import SIGN_BOX, load, read, reduced, run, save, upscale, write
from torch import Tensor

from sparkvsr.inference.compare.captions import side_by_side
from sparkvsr.video.pixels import resize_image

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
JPEG_QUALITY = 85
GAP = 4


def strip(pictures: Sequence[tuple[str, Tensor]], height: int) -> Tensor:
    """Pictures of one frame beside each other, with captions; ``(3, height, W)``."""
    same = [
        (text, resize_image(image, (height, round(height * image.shape[-1] / image.shape[-2]))))
        for text, image in pictures
    ]
    row = same[0][1]
    pairs = [
        side_by_side(left[1], right[1], left[0], right[0]) for left, right in zip(same[::2], same[1::2], strict=False)
    ]
    row = torch.cat(pairs, dim=-1) if pairs else row
    if len(same) % 2:
        text, image = same[-1]
        alone = side_by_side(image, image[..., :1], text, "")[..., : image.shape[-1]]
        row = torch.cat([row, torch.ones(3, height, GAP), alone], dim=-1)
    return row


def publish(name: str, rows: Sequence[Tensor]) -> None:
    """Rows under each other, as one JPEG."""
    line = torch.ones(3, GAP, rows[0].shape[-1])
    picture = torch.cat([part for row in rows for part in (row, line)][:-1], dim=-2)
    pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()[..., ::-1]
    path = IMAGES / f"recipe_{name}.jpg"
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    print(f"{path.name}: {picture.shape[-1]}x{picture.shape[-2]}, {path.stat().st_size / 1e3:.0f} kB", flush=True)


def face(data: Path, folder: Path) -> None:
    """A face in blocks; frame 0 replaced, guidance 2."""
    good = write(read(data / "lq" / "carphone_pristine.mp4", 1), folder / "good.mkv")
    damaged = write(read(data / "lq" / "carphone_distorted.mp4", 13), folder / "in.mkv")
    run("keyframes", damaged, "--keyframes", "0", "-o", folder / "one")
    run("keyframes", good, "--keyframes", "0", "--references", "realesrgan:animevideov3", "-o", folder / "good")
    shutil.copy(folder / "good" / "00000.png", folder / "one" / "00000.png")
    blind, mended = (
        upscale(damaged, "--no-keyframes"),
        upscale(damaged, "--references", folder / "one", "--guidance", "2"),
    )
    source = read(damaged)
    rows = []
    for k in (0, 4, 12):
        pictures = (("source", source[k]), ("blind", blind[k]), ("frame 0 replaced", mended[k]))
        rows.append(strip([(f"{text}, frame {k}", picture) for text, picture in pictures], 230))
    publish("face", rows)


def sign(data: Path, folder: Path) -> None:
    """Lettering that cannot be read, replaced in frame 0."""
    original = read_clip(data / "gt" / "vid4_calendar.mkv", 9)
    clip = write(reduced(original), folder / "in.mkv")
    run("keyframes", clip, "--keyframes", "0", "-o", folder / "refs")
    image = folder / "refs" / "00000.png"
    edited = load(image)
    edited[:, *SIGN_BOX] = original[0, :, *SIGN_BOX]
    save(edited, image)
    source, blind, mended = read(clip), upscale(clip, "--no-keyframes"), upscale(clip, "--references", image.parent)
    small = tuple(slice(side.start // 4, side.stop // 4) for side in SIGN_BOX)
    k = 8
    pictures = (
        ("source", source[k, :, *small]),
        ("blind", blind[k, :, *SIGN_BOX]),
        ("frame 0 mended", mended[k, :, *SIGN_BOX]),
    )
    publish("sign", [strip([(f"{text}, frame {k}", picture) for text, picture in pictures], 200)])


def main() -> None:
    """Make the pictures that were asked for."""
    makers: dict[str, Callable[[Path, Path], None]] = {"face": face, "sign": sign}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with gt/ and lq/")
    parser.add_argument("names", nargs="*", choices=[*makers, []], help="default: all")
    arguments = parser.parse_args()
    for name in arguments.names or makers:
        with tempfile.TemporaryDirectory() as folder:
            makers[name](arguments.data, Path(folder))


if __name__ == "__main__":
    main()
