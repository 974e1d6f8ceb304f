"""Clips and stills from disk, with the damage that real folders have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sparkvsr.data.datasets import PairedClips
from sparkvsr.data.folders import ClipFolder, ImageFolder, image_source, validation_source
from sparkvsr.data.keyframe_policies import PaperPolicy
from sparkvsr.data.loader_errors import plain_worker_errors
from sparkvsr.data.precomputed import PrecomputedPairs
from sparkvsr.data.samples import SampleRequest
from sparkvsr.data.skips import SkipReport, skipped_clips
from sparkvsr.data.stills import MovingStills
from sparkvsr.degradation.bicubic import BicubicDegradation
from sparkvsr.errors import ConfigError, DatasetError, ResourceError
from sparkvsr.video import VideoReader, VideoWriter


def write_clip(path: Path, num_frames: int, size: tuple[int, int] = (96, 128)) -> None:
    """A clip whose grey level counts the frames."""
    with VideoWriter(path, source=None, size=size) as writer:
        for index in range(num_frames):
            frame = torch.full((3, *size), 0.1 + 0.05 * index)
            frame[:, :, : size[1] // 2] *= 0.8
            writer.write(frame)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One good clip, a folder of frames, a short, a tiny and two broken ones."""
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "good.mp4", 12)
    write_clip(folder / "frames", 6)
    write_clip(folder / "short.mp4", 1)
    write_clip(folder / "tiny.mp4", 6, (32, 48))
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("this is no video")
    (folder / ".hidden.mp4").write_text("nothing")
    return folder


def pairs_of(source: object, report: Path | None = None, **settings: object) -> PairedClips:
    values: dict = {"num_frames": 5, "crop": (64, 64), "skips": SkipReport(report), **settings}
    return PairedClips(source, None, BicubicDegradation(), PaperPolicy(), **values)  # type: ignore[arg-type]


def test_files_and_folders_of_frames_are_found(root: Path) -> None:
    names = {Path(ClipFolder(root).name(i)).name for i in range(len(ClipFolder(root)))}
    assert names == {"good.mp4", "frames", "short.mp4", "tiny.mp4", "empty.mp4", "text.mp4"}


def test_only_the_wanted_frames_come_in_order(root: Path) -> None:
    clips = ClipFolder(root)
    index = next(i for i in range(len(clips)) if clips.name(i).endswith("good.mp4"))
    sample = clips.sample(index, 4, (64, 64), np.random.default_rng(1))
    assert sample.frames.shape == (4, 3, 64, 64)
    steps = sample.frames.amax(dim=(1, 2, 3)).diff()
    assert torch.allclose(steps, torch.full((3,), 0.05), atol=0.02)
    assert sample.iframe_indices is not None


def test_a_short_clip_repeats_its_last_frame(root: Path) -> None:
    clips = ClipFolder(root)
    index = next(i for i in range(len(clips)) if clips.name(i).endswith("frames"))
    frames = clips.sample(index, 9, (64, 64), np.random.default_rng(0)).frames
    assert frames.shape[0] == 9
    assert torch.equal(frames[5], frames[8])


def test_unusable_clips_are_skipped_with_a_report(root: Path, tmp_path: Path) -> None:
    report = tmp_path / "skipped.tsv"
    pairs = pairs_of(ClipFolder(root), report)
    for number in range(12):
        assert pairs[SampleRequest(number)].hr.shape == (5, 3, 64, 64)
    lines = report.read_text().splitlines()
    assert {Path(line.split("\t")[0]).name for line in lines} == {"short.mp4", "tiny.mp4", "empty.mp4", "text.mp4"}
    assert len(lines) == 4
    assert len(skipped_clips(report)) == 4
    # Another loader process has a report of its own and the same file.
    pairs_of(ClipFolder(root), report)[SampleRequest(1)]
    assert report.read_text().splitlines() == lines
    assert any("fewer than min_frames" in line for line in lines)


def test_a_folder_without_a_usable_clip_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DatasetError, match=r"none of 1 clips in a row can be used, the last one is .*text.mp4: cannot"):
        pairs_of(ClipFolder(tmp_path))[SampleRequest(0)]


def test_errors_of_loader_processes_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    loader = DataLoader(pairs_of(ClipFolder(tmp_path)), batch_sampler=[[SampleRequest(0)]], num_workers=1)  # type: ignore[arg-type,list-item]
    with pytest.raises(DatasetError) as caught, plain_worker_errors():
        list(loader)
    assert str(caught.value).startswith("none of 1 clips")
    for text, words in (
        ("DataLoader worker (pid 7) is killed by signal: Bus error.", "data.prefetch"),
        ("DataLoader worker (pid(s) 7) exited unexpectedly", "data.num_workers lower"),
        ("DataLoader worker (pid 7) is killed by signal: Killed.", "data.num_workers lower"),
    ):
        with pytest.raises(ResourceError, match=words), plain_worker_errors():
            raise RuntimeError(text)
    with pytest.raises(RuntimeError, match="another"), plain_worker_errors():
        raise RuntimeError("another")


