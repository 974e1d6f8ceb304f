"""A clip or reference that changes while it is read: one line, nothing wrong stored, the original renders right."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from typer.testing import Result
from upscale_clips import decoded, picture, run, sparkvsr, write_clip

from sparkvsr.errors import DecodeError, KeyframeError, WeightsError
from sparkvsr.inference.clip.store import WorkStore
from sparkvsr.inference.clip.work import ClipWork

FAST = ("--model", "bicubic", "--scale", "2", "--no-keyframes")
FRAMES = 120  # two segments of 60


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "in.mp4", frames=FRAMES, gop=30)


def other_clip(path: Path) -> None:
    write_clip(path.with_name("other.mp4"), frames=FRAMES + 30, gop=30, cut=1).replace(path)


def shorter(path: Path) -> None:
    write_clip(path.with_name("short.mp4"), frames=20, gop=30).replace(path)


def other_shape(path: Path) -> None:
    write_clip(path.with_name("shape.mp4"), frames=FRAMES, gop=30, size=(64, 48)).replace(path)


def in_place(path: Path) -> None:
    """Same file, other pictures, and the time of its last change put back."""
    status = path.stat()
    other = write_clip(path.with_name("place.mp4"), frames=FRAMES, gop=30, cut=1).read_bytes()
    with path.open("r+b") as file:
        file.write(other)
        file.truncate(max(len(other), status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


WAYS = [other_clip, shorter, other_shape, in_place]


def change_before_rendering(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    missing = ClipWork.missing

    def changed(self: ClipWork) -> object:
        found = missing(self)
        change()
        return found

    monkeypatch.setattr(ClipWork, "missing", changed)


def change_after_one_segment(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    take = WorkStore.take
    taken = []

    def changed(self: WorkStore, *arguments: object) -> None:
        take(self, *arguments)  # type: ignore[arg-type]
        taken.append(1)
        if len(taken) == 1:
            change()

    monkeypatch.setattr(WorkStore, "take", changed)


@pytest.mark.parametrize("when", [change_before_rendering, change_after_one_segment], ids=["before", "between"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_clip_that_changes_is_refused_and_stores_nothing_wrong(
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[Path], None],
    when: Callable[[pytest.MonkeyPatch, Callable[[], None]], None],
) -> None:
    source, out = Path(shutil.copy2(clip, tmp_path / "in.mp4")), tmp_path / "out.mp4"
    with monkeypatch.context() as patched:
        when(patched, lambda: way(source))
        result = run(source, "-o", out, *FAST)
    assert result.exit_code == 1, result.output
    assert "was changed while it was read" in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not out.exists()
    source.unlink()
    shutil.copy2(clip, source)
    assert run(source, "-o", out, *FAST).exit_code == 0
    right = tmp_path / "right.mp4"
    assert run(clip, "-o", right, *FAST).exit_code == 0
    assert decoded(out) == decoded(right)


def test_a_change_at_the_very_end_does_not_bring_other_sound(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = Path(shutil.copy2(clip, tmp_path / "in.mp4")), tmp_path / "out.mp4"
    finish = ClipWork.finish

    def changed(self: ClipWork) -> object:
        other_clip(source)
        return finish(self)

    monkeypatch.setattr(ClipWork, "finish", changed)
    result = run(source, "-o", out, *FAST)
    assert result.exit_code == 1
    assert "was changed while it was read" in " ".join(result.stderr.split())
    assert not out.exists()


def test_a_touched_file_that_is_the_same_is_no_change_of_pictures(clip: Path, tmp_path: Path) -> None:
    """Only what happens during the run counts: a copy, or a file that was touched before, resumes."""
    source, out = Path(shutil.copy2(clip, tmp_path / "in.mp4")), tmp_path / "out.mp4"
    assert run(source, "-o", out, "--work", tmp_path / "work", *FAST).exit_code == 0
    os.utime(source)
    result = run(source, "-o", out, "--work", tmp_path / "work", "--overwrite", *FAST)
    assert result.exit_code == 0
    assert f"{FRAMES} of {FRAMES}" in result.output


def test_an_image_of_a_sequence_that_changes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(6):
        cv2.imwrite(str(folder / f"{index:03d}.png"), picture(index, 48, 64))
    with monkeypatch.context() as patched:
        change_before_rendering(patched, lambda: cv2.imwrite(str(folder / "003.png"), picture(40, 48, 64, 1)) and None)
        result = run(folder, "-o", f"{tmp_path / 'out'}/", *FAST)
    assert result.exit_code == 1
    assert "was changed while it was read" in " ".join(result.stderr.split())
    assert not list((tmp_path / "out").rglob("*.png"))


def test_a_reference_image_that_changes_is_refused(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs, out = tmp_path / "refs", tmp_path / "out.mp4"
    refs.mkdir()

    def write(scene: int) -> None:
        image = picture(0, 48, 64, scene).repeat(4, 0).repeat(4, 1)[..., ::-1]
        cv2.imwrite(str(refs / "00000.png"), image)

    write(0)
    arguments = (clip, "--frames", "8", "--references", refs, "-o", out)
    with monkeypatch.context() as patched:
        change_before_rendering(patched, lambda: write(1))
        result = run(*arguments)
    assert result.exit_code == 1
    assert "reference image of keyframe 0 was changed" in " ".join(result.stderr.split())
    assert not out.exists()
    write(0)
    assert run(*arguments).exit_code == 0
    assert run(clip, "--frames", "8", "--references", refs, "-o", tmp_path / "right.mp4").exit_code == 0
    assert decoded(out) == decoded(tmp_path / "right.mp4")


def test_workers_and_the_second_reader_hold_frames_too(clip: Path, tmp_path: Path) -> None:
    from sparkvsr.inference.clip.job import UpscaleJob
    from sparkvsr.inference.clip.render import keyframe_loader
    from sparkvsr.inference.options import UpscaleOptions
    from sparkvsr.inference.workers.tasks import (
        Prepared,
        PrepareRequest,
        RenderWorker,
        WorkerSettings,
        render_request,
    )
    from sparkvsr.keyframes.choice import KeyframeChoice
    from sparkvsr.keyframes.references import make_reference_maker
    from sparkvsr.models.registry import load_model

    source = Path(shutil.copy2(clip, tmp_path / "in.mp4"))
    options = UpscaleOptions(
        model="bicubic", scale=2, references="bicubic", keyframes=KeyframeChoice("manual", indices=(0, 40))
    )
    worker = RenderWorker(WorkerSettings("cpu"))
    prepared = worker.answer(PrepareRequest(source, tmp_path / "out.mp4", options, into_folder=False), lambda _: None)
    assert isinstance(prepared, Prepared)
    sent = []
    with WorkStore(tmp_path / "work") as store:
        request = render_request(prepared, prepared.segments[:1], store, returns_bytes=True)
        worker.answer(request, sent.append)
        assert [event["key"] for event in sent if event["event"] == "segment"] == [prepared.segments[0].key]
        other_clip(source)
        for returns_bytes in (True, False):
            sent.clear()
            with pytest.raises(DecodeError, match="was changed while it was read"):
                worker.answer(
                    render_request(prepared, prepared.segments[:1], store, returns_bytes=returns_bytes), sent.append
                )
            assert not [event for event in sent if event["event"] == "segment"]
        assert store.is_empty
    job = UpscaleJob(prepared.job, load_model("bicubic"), make_reference_maker("bicubic"))
    with pytest.raises(DecodeError, match="was changed while it was read"):
        keyframe_loader(job).load(40)


def said(result: Result) -> str:
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


def before(monkeypatch: pytest.MonkeyPatch, place: str, change: Callable[[], object]) -> None:
    """Change something right before a function of the product is called for the first time."""
    module, _, name = place.rpartition(".")
    owner = importlib.import_module(module)
    called, changed = getattr(owner, name), []

    def first(*arguments: object, **named: object) -> object:
        if not changed:
            changed.append(change())
        return called(*arguments, **named)

    monkeypatch.setattr(owner, name, first)


def test_what_changes_while_it_is_joined_gets_no_name(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = Path(shutil.copy2(clip, tmp_path / "in.mp4")), tmp_path / "out.mp4"
    before(monkeypatch, "sparkvsr.video.assemble._display_ranks", lambda: other_clip(source))
    assert "was changed while it was read" in said(run(source, "-o", out, *FAST))
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == [".out.mp4.work"]


@pytest.mark.parametrize("place", ["read_frames", "write_manifest"])
def test_keyframes_of_a_clip_that_changes_are_not_written(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    source = Path(shutil.copy2(clip, tmp_path / "in.mp4"))
    before(monkeypatch, f"sparkvsr.inference.keyframe_job.{place}", lambda: in_place(source))
    result = sparkvsr("keyframes", source, "--every", "60", "--references", "bicubic", "-o", tmp_path / "refs")
    assert "was changed while it was read" in said(result)
    assert not (tmp_path / "refs").exists()


@pytest.mark.parametrize("name", ["c.html", "c.mp4"])
def test_clips_that_change_are_not_compared(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = Path(shutil.copy2(clip, tmp_path / "in.mp4"))
    before(monkeypatch, "sparkvsr.inference.compare.comparison.match_size", lambda: other_clip(source))
    result = sparkvsr("compare", clip, source, "-o", tmp_path / name, "--frames", "4")
    assert "was changed while it was read" in said(result)
    assert not (tmp_path / name).exists()


def test_scores_of_a_clip_that_changes_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sr", "gt"):
        (tmp_path / name).mkdir()
        for index in range(3):
            cv2.imwrite(str(tmp_path / name / f"{index:03d}.png"), picture(index, 48, 64))
    command = ("eval", "--pred", tmp_path / "sr", "--gt", tmp_path / "gt", "--metrics", "psnr", "-o", tmp_path / "out")
    last = tmp_path / "gt" / "002.png"
    with monkeypatch.context() as patched:
        before(
            patched, "sparkvsr.evaluation.measuring.ExtremeFrames", lambda: cv2.imwrite(str(last), picture(9, 48, 64))
        )
        assert "was changed while it was measured" in said(sparkvsr(*command))
    assert not list((tmp_path / "out").rglob("*.json"))
    assert sparkvsr(*command).exit_code == 0


def test_a_reference_rewritten_with_its_time_put_back_is_refused(clip: Path, tmp_path: Path) -> None:
    """A bitmap keeps its size whatever it shows; of a file into a pipe as well, which has no segments."""
    from sparkvsr.inference.clip.job import prepare
    from sparkvsr.inference.clip.render import keyframe_loader
    from sparkvsr.inference.options import UpscaleOptions
    from sparkvsr.models.registry import load_model

    image = tmp_path / "refs" / "00000.bmp"
    image.parent.mkdir()
    cv2.imwrite(str(image), picture(0, 96, 128))
    options = UpscaleOptions(model="bicubic", scale=2, references=str(image.parent), frames=4)
    job = prepare(clip, None, options, load_model("bicubic"), lambda _: None, into_pipe=True)
    loader = keyframe_loader(job)
    status = image.stat()
    cv2.imwrite(str(image), picture(0, 96, 128, 1))
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(KeyframeError, match="keyframe 0 was changed"):
        loader.load(0)


@pytest.mark.parametrize("look", ["faithful", "vivid"])
def test_weights_that_change_while_they_are_read_get_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    from sparkvsr.models.lite.model import load_lite
    from sparkvsr.models.lite.weights import PROPAGATOR_FILE, embedded_folder

    folder = Path(shutil.copytree(embedded_folder(), tmp_path / "model"))
    file = folder / PROPAGATOR_FILE
    before(
        monkeypatch, "sparkvsr.models.lite.model.doubling_folder", lambda: file.write_bytes(file.read_bytes() + b" ")
    )
    with pytest.raises(WeightsError, match="was changed while it was read"):
        load_lite(folder, look=look)
