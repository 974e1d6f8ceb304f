"""SparkVSR in VapourSynth scripts.

    import vapoursynth as vs
    from sparkvsr.vapoursynth import upscale
    clip = vs.core.bs.VideoSource("in.mkv")
    upscale(clip, keyframes="every:48", references="refs/").set_output()

VapourSynth is not installed with SparkVSR: ``pip install vapoursynth`` (Python 3.12 or newer). Importing this module
needs neither it nor torch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkvsr.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from sparkvsr.models.interface import RestorationModel
    from sparkvsr.video import ColourTags

_log = logging.getLogger(__name__)

__all__ = ["upscale"]

_CENTER = 1
"""``_ChromaLocation`` of samples between two luma columns."""

_HALF = 16


def upscale(
    clip: Any,
    *,
    keyframes: str | Sequence[int] | None = None,
    references: str | Path = "auto",
    guidance: float = 1.0,
    model: str | Path | RestorationModel = "lite",
    scale: float | None = None,
    height: int | None = None,
    window: int = 16,
    **options: Any,
) -> Any:
    """A clip of restored frames, made as they are requested.

    In order every frame is restored once, about 20 to 140 frames behind those that are looked at. A frame that lies
    back, and is not among the last ``window``, costs the restoration from the shot's start or from a state that was
    kept (every 48 frames, while memory allows); one far ahead costs looking through all frames up to it.

    Args:
        clip: ``vs.VideoNode`` of one size and format: RGBS, RGBH, RGB24 to RGB48, or YUV of 8 to 16 bit; pixels in
            [0, 1] where they are float. YUV is read by the frame properties ``_Matrix``, ``_Range`` and
            ``_ChromaLocation`` of the first frame, and untagged clips as ``sparkvsr upscale`` reads them.
        keyframes: ``"every:24"``, ``"scenes"`` (default), ``"auto"``, ``"none"``, or frame numbers.
        references: see ``sparkvsr upscale --references``.
        guidance: 0 blind, 1 plain, up to 10.
        model: see ``sparkvsr.load_model``.
        scale, height: of the result, see ``sparkvsr upscale``.
        window: finished frames that are kept.
        options: further fields of ``sparkvsr.UpscaleOptions``: ``look``, ``device``, ``dtype``, ``tile``, ``seed``.

    Returns:
        ``vs.VideoNode`` of the same format, frame rate, length and frame properties.

    Raises:
        ConfigError: VapourSynth is missing, or the clip or an option cannot be used.
        SparkVSRError: the model or the references cannot be used.
    """
    vs = _vapoursynth()
    if not isinstance(clip, vs.VideoNode):
        msg = f"upscale() takes a vs.VideoNode, got {type(clip).__name__}"
        raise ConfigError(msg)
    from sparkvsr.inference.stream.on_request import FramesOnRequest
    from sparkvsr.inference.upscale import load_for, make_options
    from sparkvsr.models.interface import RestorationModel

    frames = _Frames(clip, vs)
    if not isinstance(model, RestorationModel):
        options["model"] = model
    chosen = make_options(
        keyframes=keyframes, references=references, guidance_scale=guidance, scale=scale, height=height, **options
    )
    restored = FramesOnRequest(
        frames.pixels,
        clip.num_frames,
        (clip.height, clip.width),
        Fraction(clip.fps) or Fraction(24),
        chosen,
        model if isinstance(model, RestorationModel) else load_for(chosen),
        _log.warning,
        window,
    )
    blank = vs.core.std.BlankClip(clip, width=restored.size[1], height=restored.size[0], keep=True)

    def fill(n: int, f: Sequence[Any]) -> Any:
        out = f[0].copy()
        out.props.clear()
        out.props.update(f[1].props)
        frames.write(out, restored.frame(n))
        return out

    # The filter's function is never called by two threads at once (`fmParallelRequests` of std.ModifyFrame), and frames
    # may be asked for inside it: VapourSynth starts another thread for those.
    return vs.core.std.ModifyFrame(blank, [blank, clip], fill)


def _vapoursynth() -> Any:
    try:
        import vapoursynth
    except ImportError as exc:
        msg = (
            f"VapourSynth cannot be imported ({exc}); install it into this Python with `pip install vapoursynth` "
            "(wheels are there for Python 3.12 and newer)"
        )
        raise ConfigError(msg) from exc
    return vapoursynth


class _Frames:
    """Pixels of the clip's frames, and back into frames of its format."""

    def __init__(self, clip: Any, vs: Any) -> None:
        layout = clip.format
        if layout is None or not clip.width or not clip.height:
            msg = "the clip changes its format or size on the way; make it one with core.resize first"
            raise ConfigError(msg)
        if layout.color_family == vs.GRAY:
            msg = "the clip is grey; convert it with core.resize.Bicubic(format=vs.RGBS) first"
            raise ConfigError(msg)
        self._clip = clip
        self._is_float = layout.sample_type == vs.FLOAT
        self._is_rgb = layout.color_family == vs.RGB
        if self._is_float and not self._is_rgb:
            msg = f"{layout.name} is not read; convert it with core.resize.Bicubic(format=vs.RGBS) first"
            raise ConfigError(msg)
        self._bits = layout.bits_per_sample
        self._pixel_format = "" if self._is_float else _pixel_format(layout, is_rgb=self._is_rgb)
        self._tags: ColourTags | None = None
        self._is_center_sited = False

    def pixels(self, index: int) -> Tensor:
        """Frame ``index`` as ``(3, h, w)`` float32 RGB in [0, 1]."""
        import numpy as np
        import torch

        from sparkvsr.video.planes import planes_to_pixels

        with self._clip.get_frame(index) as frame:
            planes = [np.asarray(frame[k]) for k in range(3)]
            if self._is_float:
                stacked = np.stack(planes).astype(np.float32)
                return torch.from_numpy(stacked).nan_to_num(0.0).clamp_(0, 1)
            tags = self._read_tags(frame.props)
            ordered = [planes[1], planes[2], planes[0]] if self._is_rgb else planes
            return planes_to_pixels(ordered, self._pixel_format, tags, is_center_sited=self._is_center_sited)

    def write(self, frame: Any, pixels: Tensor) -> None:
        """Put ``(3, H, W)`` float32 RGB in [0, 1] into a frame of the clip's format."""
        import numpy as np

        from sparkvsr.video.colour_tags import assumed_tags
        from sparkvsr.video.planes import pixels_to_planes

        if self._is_float:
            dtype = np.float16 if self._bits == _HALF else np.float32
            for k in range(3):
                np.asarray(frame[k])[:] = pixels[k].numpy().astype(dtype)
            return
        tags = self._tags or self._read_tags(frame.props)
        planes = pixels_to_planes(pixels, self._pixel_format, assumed_tags(tags, self._clip.height))
        if self._is_rgb:
            planes = [planes[2], planes[0], planes[1]]
        elif tags.matrix == _UNSPECIFIED:
            # What an untagged clip of this height was taken for has to be said of the larger one.
            frame.props["_Matrix"] = assumed_tags(tags, self._clip.height).matrix
        for k in range(3):
            np.asarray(frame[k])[:] = planes[k]

    def _read_tags(self, props: Any) -> ColourTags:
        from sparkvsr.video import ColourTags

        if self._tags is None:
            self._tags = ColourTags(matrix=int(props.get("_Matrix", _UNSPECIFIED)), range=_range(props))
            self._is_center_sited = int(props.get("_ChromaLocation", 0)) == _CENTER
        return self._tags


_UNSPECIFIED = 2


def _range(props: Any) -> int:
    """1 limited, 2 full, 0 where the frame does not say (``_Range``; ``_ColorRange`` of older releases is turned)."""
    if "_Range" in props:
        return 2 if int(props["_Range"]) == 1 else 1
    if "_ColorRange" in props:
        return 2 if int(props["_ColorRange"]) == 0 else 1
    return 0


def _pixel_format(layout: Any, *, is_rgb: bool) -> str:
    bits = layout.bits_per_sample
    depth = "" if bits == 8 else f"{bits}le"
    chroma = {(0, 0): "444", (1, 0): "422", (1, 1): "420"}.get((layout.subsampling_w, layout.subsampling_h))
    known = (8, 10, 12, 14, 16) if is_rgb else (8, 9, 10, 12, 14, 16)
    if bits not in known or chroma is None:
        msg = f"{layout.name} is not read; convert it with core.resize.Bicubic(format=vs.RGBS) first"
        raise ConfigError(msg)
    return f"gbrp{depth}" if is_rgb else f"yuv{chroma}p{depth}"
