"""Where one shot ends and the next begins: PySceneDetect's adaptive detector, fed by our own reader.

Feeding frames instead of a path keeps one decoder for everything (image sequences, rotation, 10 bit), and
lets the same pass count the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

ANALYSIS_LONG_SIDE = 192
"""Frames are reduced to this long side: cuts are visible there, and a 4K clip costs no more than its decoding."""

MIN_SHOT_FRAMES = 4
"""Shorter shots are flashes; splitting them off would leave nothing to propagate in."""


def detect_cuts(frames: Iterable[Tensor], *, on_frame: Callable[[int], None] | None = None) -> tuple[list[int], int]:
    """Find the hard cuts of a clip in one pass with bounded memory.

    Args:
        frames: ``(3, h, w)`` float in [0, 1] each.
        on_frame: called with the number of frames seen so far.

    Returns:
        The positions of the first frames of new shots within ``frames`` (never 0), and the number of frames.
    """
    from scenedetect import AdaptiveDetector, FrameTimecode

    # Thresholds are the library's own; only the shortest shot differs.
    detector = AdaptiveDetector(min_scene_len=MIN_SHOT_FRAMES)
    cuts: list[int] = []
    count = 0
    for count, pixels in enumerate(frames, start=1):
        h, w = pixels.shape[-2:]
        factor = max(1.0, max(h, w) / ANALYSIS_LONG_SIDE)
        if factor > 1:
            small = (max(1, round(h / factor)), max(1, round(w / factor)))
            pixels = F.interpolate(pixels[None], size=small, mode="area")[0]
        bgr = pixels.flip(0).mul(255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        cuts += [cut.frame_num for cut in detector.process_frame(FrameTimecode(count - 1, fps=25.0), bgr)]
        if on_frame is not None:
            on_frame(count)
    if count:
        cuts += [cut.frame_num for cut in detector.post_process(FrameTimecode(count - 1, fps=25.0))]
    return sorted({cut for cut in cuts if 0 < cut < count}), count
