"""Clips through a set of metrics: what is counted, left out, capped, and refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from reference_formulas import distorted, textured

from sparkvsr.errors import MetricError
from sparkvsr.metrics import colour, fidelity, temporal
from sparkvsr.metrics.catalogue import METRICS, select_metrics
from sparkvsr.metrics.clip_meter import ClipMeter, ClipScore
from sparkvsr.metrics.toolbox import Toolbox
from sparkvsr.pretrained.weights import WeightStore

WIDE = textured(1, (64, 120))
HR = [WIDE[:, 2 * i : 2 * i + 96].copy() for i in range(4)]
SR = [distorted(frame, i) for i, frame in enumerate(HR)]


def measure(metrics: str, sr: list[np.ndarray], hr: list[np.ndarray] | None, **options: object) -> dict[str, ClipScore]:
    specs = [spec for spec, _ in select_metrics(metrics)]
    meter = ClipMeter(specs, Toolbox(WeightStore()), **options)  # type: ignore[arg-type]
    for index, frame in enumerate(sr):
        meter.update(frame, hr[index] if hr else None)
    return meter.finish()


def test_default_metrics_give_the_values_of_their_functions() -> None:
    scores = measure("default", SR, HR)
    assert scores["psnr"].values == [fidelity.psnr(a, b)[0] for a, b in zip(SR, HR, strict=True)]
    assert scores["psnr"].mean == pytest.approx(np.mean(scores["psnr"].values))
    assert scores["ssim_y"].values[2] == fidelity.ssim(colour.luma_bt601(SR[2]), colour.luma_bt601(HR[2]))
    assert scores["flicker"].values == [None, *(temporal.flicker(SR[i], SR[i + 1]) for i in range(3))]
    assert scores["flicker"].gt_values == [None, *(temporal.flicker(HR[i], HR[i + 1]) for i in range(3))]
    assert scores["tof"].values[0] is None
    assert scores["tof"].mean > 0
    assert scores["ewarp_dis"].gt_mean is not None


def test_a_frozen_clip_beats_the_ground_truth_in_flicker_but_not_in_tof() -> None:
    frozen = measure("flicker,tof", [HR[0]] * 4, HR)
    assert frozen["flicker"].mean == 1.0
    assert frozen["flicker"].mean > frozen["flicker"].gt_mean
    assert frozen["tof"].mean > measure("tof", SR, HR)["tof"].mean


def test_identical_frames_are_capped_and_counted() -> None:
    score = measure("psnr", [HR[0], SR[1]], HR[:2])["psnr"]
    assert score.capped == 1
    assert score.values[0] == 100.0


def test_the_border_is_left_out() -> None:
    damaged = [frame.copy() for frame in HR]
    for frame in damaged:
        frame[:3] = 0
        frame[:, -4:] = 255
    assert measure("psnr", damaged, HR, border=4)["psnr"].capped == 4
    with pytest.raises(MetricError, match="border 40 leaves nothing of a 96x64 frame"):
        measure("psnr", SR, HR, border=40)


def test_small_frames_are_null_and_counted_with_the_reason() -> None:
    score = measure("ms_ssim", SR, HR)["ms_ssim"]
    assert score.values == [None] * 4
    assert (score.mean, score.unscored) == (None, 4)
    assert "at least 161 pixels" in score.reason


def test_slow_metrics_honour_every_and_fast_ones_do_not(shared_dir: Path) -> None:
    specs = [METRICS["psnr"], METRICS["niqe"]]
    meter = ClipMeter(specs, Toolbox(WeightStore(shared_dir / "weights")), every=3)
    frames = [textured(i, (192, 192)) for i in range(3)] + [np.zeros((192, 192, 3), np.uint8)]
    for frame in frames:
        meter.update(frame, frame)
    scores = meter.finish()
    assert scores["psnr"].capped == 4
    assert [value is None for value in scores["niqe"].values] == [False, True, True, True]
    assert scores["niqe"].unscored == 1  # the black frame, not the two that were left out
    assert scores["niqe"].gt_mean == scores["niqe"].mean


test_slow_metrics_honour_every_and_fast_ones_do_not = pytest.mark.shared(
    test_slow_metrics_honour_every_and_fast_ones_do_not
)


def test_without_ground_truth_the_clips_own_flow_is_used() -> None:
    scores = measure("ewarp_dis,flicker", SR, None)
    assert scores["ewarp_dis"].mean > 0
    assert scores["ewarp_dis"].gt_mean is None
    score = measure("psnr", SR, None)["psnr"]
    assert score.values == [None] * 4
    assert "there is none" in score.reason


def test_different_sizes_are_refused() -> None:
    with pytest.raises(MetricError, match="restored frame is 96x64 but the ground truth is 88x64.*--crop"):
        measure("psnr", SR, [frame[:, :88].copy() for frame in HR])


def test_every_must_be_positive() -> None:
    with pytest.raises(MetricError, match="at least 1, got 0"):
        measure("psnr", SR, HR, every=0)


def test_vmaf_ranks_and_takes_the_restored_clip_first() -> None:
    pytest.importorskip("imageio_ffmpeg")
    size = (180, 320)
    hr = [np.roll(textured(3, size), 2 * i, axis=1) for i in range(5)]
    sr = [distorted(frame, i) for i, frame in enumerate(hr)]
    score = measure("vmaf", sr, hr)["vmaf"]
    assert len(score.values) == 5
    same = measure("vmaf", hr, hr)["vmaf"].mean
    assert score.mean < same - 10
    assert same > 95
    # Swapped inputs give another number; ours must be the one of ffmpeg's documented order.
    assert abs(score.mean - measure("vmaf", hr, sr)["vmaf"].mean) > 1


def test_vmaf_equals_libvmaf_on_two_files(tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    size = (180, 319)  # odd, to see that nothing is cut off
    hr = [np.roll(textured(3, size), 2 * i, axis=1) for i in range(4)]
    sr = [distorted(frame, i) for i, frame in enumerate(hr)]
    for name, frames in (("sr", sr), ("hr", hr)):
        (tmp_path / f"{name}.rgb").write_bytes(np.stack(frames).tobytes())
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "319x180", "-r", "25"]
    luma = "scale=out_color_matrix=bt709:out_range=tv,format=yuv444p"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, "-i", "sr.rgb", *source, "-i", "hr.rgb",
               "-lavfi", f"[0:v]{luma}[a];[1:v]{luma}[b];[a][b]libvmaf=log_fmt=json:log_path=log.json", "-f", "null",
               "-"]  # fmt: skip
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    expected = [frame["metrics"]["vmaf"] for frame in json.loads((tmp_path / "log.json").read_text())["frames"]]
    assert measure("vmaf", sr, hr)["vmaf"].values == pytest.approx(expected, abs=1e-5)


def test_a_failing_ffmpeg_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: "/does/not/exist")
    with pytest.raises(MetricError, match="cannot start /does/not/exist"):
        measure("vmaf", SR, HR)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: "false")
    with pytest.raises(MetricError, match="vmaf: ffmpeg failed"):
        measure("vmaf", SR, HR)


def test_metrics_of_whole_clips_see_every_frame_and_know_its_length() -> None:
    """Without the authors' networks: any network in their place."""
    torch = pytest.importorskip("torch")

    class Tools(Toolbox):
        def video_network(self, name: str) -> object:
            return lambda view, batch: torch.full((1,), 0.2 if view == "fragments" else 0.1)

    frames = [textured(i) for i in range(3)]
    specs = [METRICS["dover"], METRICS["fastervqa"]]
    meter = ClipMeter(specs, Tools(WeightStore()), num_frames=3)
    for frame in frames:
        meter.update(frame, None)
    scores = meter.finish()
    assert scores["fastervqa"].mean == pytest.approx(1 / (1 + np.exp(-(0.2 - 0.14759505) / 0.03613452)))
    assert scores["dover"].mean not in (None, scores["fastervqa"].mean)
    assert (scores["dover"].values, scores["dover"].unscored) == ([], 0)
    with pytest.raises(MetricError, match="dover needs the number of frames beforehand"):
        ClipMeter(specs[:1], Tools(WeightStore())).update(frames[0], None)
    short = ClipMeter(specs[1:], Tools(WeightStore()), num_frames=3)
    short.update(frames[0], None)
    with pytest.raises(MetricError, match="has 1 frames, 3 were expected"):
        short.finish()