def test_validation_clips_follow_the_path_list(root: Path, tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text("good.mp4\n")
    assert len(validation_source(None, root, listing)) == 1
    assert len(validation_source(root, root, listing)) == 4


def test_path_lists(root: Path, tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text("# comment\ngood.mp4\n\nframes\n")
    assert len(ClipFolder(root, listing)) == 2
    listing.write_text("good.mp4\nlost.mp4\n")
    with pytest.raises(DatasetError, match=r"1 of 2 paths that do not exist.*lost"):
        ClipFolder(root, listing)
    with pytest.raises(DatasetError, match="cannot be read"):
        ClipFolder(root, tmp_path / "nothing.txt")


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"data.root=.* is not a folder"):
        ClipFolder(tmp_path / "nothing")
    with pytest.raises(DatasetError, match="holds no clips"):
        ClipFolder(tmp_path)
    with pytest.raises(DatasetError, match="holds no images"):
        ImageFolder(tmp_path)


def test_stills_come_from_images_or_from_clips(root: Path) -> None:
    stills = ImageFolder(root / "frames")
    assert stills.sample(0, 3, (64, 64), np.random.default_rng(0)).frames.shape == (3, 3, 64, 64)
    fallback = image_source(None, root)
    assert len(fallback) == len(ClipFolder(root))


def test_photos_move(root: Path) -> None:
    source = MovingStills(root / "frames", root, min_side=64, clip_share=0.0)
    frames = source.sample(0, 4, (64, 64), np.random.default_rng(2)).frames
    assert frames.shape == (4, 3, 64, 64)
    assert float((frames[0] - frames[3]).abs().max()) > 0


def test_lr_and_hr_show_the_same_place(root: Path) -> None:
    pairs = pairs_of(MovingStills(root / "frames", min_side=64, clip_share=0.0), augment=True)
    for number in range(6):
        sample = pairs[SampleRequest(number)]
        shrunk = torch.nn.functional.interpolate(sample.hr, size=(16, 16), mode="bicubic", antialias=True)
        # The LR crop was cut out of a larger LR frame, so its border saw other pixels.
        assert float((shrunk - sample.lr)[..., 3:-3, 3:-3].abs().max()) < 0.02


def test_precomputed_samples_equal_fresh_ones(root: Path, tmp_path: Path) -> None:
    fresh = pairs_of(ClipFolder(root), crop=(64, 64))
    store = PrecomputedPairs(fresh, tmp_path / "kept", 3, seed=42)
    store.make(is_image=False)
    store.make(is_image=True)
    assert store.missing(is_image=False) == []
    sample = store[SampleRequest(0)]
    numbers = [fresh[SampleRequest(number)] for number in range(3)]
    assert any(torch.allclose(sample.hr, other.hr, atol=2e-3) for other in numbers)
    assert store[SampleRequest(1, is_image=True)].keyframe_indices == []
    (tmp_path / "kept" / "clip-000001.safetensors").write_bytes(b"damaged")
    with pytest.raises(DatasetError, match="delete it"):
        [store[SampleRequest(number)] for number in range(3)]


@pytest.mark.parametrize(
    ("settings", "words"), [({"crop": (60, 64)}, "multiples of 16"), ({"num_frames": 0}, "num_frames=0")]
)
def test_wrong_sizes_are_refused(root: Path, settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        pairs_of(ClipFolder(root), **settings)


def test_a_list_says_which_clips_are_mixed_with_photos(root: Path, tmp_path: Path) -> None:
    (tmp_path / "clips.txt").write_text("good.mp4\n")
    settings = {"min_side": 64, "clip_share": 1.0, "clip_path_list": tmp_path / "clips.txt"}
    source = MovingStills(root / "frames", root, **settings)  # type: ignore[arg-type]
    names = {source.sample(i, 2, (64, 64), np.random.default_rng(i)).name for i in range(6)}
    assert {Path(name).name for name in names} == {"good.mp4"}


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv444p", "yuva420p", "gray"])
def test_a_window_has_the_pixels_of_the_whole_frame(tmp_path: Path, pixel_format: str) -> None:
    """Cut before it is converted, which takes a fraction of the time; the values are the same."""
    from fractions import Fraction

    import av

    path = tmp_path / "clip.mkv"
    noise = np.random.default_rng(0).integers(0, 256, (2, 70, 90, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 90, 70, pixel_format  # type: ignore[attr-defined]
        for index, image in enumerate(noise):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))  # type: ignore[attr-defined]
        container.mux(stream.encode())  # type: ignore[attr-defined]
    reader = VideoReader(path)
    whole = [frame.pixels for frame in reader]
    for window in ((slice(0, 16), slice(0, 20)), (slice(33, 49), slice(41, 62)), (slice(50, 70), slice(70, 90))):
        parts = [frame.pixels for frame in reader.part(0, 2, window)]
        assert all(torch.equal(a[:, window[0], window[1]], b) for a, b in zip(whole, parts, strict=True))
