"""The disk a job takes: said before it starts, near enough to the truth, and refused when it does not fit."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from upscale_clips import run, write_clip

from sparkvsr.errors import ResourceError
from sparkvsr.inference.clip.disk import DiskNeed, bits_per_pixel, free_bytes
from sparkvsr.video import EncodeOptions

BASELINE = ["--model", "bicubic", "--references", "bicubic"]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "in.mp4", frames=200, cut=100)


def small_disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12 - free, free))


def events(text: str) -> dict[str, dict[str, object]]:
    return {event["event"]: event for event in map(json.loads, text.splitlines())}


def test_the_plan_says_what_it_takes_before_anything_is_written(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    result = run(clip, "-o", out, "--dry-run", "--json", *BASELINE)
    assert result.exit_code == 0, result.output
    assert list(events(result.stdout))[-1] == "plan"
    assert not any(tmp_path.iterdir())
    disk = events(result.stdout)["plan"]["disk"]
    assert disk["output_free_bytes"] == pytest.approx(free_bytes(tmp_path), rel=0.1)  # type: ignore[index]
    text = run(clip, "-o", out, "--dry-run", *BASELINE).stdout
    assert "of disk for the result and" in text
    assert "Wrote" not in text


def test_the_estimate_of_a_lossless_output_is_near_the_truth(tmp_path: Path) -> None:
    # Noise would need more, flat pictures less; the moving pattern of the fixture is smooth.
    source = write_clip(tmp_path / "in.mp4", frames=20)
    plan = events(run(source, "-o", tmp_path / "out.mkv", "--codec", "ffv1", "--json", *BASELINE).stdout)
    estimated = plan["plan"]["disk"]["output_bytes"]  # type: ignore[index]
    actual = (tmp_path / "out.mkv").stat().st_size
    assert actual / 3 < estimated < actual * 4


def test_a_job_that_does_not_fit_is_refused_and_leaves_nothing(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_disk(monkeypatch, 20_100_000)  # of which 20 MB are kept free
    result = run(clip, "-o", tmp_path / "out.mp4", *BASELINE)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert "out.mp4 needs about" in lines[0]
    assert "20.1 MB are free" not in lines[0]
    assert "20 MB are free; free some, give another -o or --work" in lines[0]
    assert not any(tmp_path.iterdir())
    assert run(clip, "-o", tmp_path / "out.mp4", "--dry-run", *BASELINE).exit_code == 1


def test_what_is_stored_already_is_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need = DiskNeed(1_000_000, 50_000_000, tmp_path, tmp_path)
    small_disk(monkeypatch, 30_000_000)
    with pytest.raises(ResourceError, match=r"about 51 MB .* 30 MB are free"):
        need.check(tmp_path / "out.mp4")
    need.check(tmp_path / "out.mp4", stored_bytes=45_000_000)


def test_disks_of_work_and_output_are_looked_at_separately(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sparkvsr.inference.clip.disk as module

    monkeypatch.setattr(module, "_is_same_disk", lambda first, second: False)
    monkeypatch.setattr(module, "free_bytes", lambda folder: 10**9 if folder.name == "big" else 30_000_000)
    DiskNeed(5_000_000, 500_000_000, tmp_path / "small", tmp_path / "big").check(Path("out.mp4"))
    with pytest.raises(ResourceError, match=r"on the disk of .* \(result 5 MB, segments until it is complete 500 MB"):
        DiskNeed(5_000_000, 500_000_000, tmp_path / "big", tmp_path / "small").check(Path("out.mp4"))


def test_better_quality_takes_more() -> None:
    sizes = [bits_per_pixel(Path("a.mp4"), EncodeOptions(crf=crf), 8) for crf in (10, 16, 22)]
    assert sizes == pytest.approx([0.5, 0.25, 0.125])
    assert bits_per_pixel(Path("a/%05d.png"), EncodeOptions(), 16) > bits_per_pixel(
        Path("a/%05d.png"), EncodeOptions(), 8
    )


@pytest.mark.parametrize(("look", "guidance"), [("vivid", 1.0), ("vivid", 0.5), ("faithful", 0.5)])
def test_the_size_of_the_state_of_lite_is_known(look: str, guidance: float) -> None:
    import torch

    import sparkvsr
    from sparkvsr.models.interface import Keyframe, ShotRequest

    model = sparkvsr.load_model("lite", device="cpu", look=look)
    lr, hr = torch.rand(3, 3, 32, 48), torch.rand(3, 128, 192)
    keyframes = {0: Keyframe(lr[0], hr)}
    request = ShotRequest(30, (32, 48), (128, 192), keyframes, guidance_scale=guidance)
    session = model.open_session(request)
    session.push(lr)
    state = session.export_state()
    assert state is not None
    passes = 2 if guidance != 1.0 else 1
    actual = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    assert passes * model.state_bytes((32, 48), (128, 192)) == pytest.approx(actual, rel=0.25)
