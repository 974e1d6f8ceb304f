"""Which codecs really work here: a few small frames are written and read again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch

from sparkvsr.errors import SparkVSRError

from .options import CODECS, Codec, EncodeOptions
from .reader import VideoReader
from .writer import VideoWriter

_SIZE, _FRAMES = (64, 96), 3


def tried_codecs() -> Iterator[tuple[str, str | None]]:
    """Each codec, and what went wrong with it; None for one that works."""
    ramp = torch.linspace(0, 1, _SIZE[1]).expand(3, *_SIZE).contiguous()
    with TemporaryDirectory(prefix="sparkvsr-doctor-") as folder:
        for name, spec in CODECS.items():
            path = Path(folder) / f"{name}{spec.containers[0]}"
            try:
                with VideoWriter(path, source=None, size=_SIZE, options=EncodeOptions(cast(Codec, name))) as writer:
                    for _ in range(_FRAMES):
                        writer.write(ramp)
                with VideoReader(path) as reader:
                    frames = list(reader)
                error = float((frames[-1].pixels - ramp).abs().mean())
                is_right = len(frames) == _FRAMES and error < 0.1
                yield name, None if is_right else f"gives {len(frames)} of {_FRAMES} frames, {error:.3f} off"
            except SparkVSRError as exc:
                yield name, str(exc)
