# ruff: noqa: ARG001  (all traps are called alike)
"""How well cuts are found: precision and recall on clips whose cuts are known because this script makes them.

    python benchmarks/cuts.py                 # 60 clips
    python benchmarks/cuts.py --clips 12      # a quick look

Every clip is a row of scenes (textures of other colours and structure, panned, zoomed, dark or bright) with true cuts
between them, and one kind of trap inside: a flash, a strobe, lightning, a blackout, a fade, single black, white or
damaged frames, exposure jumps, something that passes close by, noise. The same clips say whether automatic keyframes
lie on good frames.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from sparkvsr.keyframes.cuts import detect_cuts
from sparkvsr.keyframes.frame_watch import FrameWatch
from sparkvsr.keyframes.select import iframes_and_scenes, off_bad_frames
from sparkvsr.keyframes.shots import shots_from_cuts

SIZE = (90, 160)
Frames = list[np.ndarray]


@dataclass
class Clip:
    """A clip with its truth.

    Attributes:
        frames: ``(h, w, 3)`` float in [0, 1].
        cuts: first frames of new shots.
        bad: frames that no keyframe should lie on.
    """

    kind: str
    frames: Frames
    cuts: list[int] = field(default_factory=list)
    bad: set[int] = field(default_factory=set)


def scene(rng: np.random.Generator, length: int, *, speed: float | None = None) -> Frames:
    """One shot: a random texture of several scales, panned and lit in its own way."""
    h, w = SIZE
    world = torch.zeros(1, 3, 3 * h, 3 * w)
    for cells in (3, 7, 16, 40):
        noise = torch.from_numpy(rng.normal(size=(1, 3, cells, round(cells * w / h)))).float()
        world += F.interpolate(noise, size=world.shape[-2:], mode="bicubic") / cells**0.35
    colour = torch.from_numpy(rng.uniform(0.15, 0.85, size=(1, 3, 1, 1))).float()
    contrast = float(rng.uniform(0.08, 0.2))
    world = (colour + contrast * world / world.std()).clamp(0.0, 1.0)
    angle, pace = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2.0) if speed is None else speed
    frames = []
    for k in range(length):
        top = int(h + np.clip(np.sin(angle) * pace * k, -h, h))
        left = int(w + np.clip(np.cos(angle) * pace * k, -w, w))
        frames.append(world[0, :, top : top + h, left : left + w].permute(1, 2, 0).numpy().copy())
    return frames


def _nothing(frames: Frames, at: int, rng: np.random.Generator) -> set[int]:
    return set()


def _flash(frames: Frames, at: int, rng: np.random.Generator) -> set[int]:
    length = int(rng.integers(1, 4))
    for k in range(length):
        frames[at + k] = np.ones_like(frames[0])
    return set(range(at, at + length))


def _decaying_flash(frames: Frames, at: int, rng: np.random.Generator) -> set[int]:
    for k, share in enumerate((1.0, 0.9, 0.7, 0.5, 0.3, 0.1)):
        frames[at + k] = frames[at + k] * (1 - share) + share
    return set(range(at, at + 3))


def _strobe(frames: Frames, at: int, rng: np.random.Generator) -> set[int]:
    period = int(rng.integers(2, 6))
    hit = set(range(at, at + 18, period))
    for k in hit:
        frames[k] = np.ones_like(frames[0])
    return hit


def _lightning(frames: Frames, at: int, rng: np.random.Generator) -> set[int]:
    hit = {at, at + 1, at + 4, at + 5, at + 9}
    for k in hit:
        frames[k] = np.clip(frames[k] * 1.5 + 0.45, 0, 1)
    return hit


def _blackout(frames: Frames, at: int, rng: np.random.Generator) -> set[int]:
    length = int(rng.integers(1, 16))
    for k in range(length):
        frames[at + k] = np.zeros_like(frames[0])
    return set(range(at, at + length))


def _fade(frames: Frames, at: int, rng: np.random.Generator) -> set[int]:
    length = int(rng.integers(4, 10))
    for k in range(length):
        frames[at + k] = frames[at + k] * (1 - (k + 1) / length)
        frames[at + length + k] = frames[at + length + k] * (k + 1) / length
    return set(range(at + length - 1, at + length + 1))


def _fade_in(frames: Frames, at: int, rng: np.random.Generator) -> set[int]:
    length = int(rng.integers(5, 12))
    for k in range(length):
        frames[k] = frames[k] * (k / length)
    return {0}


def _garbage(frames: Frames, at: int, rng: np.random.Generator) -> set[int]:
    frames[at] = rng.uniform(0, 1, size=frames[0].shape).astype(np.float32)
    return {at}


def _blocks(frames: Frames, at: int, rng: np.random.Generator) -> set[int]:
    """What a decoder shows after a lost slice: the lower part green or grey."""
    damaged = frames[at].copy()
    damaged[SIZE[0] // 3 :] = (0.0, 0.5, 0.0)
    frames[at] = damaged
    return {at}


def _exposure(frames: Frames, at: int, rng: np.random.Generator) -> set[int]:
    for k in range(at, len(frames)):
        frames[k] = np.clip(frames[k] * 0.55, 0, 1)
    return set()


def _noise(frames: Frames, at: int, rng: np.random.Generator) -> set[int]:
    for k, frame in enumerate(frames):
        frames[k] = np.clip(frame + rng.normal(scale=0.04, size=frame.shape), 0, 1).astype(np.float32)
    return set()


def _blur(frames: Frames, at: int, rng: np.random.Generator) -> set[int]:
    hit = {at, at + 1}
    for k in hit:
        picture = torch.from_numpy(frames[k]).permute(2, 0, 1)[None].float()
        frames[k] = F.avg_pool2d(picture, (1, 15), 1, (0, 7), count_include_pad=False)[0].permute(1, 2, 0).numpy()
    return hit


TRAPS: dict[str, Callable[[Frames, int, np.random.Generator], set[int]]] = {
    "plain": _nothing,
    "flash": _flash,
    "decaying flash": _decaying_flash,
    "strobe": _strobe,
    "lightning": _lightning,
    "blackout": _blackout,
    "fade out and in": _fade,
    "fade in": _fade_in,
    "garbage frame": _garbage,
    "damaged frame": _blocks,
    "exposure jump": _exposure,
    "noise": _noise,
    "motion blur": _blur,
}


def make_clip(kind: str, seed: int) -> Clip:
    """Three shots, with a trap in the middle one (or at the start, for a fade in)."""
    rng = np.random.default_rng(seed)
    lengths = [int(n) for n in rng.integers(40, 56, size=3)]
    shots = [scene(rng, length) for length in lengths]
    which = 0 if kind == "fade in" else 1
    bad = TRAPS[kind](shots[which], int(rng.integers(8, 18)), rng)
    before = sum(lengths[:which])
    frames = [frame for shot in shots for frame in shot]
    return Clip(kind, frames, [lengths[0], lengths[0] + lengths[1]], {before + k for k in bad})


def make_clips(count: int) -> list[Clip]:
    """Clips of all kinds in turn."""
    kinds = list(TRAPS)
    return [make_clip(kinds[k % len(kinds)], 1000 + k) for k in range(count)]


def tensors(clip: Clip) -> list[torch.Tensor]:
    """The frames as the detector takes them: ``(3, h, w)`` float32."""
    return [torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1), dtype=np.float32)) for frame in clip.frames]


@dataclass
class Score:
    """Counts over clips."""

    found: int = 0
    wrong: int = 0
    missed: int = 0

    @property
    def precision(self) -> float:
        """Share of the reported cuts that are cuts."""
        return self.found / max(1, self.found + self.wrong)

    @property
    def recall(self) -> float:
        """Share of the cuts that were reported."""
        return self.found / max(1, self.found + self.missed)


def measure(clips: Sequence[Clip]) -> tuple[Score, dict[str, Score]]:
    """Exact to the frame."""
    total, kinds = Score(), {}
    for clip in clips:
        cuts, _ = detect_cuts(tensors(clip))
        for score in (total, kinds.setdefault(clip.kind, Score())):
            score.found += len(set(cuts) & set(clip.cuts))
            score.wrong += len(set(cuts) - set(clip.cuts))
            score.missed += len(set(clip.cuts) - set(cuts))
    return total, kinds


def keyframes_on_bad_frames(clips: Sequence[Clip]) -> tuple[int, int]:
    """Automatic keyframes (every 8th frame and shot starts) on frames that are no good, and all of them."""
    bad = total = 0
    for clip in clips:
        frames = tensors(clip)
        watch = FrameWatch()
        for frame in frames:
            watch.see(frame)
        shots = shots_from_cuts(clip.cuts, 0, len(frames))
        wanted = iframes_and_scenes(range(0, len(frames), 8), shots)
        chosen = off_bad_frames(wanted, shots, watch.bad(0, shots)).indices
        bad, total = bad + len(clip.bad & set(chosen)), total + len(chosen)
    return bad, total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = make_clips(options.clips)
    total, kinds = measure(clips)
    for kind, score in kinds.items():
        print(f"{kind:<18} found {score.found:3d}  wrong {score.wrong:3d}  missed {score.missed:3d}")
    print(f"precision {total.precision:.3f}, recall {total.recall:.3f}")
    bad, chosen = keyframes_on_bad_frames(clips)
    print(f"{bad} of {chosen} automatic keyframes lie on empty, blurred or damaged frames")


if __name__ == "__main__":
    main()
