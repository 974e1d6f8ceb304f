"""REDS4 and Vid4 from the folder to the number, against formulas that share no code with the product."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from clips_on_disk import moving, write_frames
from skimage.metrics import structural_similarity

from sparkvsr.evaluation.bench import load_bench
from sparkvsr.evaluation.bench_run import BenchRun
from sparkvsr.evaluation.run_options import MetricChoice, RunOptions

PSNR_TOLERANCE_DB = 1e-4
SSIM_TOLERANCE = 1e-5
METRICS = MetricChoice("psnr,psnr_y,ssim,ssim_y")


def luma(frame: np.ndarray) -> np.ndarray:
    return frame.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def psnr(sr: np.ndarray, hr: np.ndarray) -> float:
    return float(10 * np.log10(255.0**2 / np.mean((sr.astype(np.float64) - hr.astype(np.float64)) ** 2)))


def ssim(sr: np.ndarray, hr: np.ndarray) -> float:
    """scikit-image's map over the valid region is BasicSR's SSIM."""
    _, full = structural_similarity(
        sr.astype(np.float64), hr.astype(np.float64), channel_axis=2 if sr.ndim == 3 else None, gaussian_weights=True,
        sigma=1.5, use_sample_covariance=False, data_range=255, full=True,
    )  # fmt: skip
    return float(full[5:-5, 5:-5].mean())


def saved(folder: Path) -> list[np.ndarray]:
    return [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in sorted(folder.glob("*.png"))]


def expect(record: dict, frames: Path, truth: dict[str, list[np.ndarray]]) -> None:
    """Compare a record with the formulas on the frames that the run kept."""
    sums: dict[str, list[float]] = {"psnr": [], "psnr_y": [], "ssim": [], "ssim_y": []}
    for name, hr in truth.items():
        sr = saved(frames / name)
        assert len(sr) == len(hr)
        pairs = list(zip(sr, hr, strict=True))
        sums["psnr"].append(float(np.mean([psnr(a, b) for a, b in pairs])))
        sums["psnr_y"].append(float(np.mean([psnr(luma(a), luma(b)) for a, b in pairs])))
        sums["ssim"].append(float(np.mean([ssim(a, b) for a, b in pairs])))
        sums["ssim_y"].append(float(np.mean([ssim(luma(a), luma(b)) for a, b in pairs])))
    for name, values in sums.items():
        tolerance = SSIM_TOLERANCE if name.startswith("ssim") else PSNR_TOLERANCE_DB
        assert record["metrics"][name]["mean"] == pytest.approx(float(np.mean(values)), abs=tolerance), name


def test_reds4_layout_of_made_clips(tmp_path: Path) -> None:
    bench = load_bench("REDS4")
    truth = {name: moving(seed, 3, (64, 96)) for seed, name in enumerate(bench.clips)}
    for name, frames in truth.items():
        write_frames(tmp_path / "REDS4" / "GT" / name, frames)
        small = [cv2.resize(frame, (24, 16), interpolation=cv2.INTER_AREA) for frame in frames]
        write_frames(tmp_path / "REDS4" / "train_sharp_bicubic" / "X4" / name, small)
    options = RunOptions(model="bicubic", device="cpu", save_frames=True)
    record = BenchRun.prepare(bench, tmp_path, METRICS, options).execute(tmp_path / "out")
    expect(record, tmp_path / "out" / "frames", truth)
    assert record["run"]["degradation"] == "as given by the data set"
    assert record["run"]["subset"] == "frames: 000 3 of 100, 011 3 of 100, 015 3 of 100, 020 3 of 100"


@pytest.mark.shared
@pytest.mark.parametrize("name", ["Vid4", "Vid4-BD"])
def test_vid4_layout_of_public_clips(name: str, shared_dir: Path, tmp_path: Path) -> None:
    from sparkvsr.evaluation.frames import FileClip

    folder = tmp_path / "Vid4" / "GT"
    folder.mkdir(parents=True)
    truth = {}
    for clip in ("city", "walk"):
        (folder / f"{clip}.mkv").symlink_to(shared_dir / "data" / "public" / "gt" / f"vid4_{clip}.mkv")
        truth[clip] = list(FileClip(folder / f"{clip}.mkv", limit=2).frames())
    options = RunOptions(model="bicubic", device="cpu", save_frames=True, max_frames=2)
    record = BenchRun.prepare(load_bench(name), tmp_path, METRICS, options).execute(tmp_path / "out")
    expect(record, tmp_path / "out" / "frames", truth)
    sizes = {clip["name"]: tuple(clip["size"]) for clip in record["clips"]}
    assert sizes == {"city": (576, 704), "walk": (480, 720)}
    # Bicubic on Vid4 walk, BI, is near 26 dB in every paper; a wrong channel or border would show.
    if name == "Vid4":
        walk = next(clip for clip in record["clips"] if clip["name"] == "walk")
        assert 25 < walk["metrics"]["psnr_y"]["mean"] < 27
