"""In a VapourSynth script: formats, order of requests, properties. Needs `pip install vapoursynth` (Python 3.12)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparkvsr.errors import ConfigError
from sparkvsr.inference.upscale import upscale as upscale_file
from sparkvsr.vapoursynth import upscale

HAS_VAPOURSYNTH = importlib.util.find_spec("vapoursynth") is not None
needs_vapoursynth = pytest.mark.skipif(not HAS_VAPOURSYNTH, reason="needs vapoursynth, which needs Python 3.12")
W, H, FRAMES = 32, 24, 12


@pytest.mark.skipif(HAS_VAPOURSYNTH, reason="VapourSynth is here")
def test_without_vapoursynth_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vapoursynth", None)
    with pytest.raises(ConfigError, match="pip install vapoursynth"):
        upscale(object())


def made(name: str, frames: int = FRAMES) -> Any:
    """A clip with a texture that drifts."""
    import vapoursynth as vs

    blank = vs.core.std.BlankClip(width=W, height=H, format=getattr(vs, name), length=frames, fpsnum=30000, fpsden=1001)

    def draw(n: int, f: Any) -> Any:
        out = f.copy()
        for k in range(3):
            plane = np.asarray(out[k])
            rng = np.random.default_rng(k)
            values = np.roll(np.kron(rng.random((12, 16)), np.ones((4, 4))), n, 1)[: plane.shape[0], : plane.shape[1]]
            top = 1.0 if plane.dtype.kind == "f" else 200 << (f.format.bits_per_sample - 8)
            plane[:] = (values * top).astype(plane.dtype)
        out.props["number"] = n
        return out

    return vs.core.std.ModifyFrame(blank, blank, draw)


def planes(frame: Any) -> list[np.ndarray]:
    return [np.array(frame[k]) for k in range(3)]


@needs_vapoursynth
@pytest.mark.parametrize("name", ["RGBS", "RGBH", "RGB24", "YUV420P8", "YUV422P10", "YUV444P16"])
def test_formats_come_back_as_they_went_in(name: str) -> None:
    clip = made(name, 3)
    result = upscale(clip, model="bicubic", keyframes="none", scale=2)
    assert (result.width, result.height, result.num_frames, result.fps) == (2 * W, 2 * H, 3, clip.fps)
    assert result.format.id == clip.format.id
    frame = result.get_frame(2)
    assert frame.props["number"] == 2
    # At scale 1 the baseline gives the frame itself; chroma goes through the filters of subsampling.
    same = upscale(clip, model="bicubic", keyframes="none", scale=1).get_frame(1)
    unit = 1 if clip.format.sample_type == 1 else 1 << clip.format.bits_per_sample
    first, second = np.array(same[0]).astype(float), np.array(clip.get_frame(1)[0]).astype(float)
    if clip.format.color_family == 2:  # RGB; in YUV random colours lie outside of it and are clipped
        assert np.abs(first - second).max() / unit < 0.005


@needs_vapoursynth
def test_any_order_and_several_at_once_give_the_same_frames() -> None:
    def opened() -> Any:
        return upscale(
            made("RGBS"), model="lite", look="faithful", dtype="fp32", keyframes=[0, 8], references="bicubic", scale=2,
            window=2,
        )  # fmt: skip

    expected = [planes(frame) for frame in opened().frames(prefetch=1)]
    assert len(expected) == FRAMES
    threaded = [planes(frame) for frame in opened().frames(prefetch=6)]
    shuffled = opened()
    for index in (7, 2, 11, 0):
        assert all(map(np.array_equal, planes(shuffled.get_frame(index)), expected[index])), index
    assert all(all(map(np.array_equal, a, b)) for a, b in zip(threaded, expected, strict=True))


@needs_vapoursynth
def test_yuv_equals_the_file_command(tmp_path: Path) -> None:
    clip = made("YUV420P8", 4)
    path = tmp_path / "in.y4m"
    with path.open("wb") as file:
        clip.output(file, y4m=True)
    out = upscale_file(path, tmp_path / "out.mkv", model="bicubic", keyframes="none", scale=2, codec="ffv1").output
    import av

    with av.open(str(out)) as container:
        frames = [[np.array(plane).reshape(plane.height, plane.line_size)[:, : plane.width] for plane in frame.planes]
                  for frame in container.decode(video=0)]  # fmt: skip
    result = upscale(clip, model="bicubic", keyframes="none", scale=2)
    for index, expected in enumerate(frames):
        got = planes(result.get_frame(index))
        assert np.array_equal(got[0], expected[0].view(np.uint8))
    assert result.get_frame(0).props["_Matrix"] == 6


@needs_vapoursynth
def test_what_cannot_be_used_is_told() -> None:
    import vapoursynth as vs

    for value, what in (
        (3, "takes a vs.VideoNode"),
        (vs.core.std.BlankClip(format=vs.GRAY8), "is grey"),
        (vs.core.std.BlankClip(format=vs.YUV444PS), "YUV444PS is not read"),
    ):
        with pytest.raises(ConfigError, match=what):
            upscale(value, model="bicubic")
    with pytest.raises(ConfigError, match="--iframes needs a file"):
        upscale(made("RGBS"), model="bicubic", keyframes="iframes")
