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
from clips import drifting_textures

import sparkvsr
from sparkvsr.video import VideoReader


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
        shot_frames = arguments.frames // arguments.shots
        clip = drifting_textures(folder / "in.mp4", arguments.frames, (height, width), shot_frames)
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
