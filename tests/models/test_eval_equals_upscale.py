"""`sparkvsr eval` measures the frames that `sparkvsr upscale` writes: same plan, shots, chunks and keyframes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from cogvideox_nano import one_thread, write_nano  # noqa: F401  (a fixture that is used by being here)

import sparkvsr
from sparkvsr.evaluation.bench import parse_bench
from sparkvsr.evaluation.bench_run import BenchRun
from sparkvsr.evaluation.run_options import MetricChoice, RunOptions
from sparkvsr.video import read_image

FRAMES, CUT = 22, 9
BENCH = """
title: t
kind: no-reference
scale: SCALE
clips: [clip]
degradation: given
metrics: flicker
primary: niqe
gt_folders: [GT]
lr_folders: [LQ]
get: nowhere
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with one coded 4:2:0 clip, whose pixels lie between the 256 levels, and a cut in it."""
    root = tmp_path_factory.mktemp("data")
    (root / "Set" / "LQ").mkdir(parents=True)
    y, x = np.mgrid[:32, :40].astype(np.float32)
    with av.open(str(root / "Set" / "LQ" / "clip.mkv"), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "10", "g": "7", "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = 40, 32, "yuv420p"
        for index in range(FRAMES):
            wave = np.sin((x + (index if index < CUT else -2 * index)) / 3) + np.cos(y / 5)
            scene = 0 if index < CUT else 1
            picture = np.stack([120 + 50 * wave, 90 + 40 * wave + 60 * scene, 160 - 30 * wave - 90 * scene], -1)
            image = picture.clip(0, 255).astype(np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())
    return root


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"lite": "lite", "cogvideox": str(write_nano(tmp_path_factory.mktemp("nano") / "model"))}


def frames_of(folder: Path) -> torch.Tensor:
    return torch.stack([read_image(path) for path in sorted(folder.glob("*.png"))])


@pytest.mark.parametrize(
    ("model", "scale", "keyframes", "settings"),
    [
        ("lite", 4, "none", {"look": "faithful"}),
        ("lite", 4, "every:8", {"look": "faithful"}),
        ("lite", 2, "iframes", {"look": "faithful", "guidance_scale": 1.5, "tile": 32, "chunk_frames": 3}),
        ("lite", 4, "none", {"look": "vivid"}),
        ("lite", 4, "auto", {"look": "vivid"}),
        ("lite", 2, "every:8", {"look": "vivid", "guidance_scale": 1.5, "chunk_frames": 3}),
        ("cogvideox", 2, "none", {}),
        ("cogvideox", 2, "every:6", {"chunk_frames": 9}),
        ("cogvideox", 4, "iframes", {"guidance_scale": 2.0, "chunk_frames": 9, "tile": 32}),
    ],
)
def test_eval_and_upscale_give_the_same_frames(
    model: str, scale: int, keyframes: str, settings: dict[str, Any], data: Path, models: dict[str, str], tmp_path: Path
) -> None:
    references = None if keyframes == "none" else "bicubic"
    options = RunOptions(
        model=models[model], keyframes=keyframes, references=references, device="cpu", save_frames=True, **settings
    )
    bench = parse_bench("Set", BENCH.replace("SCALE", str(scale)))
    record = BenchRun.prepare(bench, data, MetricChoice("flicker"), options).execute(tmp_path / "eval")
    events: list[dict[str, Any]] = []
    sparkvsr.upscale(
        data / "Set" / "LQ" / "clip.mkv", f"{tmp_path}/upscale/", model=models[model], device="cpu", scale=scale,
        keyframes=keyframes, references=references or "lite", hook=events.append, **settings,
    )  # fmt: skip
    plan = next(event for event in events if event["event"] == "plan")
    clip = record["clips"][0]
    how = clip["restoring"]
    assert how["shots"] == plan["shots"] == [[0, CUT], [CUT, FRAMES]]
    assert (how["chunk_frames"], how["tile"]) == (plan["chunk_frames"], plan["tile"])
    assert clip["keyframes"] == plan["keyframes"]
    assert clip["own_keyframes"] == plan["own_keyframes"]
    assert bool(clip["keyframes"]) == (keyframes != "none")
    assert record["run"]["model"]["dtype"] == plan["dtype"]
    measured, written = frames_of(tmp_path / "eval" / "frames" / "clip"), frames_of(tmp_path / "upscale")
    assert measured.shape == (FRAMES, 3, 32 * scale, 40 * scale)
    assert torch.equal(measured, written)
    assert json.loads((tmp_path / "eval" / "results.json").read_text())["clips"][0]["restoring"] == how


def test_the_settings_matter(data: Path, models: dict[str, str], tmp_path: Path) -> None:
    """The frames above could be equal for want of any influence: shots, keyframes and chunks do have one."""
    bench = parse_bench("Set", BENCH.replace("SCALE", "2"))
    results = []
    for number, settings in enumerate(({}, {"chunk_frames": 9}, {"keyframes": "every:6", "references": "bicubic"})):
        options = RunOptions(model=models["cogvideox"], device="cpu", save_frames=True, **settings)
        folder = tmp_path / str(number)
        BenchRun.prepare(bench, data, MetricChoice("flicker"), options).execute(folder)
        results.append(frames_of(folder / "frames" / "clip"))
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
