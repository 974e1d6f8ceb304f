"""What each part of lite's propagator gives, and what it takes: parts are switched off in the trained model.

    python benchmarks/lite_parts.py [--weights FOLDER] [--clips FOLDER]

PSNR-Y as in `benchmarks/lite_table.py` (blind, and with the true keyframe at frame 0), mean over the clips, and
milliseconds of a frame at the clips' sizes, side by side on this machine. A network that was trained without a part
could make up for some of it, so these are upper bounds of what the part gives. The last row has a second true keyframe,
at the last frame.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from lite_table import load_clip, psnr_y, shrink_by_four
from torch import Tensor

from sparkvsr.models.lite import propagate
from sparkvsr.models.lite.execution import NetworkRunner
from sparkvsr.models.lite.model import LiteModel, load_lite
from sparkvsr.models.lite.network import FUSE_INPUTS, Fusion

CONFIDENCE_MAPS = slice(FUSE_INPUTS - 9, FUSE_INPUTS)
"""Of the network's inputs: trusts, errors, agreement, roughness, dispute, age."""


def _features(change: slice) -> Any:
    """The network sees zeros in some of its inputs."""
    fuse = NetworkRunner.fuse

    def changed(self: NetworkRunner, features: Tensor) -> Fusion:
        features = features.clone()
        features[:, change] = 0
        return fuse(self, features)

    return mock.patch.object(NetworkRunner, "fuse", changed)


def _outputs(*names: str) -> Any:
    """Some of the network's outputs are zero."""
    fuse = NetworkRunner.fuse

    def changed(self: NetworkRunner, features: Tensor) -> Fusion:
        out = fuse(self, features)
        return replace(out, **{name: torch.zeros_like(getattr(out, name)) for name in names})

    return mock.patch.object(NetworkRunner, "fuse", changed)


def _one_flow() -> Any:
    tracked = propagate.tracked

    def changed(*args: Any, **options: Any) -> Any:
        found = tracked(*args, **options)
        return None if found is None else replace(found, plain_flow=found.flow)

    return mock.patch.object(propagate, "tracked", changed)


def _own_keyframes_off() -> Any:
    return mock.patch.object(propagate.ShotPropagator, "_own_reference", return_value=[])


def _previous_off() -> Any:
    return mock.patch.object(propagate.ShotPropagator, "_previous", return_value=None)


PARTS: dict[str, list[Any]] = {
    "everything": [],
    "no network (classical weights)": [lambda: _outputs("residual", "key_logit", "previous_logit", "plain_logit")],
    "no residual": [lambda: _outputs("residual")],
    "weights not learned": [lambda: _outputs("key_logit", "previous_logit", "plain_logit")],
    "no confidence maps": [lambda: _features(CONFIDENCE_MAPS)],
    "no previous output": [_previous_off],
    "no hidden state": [lambda: _features(slice(FUSE_INPUTS, None))],
    "one flow to the keyframe": [_one_flow],
    "no keyframes of its own": [_own_keyframes_off],
}


@contextmanager
def switched_off(part: str) -> Iterator[None]:
    """The model without a part."""
    with ExitStack() as stack:
        for make in PARTS[part]:
            stack.enter_context(make())
        yield


def measure(model: LiteModel, clips: dict[str, Tensor], indices: list[int] | None) -> tuple[float, float]:
    """Mean PSNR-Y after frame 0, and milliseconds of a frame."""
    values, seconds, frames = [], 0.0, 0
    for truth in clips.values():
        lr = shrink_by_four(truth)
        start = time.perf_counter()
        if indices is None:
            restored = model.restore(lr)
        else:
            places = sorted({index % len(truth) for index in indices})
            restored = model.restore(lr, truth[places], places)
        seconds += time.perf_counter() - start
        frames += len(truth)
        # The last frame carries the second keyframe: left out of all rows.
        values.append(psnr_y(restored[1:-1], truth[1:-1]))
    return float(np.mean(values)), 1000 * seconds / frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=Path("data/public"), help="ground truth, a file a clip")
    parser.add_argument("--weights", type=Path)
    args = parser.parse_args()
    clips = {path.stem: load_clip(path) for path in sorted(args.clips.iterdir()) if path.suffix in (".mp4", ".mkv")}
    model = load_lite(args.weights, look="faithful")
    measure(model, dict(list(clips.items())[:1]), [0])  # warm up
    print("| | blind | ms | keyed | ms |\n|---|---|---|---|---|")
    for part in PARTS:
        with switched_off(part):
            blind, keyed = measure(model, clips, None), measure(model, clips, [0])
        print(f"| {part} | {blind[0]:.2f} | {blind[1]:.0f} | {keyed[0]:.2f} | {keyed[1]:.0f} |", flush=True)
    keyed = measure(model, clips, [0, -1])
    print(f"| a second keyframe, at the last frame | | | {keyed[0]:.2f} | {keyed[1]:.0f} |")


if __name__ == "__main__":
    main()
