"""Motion between LR frames for `lite`: dense inverse search flow on the LR grid.

Conventions: images are uint8 ``(h, w, 3)`` RGB or ``(h, w)`` grey; a flow ``a_to_b`` is float32 ``(h, w, 2)`` in LR
pixels, (x, y), and says where in image b the pixel of image a is found: ``a[p] ~ b[p + flow[p]]``.

Every function is a pure function of its arguments. That is not free: an OpenCV flow object that was given a starting
flow once keeps parts of it, answers differently afterwards and even crashes when the image size changes, so a fresh
object is made for each call (well under a millisecond).
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Flow = NDArray[np.float32]

_NO_SECOND_MAP: Any = None  # the stubs of OpenCV leave out that one map with two channels is enough

# DIS needs room for its 8 pixel patches over a few scales; smaller frames are padded by replication.
_SMALLEST_SIDE = 48
# A flow that points further out than this is useless, and a wild starting flow must not grow from frame to frame.
_OUTSIDE_PX = 8.0


@dataclass(frozen=True)
class KeyframeMotion:
    """Motion between a frame and a keyframe, both ways, on the LR grid.

    Attributes:
        to_key: flow from the frame to the keyframe, matched on doubled frames: better on small things.
        to_key_plain: the same matched on the frames as they are: better where they alias.
        from_key: flow from the keyframe to the frame.
    """

    to_key: Flow
    to_key_plain: Flow
    from_key: Flow


def grey_of(rgb: NDArray[np.uint8]) -> Grey:
    """uint8 RGB ``(h, w, 3)`` to uint8 grey ``(h, w)``."""
    grey: Grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    return grey


def flow_between(
    a: Grey,
    b: Grey,
    start: Flow | None = None,
    *,
    precise: bool = True,
    doubled: bool = False,
    twice: tuple[Grey, Grey] | None = None,
) -> Flow:
    """Dense flow from ``a`` to ``b``.

    Args:
        a: grey image ``(h, w)``.
        b: grey image ``(h, w)``.
        start: flow to refine instead of searching from nothing.
        precise: with variational refinement (about twice the time); without it good enough for neighbouring frames and
            for consistency checks.
        doubled: match frames of twice the size, which follows small things better: 0.8 dB more with a true keyframe,
            at four times the time (docs/internal/experiments.md).
        twice: ``a`` and ``b`` at twice the size, ``(2h, 2w)``, where they are known better than by resizing.
    """
    if not doubled:
        return _match(a, b, start, precise=precise)
    large = twice or (doubled_grey(a), doubled_grey(b))
    begin = None if start is None else np.asarray(cv2.resize(start, (2 * a.shape[1], 2 * a.shape[0])) * 2, np.float32)
    flow = _match(large[0], large[1], begin, precise=precise, close=True)
    return np.asarray(cv2.resize(flow, (a.shape[1], a.shape[0]), interpolation=cv2.INTER_AREA) / 2, np.float32)


def doubled_grey(grey: Grey) -> Grey:
    """Bicubic x2 of a grey image."""
    size = (2 * grey.shape[1], 2 * grey.shape[0])
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def _match(a: Grey, b: Grey, start: Flow | None, *, precise: bool, close: bool = False) -> Flow:
    height, width = a.shape
    pad_y, pad_x = max(0, _SMALLEST_SIDE - height), max(0, _SMALLEST_SIDE - width)
    if pad_y or pad_x:
        padding = ((0, pad_y), (0, pad_x))
        a, b = np.pad(a, padding, "edge"), np.pad(b, padding, "edge")
        if start is not None:
            start = np.pad(start, (*padding, (0, 0)), "edge")
    preset = cv2.DISOPTICAL_FLOW_PRESET_FAST if precise else cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST
    engine = cv2.DISOpticalFlow.create(preset)
    engine.setFinestScale(0)
    if close:
        # Settings for doubled frames (docs/internal/experiments.md): as good as the preset, a third faster.
        # From a start that was itself matched, the finest scale is enough.
        engine.setUseSpatialPropagation(False)
        engine.setVariationalRefinementIterations(3 if precise else 0)
        if start is not None:
            engine.setCoarsestScale(0)
    first: Any = None if start is None else np.array(start, np.float32, order="C")  # overwritten by calc
    flow = np.asarray(engine.calc(a, b, first), np.float32)
    return _tamed(flow[:height, :width])


def compose(a_to_b: Flow, b_to_c: Flow) -> Flow:
    """Flow from a to c through b."""
    return a_to_b + sample(b_to_c, a_to_b)


def sample(image: NDArray[np.float32], flow: Flow) -> NDArray[np.float32]:
    """``image[p + flow[p]]``, bilinear, edges replicated; image ``(h, w)`` or ``(h, w, c)`` with c <= 4."""
    field = pixel_grid(flow.shape[0], flow.shape[1]) + flow
    moved = cv2.remap(image, field, _NO_SECOND_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


@lru_cache(maxsize=4)
def pixel_grid(height: int, width: int) -> Flow:
    """``(height, width, 2)`` with the x and y of every pixel; shared, not to be written to."""
    return np.stack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)), axis=-1)


def track_keyframe(
    frame: Grey,
    key: Grey,
    previous: KeyframeMotion | None = None,
    step: Flow | None = None,
    *,
    doubled: bool = True,
    twice: tuple[Grey, Grey] | None = None,
    flows: Executor | None = None,
) -> KeyframeMotion:
    """Motion between ``frame`` and ``key``, started from what was known one frame earlier.

    Args:
        frame: the current LR frame.
        key: the keyframe's LR frame.
        previous: motion between the frame before and the same keyframe; None searches from nothing.
        step: flow from the current frame to the one before, needed with ``previous``.
        doubled: match doubled frames as well; without it ``to_key`` is ``to_key_plain``, at half the time.
        twice: see ``flow_between``.
        flows: where the flow back is matched meanwhile, as neither needs the other; None does one after the other. The
            result is the same.
    """
    start = None if previous is None or step is None else _tamed(compose(step, previous.to_key))
    # The backward flow only serves the consistency check; last frame's flow is start enough.
    back = partial(flow_between, key, frame, None if previous is None else previous.from_key, precise=False)
    coming = None if flows is None else flows.submit(back)
    plain = flow_between(frame, key, start)
    close = flow_between(frame, key, plain, doubled=True, twice=twice) if doubled else plain
    return KeyframeMotion(close, plain, back() if coming is None else coming.result())


def round_trip_error(motion: KeyframeMotion) -> NDArray[np.float32]:
    """How far, in LR pixels, each pixel of the frame misses itself after going to the keyframe and back, ``(h, w)``."""
    miss = motion.to_key + sample(motion.from_key, motion.to_key)
    return np.sqrt(np.square(miss).sum(axis=-1))


def roughness(flow: Flow) -> NDArray[np.float32]:
    """How far, in LR pixels, each flow vector differs from the mean of its 5x5 surroundings, ``(h, w)``."""
    away = flow - cv2.blur(flow, (5, 5))
    return np.sqrt(np.square(away).sum(axis=-1))


def _tamed(flow: Flow) -> Flow:
    """The flow, finite, and pointing at most a little outside the image."""
    height, width = flow.shape[:2]
    grid = pixel_grid(height, width)
    limit = np.array([width - 1, height - 1], np.float32) + _OUTSIDE_PX
    target = np.clip(np.nan_to_num(flow) + grid, -_OUTSIDE_PX, limit)
    return (target - grid).astype(np.float32)
