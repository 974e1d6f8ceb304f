"""DOVER and FasterVQA: what goes into the networks, and that the official names fit. vsreval (the authors' code) is an
optional outside reference: `pip install --no-deps vsreval decord` and `pip install timm einops`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_formulas import textured

from sparkvsr.errors import MetricError
from sparkvsr.metrics import video_quality as vq
from sparkvsr.metrics.catalogue import METRICS
from sparkvsr.metrics.clip_meter import ClipMeter
from sparkvsr.metrics.toolbox import Toolbox
from sparkvsr.pretrained import weights

LENGTHS = (1, 10, 31, 32, 33, 64, 100, 192, 193, 201, 600)
SIZES = ((64, 100), (224, 224), (230, 301), (480, 854))


# Of vsreval 0.1.0 (DOVER f1ddc96), seed 0: frames of a clip of 600, and fragments of textured(5, (480, 854)).
GOLDEN = {
    "technical": [47, 317, 467, 529],
    "aesthetic": [11, 21, 545, 572],
    "first block": "9437a1f9f8aad9d2",
    "last block": "bf27a7e2381f9131",
}


def shifted(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    page = textured(3, size)
    return [np.roll(page, 3 * i, axis=1) for i in range(count)]


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()[:16]


def test_frames_are_those_of_the_official_samplers() -> None:
    """Where vsreval is not installed; the tests below compare with it directly."""
    technical, aesthetic = vq.dover_indices(600)
    assert (technical[[0, 32, 64, 95]].tolist(), len(technical)) == (GOLDEN["technical"], 96)
    assert (aesthetic[[0, 1, 30, 31]].tolist(), len(aesthetic)) == (GOLDEN["aesthetic"], 32)
    assert vq.fastervqa_indices(100)[[0, 31]].tolist() == [34, 65]
    assert vq.fastervqa_indices(10).tolist() == [i % 10 for i in range(32)]


def test_fragments_are_those_of_the_official_code() -> None:
    page = torch.from_numpy(textured(5, (480, 854)).transpose(2, 0, 1).copy())
    view = vq.FragmentView((480, 854), 96, aligned=32)
    assert digest(view.cut(page, 0).numpy()) == GOLDEN["first block"]
    assert digest(view.cut(page, 95).numpy()) == GOLDEN["last block"]
    assert torch.equal(view.cut(page, 31), view.cut(page, 0))


@pytest.mark.parametrize("num_frames", LENGTHS)
def test_frames_equal_vsreval(num_frames: int) -> None:
    pytest.importorskip("decord")
    datasets = pytest.importorskip("vsreval._vendor.dover.datasets")
    fastvqa = pytest.importorskip("vsreval._vendor.fastvqa")
    np.random.seed(0)  # noqa: NPY002
    technical = datasets.UnifiedFrameSampler(32, 3, 2)(num_frames)
    aesthetic = datasets.UnifiedFrameSampler(1, 32, 2, 1)(num_frames)
    ours = vq.dover_indices(num_frames)
    assert ours[0].tolist() == technical.tolist()
    assert ours[1].tolist() == aesthetic.tolist()
    assert vq.fastervqa_indices(num_frames).tolist() == fastvqa.sample_frame_indices(num_frames, 32, 1).tolist()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("length", "aligned"), [(96, 32), (32, 8)])
def test_views_equal_vsreval(size: tuple[int, int], length: int, aligned: int) -> None:
    pytest.importorskip("decord")
    datasets = pytest.importorskip("vsreval._vendor.dover.datasets")
    base = torch.from_numpy(np.stack(shifted(4, size))).permute(3, 0, 1, 2)
    video = base.repeat(1, length // 4, 1, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = datasets.get_spatial_fragments(video, aligned=aligned)
    view = vq.FragmentView(size, length, aligned)
    ours = torch.stack([view.cut(video[:, i], i) for i in range(length)], dim=1)
    if min(size) >= vq.VIEW_SIZE:
        assert torch.equal(ours, expected)
    else:  # enlarged first: cut off to 8 bit, where the last bit of an interpolation of another shape decides
        assert float((ours - expected).abs().max()) <= 1
        assert float((ours != expected).float().mean()) < 0.01
    whole = datasets.dover_datasets.get_resized_video(base)
    assert torch.equal(torch.stack([vq.whole_view(base[:, i]) for i in range(4)], dim=1), whole.float())


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights under the official names, in files of the official form."""
    models = pytest.importorskip("vsreval._vendor.dover.models")
    folder = tmp_path_factory.mktemp("vqa")
    torch.manual_seed(0)
    backbones = {"technical": models.SwinTransformer3D(), "aesthetic": models.convnext_3d_tiny(pretrained=False)}
    heads = {name: models.VQAHead(in_channels=768, hidden_channels=64) for name in backbones}
    state = {
        f"{name}_{part}.{key}": value
        for part, modules in (("backbone", backbones), ("head", heads))
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    torch.save(state, folder / "DOVER.pth")
    faster = {f"fragments_backbone.{key}": value for key, value in backbones["technical"].state_dict().items()}
    faster |= {f"vqa_head.{key}": value for key, value in heads["technical"].state_dict().items()}
    torch.save({"state_dict": faster}, folder / "FAST_VQA_3D_1_1.pth")
    return folder


@pytest.fixture
def store(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> weights.WeightStore:
    for name, file in (("dover", "DOVER.pth"), ("fastervqa", "FAST_VQA_3D_1_1.pth")):
        known = weights.WeightSet(name, (weights.KnownFile(file, ""),), 0, "", "")
        monkeypatch.setitem(weights.WEIGHTS, name, known)
    return weights.WeightStore(checkpoints)


@pytest.mark.timeout(1800)  # 70 s of CPU
def test_scores_equal_vsreval(store: weights.WeightStore, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file on disk to the number, both metrics, against vsreval's own."""
    decord = pytest.importorskip("decord")
    import av
    from vsreval.metrics.base import SampleData
    from vsreval.metrics.dover import Dover
    from vsreval.metrics.fastervqa import FasterVQA

    path = checkpoints / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=24, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv444p"
        for frame in shifted(6, (240, 320)):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
    decord.bridge.set_bridge("torch")
    frames = [frame.numpy() for frame in decord.VideoReader(str(path))]
    monkeypatch.setenv("VSREVAL_WEIGHTS", str(checkpoints))
    meter = ClipMeter([METRICS["dover"], METRICS["fastervqa"]], Toolbox(store), num_frames=6)
    for frame in frames:
        meter.update(frame, None)
    scores = meter.finish()
    sample = SampleData.__new__(SampleData)
    sample.video = path
    for name, theirs in (("dover", Dover), ("fastervqa", FasterVQA)):
        assert scores[name].mean == pytest.approx(theirs(torch.device("cpu"))(sample), abs=1e-5)
        assert 0 < scores[name].mean < 1


def test_wrong_files_and_counts_are_refused(store: weights.WeightStore, checkpoints: Path) -> None:
    tools = Toolbox(store)
    with pytest.raises(MetricError, match="needs the number of frames beforehand"):
        ClipMeter([METRICS["fastervqa"]], tools).update(textured(0), None)
    meter = ClipMeter([METRICS["fastervqa"]], tools, num_frames=3)
    meter.update(textured(0), None)
    with pytest.raises(MetricError, match="has 1 frames, 3 were expected"):
        meter.finish()
    with pytest.raises(MetricError, match="needs at least 32 pixels a side, got 88x20"):
        ClipMeter([METRICS["fastervqa"]], tools, num_frames=3).update(textured(0, (20, 88)), None)
    with pytest.raises(MetricError, match="the weight file is of another network"):
        vq.load_network("dover", torch.load(checkpoints / "FAST_VQA_3D_1_1.pth"), "cpu")


def test_scores_are_the_published_fusion() -> None:
    assert vq.fuse(-0.08285, 0.1107) == pytest.approx(0.5)
    assert vq.fuse(-0.08285 + 0.03774, 0.1107 + 0.07355) == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert vq.scale(0.14759505 + 0.03613452) == pytest.approx(1 / (1 + np.exp(-1.0)))
