"""Precompute training samples with everything that needs OpenCV, so that training only reads memory maps.

    python benchmarks/lite_training/make_samples.py --out /work/scratch/lite/samples --minutes 10 --seed 0

A sample is a window of WINDOW consecutive LR crops with their HR truth, the one-frame flows, and a keyframe up to 32
frames away with the motion to it, estimated by the same code that runs at inference.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from degradation import degraded
from numpy.typing import NDArray
from synthetic_motion import render_clip

from sparkvsr.models.lite.motion import KeyframeMotion, flow_between, grey_of, round_trip_error, track_keyframe

WINDOW = 6
CROP = 40  # LR pixels
KEY_CROP = 72  # LR pixels: room for the motion between the frame and the keyframe
FIELDS: dict[str, tuple[tuple[int, ...], type]] = {
    "lr": ((WINDOW, CROP, CROP, 3), np.uint8),
    "hr": ((WINDOW, 4 * CROP, 4 * CROP, 3), np.uint8),
    "step": ((WINDOW, CROP, CROP, 2), np.float16),  # flow to the frame before; unused for the first
    "key_lr": ((KEY_CROP, KEY_CROP, 3), np.uint8),
    "key_hr": ((4 * KEY_CROP, 4 * KEY_CROP, 3), np.uint8),
    "to_key": ((WINDOW, CROP, CROP, 2), np.float16),  # flow to the keyframe, in the keyframe crop's own coordinates
    "round_trip": ((WINDOW, CROP, CROP), np.float16),
}
SHARD = 256


class ShardWriter:
    """Writes samples into numbered memory-mapped shards; a shard is complete once its ``done`` file is there."""

    def __init__(self, root: Path, prefix: str) -> None:
        self.root, self.prefix, self.number, self.fill = root, prefix, 0, 0
        root.mkdir(parents=True, exist_ok=True)
        self._open()

    def _open(self) -> None:
        self.folder = self.root / f"{self.prefix}_{self.number:03d}"
        self.folder.mkdir(exist_ok=True)
        self.maps = {
            name: np.lib.format.open_memmap(self.folder / f"{name}.npy", "w+", dtype=dtype, shape=(SHARD, *shape))
            for name, (shape, dtype) in FIELDS.items()
        }

    def add(self, sample: dict[str, NDArray]) -> None:
        for name, value in sample.items():
            self.maps[name][self.fill] = value
        self.fill += 1
        if self.fill == SHARD:
            for values in self.maps.values():
                values.flush()
            (self.folder / "done").touch()
            self.number, self.fill = self.number + 1, 0
            self._open()


def windows_of_take(
    hr: NDArray, key_hr: NDArray, lr: NDArray, rng: np.random.Generator, *, starts: int, crops: int
) -> list[dict[str, NDArray]]:
    """Cut samples from one clip with its keyframe at frame 0 (or, a fifth of the time, at the last frame)."""
    count = len(lr)
    greys = [grey_of(image) for image in lr]
    ahead = rng.random() < 0.2
    key = count - 1 if ahead else 0
    steps = [np.zeros((*greys[0].shape, 2), np.float32)]
    motion: KeyframeMotion | None = None
    motions: list[KeyframeMotion] = []
    for t in range(count):
        step = flow_between(greys[t], greys[t - 1]) if t else None
        if step is not None:
            steps.append(step)
        motion = track_keyframe(greys[t], greys[key], motion, step)
        motions.append(motion)
    samples = []
    last_start = count - WINDOW
    for start in rng.permutation(last_start + 1)[:starts]:
        if rng.random() < 0.25:
            start = min(last_start, 1 if not ahead else last_start)
        for _ in range(crops):
            sample = _cut(hr, key_hr, lr, steps, motions, int(start), key, rng)
            if sample is not None:
                samples.append(sample)
    return samples


def _cut(hr, key_hr, lr, steps, motions, start, key, rng):
    height, width = lr.shape[1:3]
    times = range(start, start + WINDOW)
    best, best_score = None, -1.0
    for _ in range(2):  # the busier of two places: flat sky teaches nothing
        y, x = int(rng.integers(0, height - CROP + 1)), int(rng.integers(0, width - CROP + 1))
        score = float(lr[start, y : y + CROP, x : x + CROP].std())
        if score > best_score:
            best, best_score = (y, x), score
    y, x = best
    here = (slice(y, y + CROP), slice(x, x + CROP))
    flows = np.stack([motions[t].to_key[here] for t in times])
    mean = flows.reshape(-1, 2).mean(0)
    key_y, key_x = KEY_CROP, KEY_CROP
    top = round(float(y + mean[1] - (key_y - CROP) / 2))
    left = round(float(x + mean[0] - (key_x - CROP) / 2))
    pad = KEY_CROP
    if not (-pad < top < height and -pad < left < width):
        return None
    rows = np.clip(np.arange(top, top + key_y), 0, height - 1)
    cols = np.clip(np.arange(left, left + key_x), 0, width - 1)
    rows4 = np.clip(np.arange(4 * top, 4 * (top + key_y)), 0, 4 * height - 1)
    cols4 = np.clip(np.arange(4 * left, 4 * (left + key_x)), 0, 4 * width - 1)
    return {
        "lr": lr[start : start + WINDOW, here[0], here[1]],
        "hr": hr[start : start + WINDOW, 4 * y : 4 * (y + CROP), 4 * x : 4 * (x + CROP)],
        "step": np.stack([steps[t][here] for t in times]),
        "key_lr": lr[key][rows][:, cols],
        "key_hr": key_hr[key][rows4][:, cols4],
        "to_key": flows + np.float32([x - left, y - top]),
        "round_trip": np.stack([np.minimum(round_trip_error(motions[t])[here], 100) for t in times]),
    }


def load_photos(root: Path) -> list[NDArray]:
    """Every training photo as RGB, large ones only, sharp at pixel level."""
    paths = [p for p in sorted(root.glob("photos_*/**/*")) if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")]
    photos = []
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is not None and min(image.shape[:2]) >= 400:
            photos.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    return photos


def load_clip(path: Path) -> NDArray:
    """All frames of a clip, uint8 RGB, sides cropped to multiples of 8."""
    with av.open(str(path)) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    height, width = frames.shape[1] // 8 * 8, frames.shape[2] // 8 * 8
    return frames[:, :height, :width]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/work/shared/data/train"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=["mixed", "clips", "photos", "styled"], default="mixed")
    parser.add_argument("--styled", type=Path, help="folder of name.npy pairs made by style_photos.py")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    rng = np.random.default_rng(args.seed)
    writer = ShardWriter(args.out, f"{args.kind}{args.seed}")
    photos = load_photos(args.data) if args.kind in ("mixed", "photos") else []
    clips = (
        [load_clip(p) for p in sorted((args.data / "clips").glob("*.mp4"))] if args.kind in ("mixed", "clips") else []
    )
    styled = [np.load(p) for p in sorted(args.styled.glob("*.npy"))] if args.kind == "styled" else []
    stop, made = time.monotonic() + args.minutes * 60, 0
    while time.monotonic() < stop:
        length = int(rng.choice([8, 16, 33], p=[0.35, 0.4, 0.25]))
        if styled:
            picks = rng.choice(len(styled), 3, replace=False)
            truth, look = render_clip([list(styled[i]) for i in picks], (320, 448), length, rng)
            lr, hr, key_hr, crops = degraded(truth, rng), look, look, 3
        elif clips and (not photos or rng.random() < 0.35):
            clip = clips[int(rng.integers(len(clips)))]
            length = min(length, len(clip))
            start = int(rng.integers(0, len(clip) - length + 1))
            hr = clip[start : start + length]
            hr = hr[::-1] if rng.random() < 0.5 else hr
            hr = np.ascontiguousarray(hr)
            lr, key_hr, crops = degraded(hr, rng), hr, 3 if hr.shape[1] < 300 else 6
        else:
            picks = rng.choice(len(photos), 3, replace=False)
            (hr,) = render_clip([[photos[i]] for i in picks], (320, 448), length, rng)
            lr, key_hr, crops = degraded(hr, rng), hr, 3
        for sample in windows_of_take(hr, key_hr, lr, rng, starts=2 if length == 8 else 3, crops=crops):
            writer.add(sample)
            made += 1
    print(f"{made} samples in {args.out}")


if __name__ == "__main__":
    main()
