"""What one edited keyframe costs: share of frames rendered again, time against a full run, bit-identity.

python benchmarks/rerender.py [--frames 1000] [--shots 20] [--size 160x90]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import torch

import sparkvsr
from sparkvsr.keyframes.references import resize_image
from sparkvsr.video import EncodeOptions, VideoReader, VideoWriter


def make_clip(path: Path, frames: int, shots: int, width: int, height: int) -> Path:
    """A drifting texture, another one in each shot."""
    generator = torch.Generator().manual_seed(0)
    length = frames // shots
    with VideoWriter(path, source=None, size=(height, width), options=EncodeOptions(crf=20)) as writer:
        for index in range(frames):
            if index % length == 0:
                colour = torch.rand(3, 1, 1, generator=generator)
                small = 0.5 * colour + 0.5 * torch.rand(3, height // 8, width // 8, generator=generator)
                texture = resize_image(small, (height, width + length))
            left = index % length
            writer.write(texture[:, :, left : left + width])
    return path


def same_frames(first: Path, second: Path) -> bool:
    """Whether two videos decode to the same pixels."""
    with VideoReader(first) as a, VideoReader(second) as b:
        return all(torch.equal(x.pixels, y.pixels) for x, y in zip(a, b, strict=True))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--shots", type=int, default=20)
    parser.add_argument("--size", default="160x90")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        clip = make_clip(folder / "in.mp4", arguments.frames, arguments.shots, width, height)
        refs, out = folder / "refs", folder / "out.mp4"
        tool = str(Path(sys.executable).with_name("sparkvsr"))
        subprocess.run(
            [tool, "keyframes", str(clip), "--scenes", "-o", str(refs)], check=True, stdout=subprocess.DEVNULL
        )
        model = sparkvsr.load_model("lite")

        def run(path: Path, **options: object) -> tuple[float, sparkvsr.UpscaleResult]:
            started = time.monotonic()
            result = sparkvsr.upscale(clip, path, model=model, references=refs, overwrite=True, **options)
            return time.monotonic() - started, result

        full_seconds, full = run(out)
        indices = full.keyframe_indices
        edited = refs / f"{indices[len(indices) // 2]:05d}.png"
        image = cv2.imread(str(edited))
        cv2.putText(image, "EDIT", (20, 100), cv2.FONT_HERSHEY_SIMPLEX, 3, (255, 255, 255), 6)
        cv2.imwrite(str(edited), image)
        again_seconds, again = run(out)
        stored = sum(path.stat().st_size for path in (folder / ".out.mp4.work").rglob("*") if path.is_file())
        run(folder / "reference.mp4", keep_work=False)
        print(f"{arguments.frames} frames of {arguments.size}, {len(indices)} keyframes: full run {full_seconds:.1f} s")
        share = again.rendered / again.frames
        print(f"after one edit: {again.rendered} frames rendered again ({share:.1%}), {again_seconds:.1f} s", end=" ")
        print(f"({again_seconds / full_seconds:.1%} of the full run)")
        print(f"work folder: {stored / 1e6:.1f} MB, output {out.stat().st_size / 1e6:.1f} MB")
        print(f"equal to a full run, frame for frame: {same_frames(out, folder / 'reference.mp4')}")


if __name__ == "__main__":
    main()
