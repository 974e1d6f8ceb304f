"""`sparkvsr keyframes`: choose frames of a clip, make their HR images, and write a folder that people can edit.

    refs/00048.png          HR reference, to be edited or replaced
    refs/lr/00048.png       the clip's own frame
    refs/contact_sheet.png  all references in one picture
    refs/keyframes.json     which clip, when, which shot, weights

Everything is made in a folder beside the final one and moved into place when complete.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from sparkvsr.errors import ConfigError, DecodeError, EncodeError, KeyframeError, SparkVSRError
from sparkvsr.inference.job import input_event
from sparkvsr.inference.progress import Hook, silent
from sparkvsr.keyframes.checks import content_notes
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.folder import FolderMaker
from sparkvsr.keyframes.makers.interface import MakerOptions, ReferenceMaker
from sparkvsr.keyframes.manifest import (
    LR_FOLDER,
    MANIFEST_NAME,
    SHEET_NAME,
    KeyframeEntry,
    Manifest,
    clip_fingerprint,
    read_manifest,
    write_manifest,
)
from sparkvsr.keyframes.quality import best_frames, frame_sharpness
from sparkvsr.keyframes.references import make_reference_maker
from sparkvsr.keyframes.select import Selection, Shot, shots_from_cuts
from sparkvsr.keyframes.sheet import SheetTile, contact_sheet, thumbnail
from sparkvsr.keyframes.shots import detect_cuts
from sparkvsr.models.registry import resolve_device
from sparkvsr.shapes import output_size
from sparkvsr.video import VideoInfo, VideoReader, iframe_indices, probe, read_frames
from sparkvsr.video.images import encode_image

LR_BATCH_BYTES = 200_000_000
"""LR frames read in one go: many, so that a long file is not scanned for each of them, but few of a 4K clip."""


@dataclass(frozen=True)
class KeyframeOptions:
    """Everything the user can choose; the defaults are those of ``sparkvsr keyframes``.

    Attributes:
        keyframes: which frames; see ``best``.
        best: this many sharp frames instead of ``keyframes``.
        references: maker, see ``make_reference_maker``.
        maker: prompts, timeout, jobs, key variable of the maker.
        scale: size of the references over that of the clip, 1 to 4.
        device: where networks run.
        seed: for random keyframes and makers that sample.
        overwrite: replace what an earlier run wrote.
        keep_going: leave a keyframe out when its reference fails, instead of stopping.
        deinterlace: as for ``sparkvsr upscale``.
    """

    keyframes: KeyframeChoice = field(default_factory=KeyframeChoice)
    best: int | None = None
    references: str = "detail"
    maker: MakerOptions = field(default_factory=MakerOptions)
    scale: float = 4.0
    device: str = "auto"
    seed: int = 42
    overwrite: bool = False
    keep_going: bool = False
    deinterlace: str = "auto"


@dataclass(frozen=True)
class KeyframeResult:
    """What was made.

    Attributes:
        folder: where.
        keyframes: as in ``keyframes.json``.
        failed: what went wrong for each keyframe that was left out.
        notes: what the user should know.
    """

    folder: Path
    keyframes: tuple[KeyframeEntry, ...]
    failed: dict[int, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Analysis:
    shots: list[Shot]
    times: Sequence[float]
    sharpness: Sequence[float]


def make_keyframes(
    path: Path, folder: Path, options: KeyframeOptions | None = None, hook: Hook = silent
) -> KeyframeResult:
    """Choose keyframes, make their references and write the folder.

    Events: ``input``, ``analysis``, ``keyframes`` (folder, keyframes, method, references, shots), ``reference`` (index,
    done, total, error), ``note`` and ``keyframes_done`` (folder, sheet, keyframes, failed, notes).

    Raises:
        SparkVSRError: something is wrong, or a reference failed without ``keep_going``; the folder is as it was.
    """
    # 1. What is wrong whatever the clip shows.
    options = options or KeyframeOptions()
    check_folder(folder, overwrite=options.overwrite)
    if options.keyframes.kind == "none":
        msg = "no keyframes were asked for; leave --no-keyframes out"
        raise ConfigError(msg)
    if options.best is not None and options.best < 1:
        msg = f"--best {options.best} leaves nothing to do; give at least 1"
        raise ConfigError(msg)
    info = probe(path)
    hook(input_event(info))
    size = output_size((info.height, info.width), scale=options.scale)
    if options.best is None:
        options.keyframes.check_early(0, info.num_frames)
    maker = make_reference_maker(options.references, resolve_device(options.device), options.maker)
    if isinstance(maker, FolderMaker):
        maker.check_clip(path)

    # 2. Which frames.
    analysis = _analyse(info, options, hook)
    if options.best is not None:
        selection = best_frames(options.best, analysis.shots, analysis.sharpness)
    else:
        selection = options.keyframes.select(analysis.shots, lambda: iframe_indices(path), options.seed)
    if not selection.indices:
        msg = f"{path} has no frame that can be a keyframe ({selection.method}); use --every or --keyframes"
        raise KeyframeError(msg)
    if isinstance(maker, FolderMaker):
        maker.check(selection.indices, (info.height, info.width))
    notes = [size.note] if size.note else []
    if selection.dropped:
        shown = ", ".join(map(str, selection.dropped[:8])) + (", ..." if len(selection.dropped) > 8 else "")
        notes.append(f"dropped {len(selection.dropped)} keyframes closer than 4 frames to another: {shown}")
    hook(_plan_event(folder, selection, analysis.shots, maker))

    # 3. Their images, beside the final folder.
    with _beside(folder) as work:
        entries, tiles, failed = _make_all(
            info, work, selection, analysis, maker, (size.height, size.width), options, hook
        )
        if not entries:
            msg = f"no reference could be made; the first failed with: {next(iter(failed.values()))}"
            raise KeyframeError(msg)
        notes += [f"keyframe {index} was left out: {why}" for index, why in failed.items()]
        _write(work / SHEET_NAME, contact_sheet(tiles))
        manifest = Manifest(
            keyframes=tuple(entries),
            fingerprint=clip_fingerprint(path),
            clip_name=path.name,
            num_frames=analysis.shots[-1].stop,
        )
        write_manifest(work, manifest)
        try:
            notes += _move_into_place(work, folder)
        except OSError as exc:
            # For example a folder with the name of an image.
            msg = f"-o {folder} cannot be written ({exc.strerror}: {exc.filename2 or exc.filename}); look what is there"
            raise KeyframeError(msg) from exc
    for note in notes:
        hook({"event": "note", "text": note})
    result = KeyframeResult(folder, tuple(entries), failed, tuple(notes))
    hook(_done_event(result))
    return result


def check_references(path: Path, folder: Path, hook: Hook = silent) -> dict[str, Any]:
    """Look at a reference folder as ``sparkvsr upscale`` would, and say what is odd.

    Returns:
        ``folder``, ``keyframes`` (indices that are used), ``left_out`` (weight 0), ``warnings``.

    Raises:
        SparkVSRError: the folder cannot be used for this clip.
    """
    info = probe(path)
    hook(input_event(info))
    if not folder.is_dir():
        msg = f"--check {folder} is not a folder; give the folder of the references"
        raise ConfigError(msg)
    maker = FolderMaker(folder)
    maker.check_clip(path)
    outside = [index for index in maker.indices if index >= info.num_frames]
    if outside:
        msg = (
            f"reference image {maker.paths[outside[0]]} is for frame {outside[0]}, outside the clip "
            f"(frames 0 to {info.num_frames - 1}); rename or remove it"
        )
        raise KeyframeError(msg)
    maker.check(maker.indices, (info.height, info.width))
    warnings = content_notes(maker, lambda wanted: read_frames(path, wanted), maker.indices)
    return {
        "folder": str(folder),
        "keyframes": maker.indices,
        "weights": {str(index): weight for index, weight in maker.weights.items()},
        "left_out": list(maker.left_out),
        "warnings": warnings,
    }


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds something already, before any work.

    Raises:
        KeyframeError: it is a file, its lr/ is a link, or it holds something and ``overwrite`` is off.
    """
    if folder.exists() and not folder.is_dir():
        msg = f"-o {folder} is a file, not a folder; give another -o"
        raise KeyframeError(msg)
    lr = folder / LR_FOLDER
    if lr.is_symlink() or (lr.exists() and not lr.is_dir()):
        # Through a link, files outside the folder would be replaced.
        msg = f"{lr} is a link or a file where a folder of LR frames belongs; remove it, or give another -o"
        raise KeyframeError(msg)
    if folder.is_dir() and not overwrite and any(folder.iterdir()):
        msg = (
            f"{folder} is not empty; pass --overwrite to make its references again (edits of them are lost), "
            f"or give another -o"
        )
        raise KeyframeError(msg)


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A temporary folder on the same disk, with a place for LR frames in it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent)
    except OSError as exc:
        msg = f"-o {folder} cannot be made ({exc.strerror}); check the folder's permissions or give another -o"
        raise KeyframeError(msg) from exc
    with temporary as name:
        work = Path(name)
        (work / LR_FOLDER).mkdir()
        yield work


def _analyse(info: VideoInfo, options: KeyframeOptions, hook: Hook) -> _Analysis:
    """One pass over the clip: cuts, times, and sharpness where it decides."""
    times, sharpness = array("d"), array("d")
    total = info.num_frames
    every = max(1, total // 100)

    def frames() -> Iterator[Tensor]:
        with VideoReader(info.path, deinterlace=options.deinterlace) as reader:
            for frame in reader:
                if frame.pts is None:
                    times.append(float(frame.index / info.average_fps) if info.average_fps else 0.0)
                else:
                    times.append(float((frame.pts - info.start_pts) * info.time_base))
                if options.best is not None:
                    sharpness.append(frame_sharpness(frame.pixels))
                yield frame.pixels

    def report(done: int) -> None:
        if done % every == 0 or done == total:
            hook({"event": "analysis", "done": done, "total": total})

    cuts, count = detect_cuts(frames(), on_frame=report)
    if count == 0:
        msg = f"{info.path} has no decodable frame"
        raise DecodeError(msg)
    return _Analysis(shots_from_cuts(cuts, 0, count), times, sharpness)


def _make_all(
    info: VideoInfo,
    work: Path,
    selection: Selection,
    analysis: _Analysis,
    maker: ReferenceMaker,
    size: tuple[int, int],
    options: KeyframeOptions,
    hook: Hook,
) -> tuple[list[KeyframeEntry], list[SheetTile], dict[int, str]]:
    """Make and write every image; a few at a time, so that memory does not depend on their number."""
    tiles: dict[int, SheetTile] = {}
    failed: dict[int, str] = {}
    shots = enumerate(analysis.shots)
    shot_of = {index: number for number, shot in shots for index in selection.indices if index in shot}

    def one(index: int, lr: Tensor) -> SheetTile:
        hr = maker.make(lr, size, index)
        _write(work / LR_FOLDER / image_name(index), lr)
        _write(work / image_name(index), hr)
        return SheetTile(index, analysis.times[index], shot_of[index], thumbnail(hr))

    def collect(finished: set[Future[SheetTile]], pending: dict[Future[SheetTile], int]) -> None:
        for future in finished:
            index = pending.pop(future)
            error = None
            try:
                tiles[index] = future.result()
            except SparkVSRError as exc:
                # A full disk spoils the next one as well.
                if not options.keep_going or isinstance(exc, EncodeError):
                    raise
                failed[index] = error = str(exc)
            total = len(selection.indices)
            hook(
                {"event": "reference", "index": index, "done": len(tiles) + len(failed), "total": total, "error": error}
            )

    pool = ThreadPoolExecutor(max_workers=max(1, maker.jobs))
    try:
        pending: dict[Future[SheetTile], int] = {}
        for index, lr in _lr_frames(info, selection.indices, options.deinterlace):
            while len(pending) > maker.jobs:
                collect(wait(pending, return_when=FIRST_COMPLETED).done, pending)
            pending[pool.submit(one, index, lr)] = index
        while pending:
            collect(wait(pending, return_when=FIRST_COMPLETED).done, pending)
    except BaseException:
        # Ctrl-C as well: programs that still run would outlive us, and waiting for them would hang.
        maker.close()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    entries = [
        KeyframeEntry(
            index=index,
            time_seconds=round(analysis.times[index], 4),
            shot=shot_of[index],
            maker=maker.name,
            weight=1.0,
            prompt=options.maker.prompt_for(index) or None,
            file=image_name(index),
        )
        for index in sorted(tiles)
    ]
    return entries, [tiles[index] for index in sorted(tiles)], dict(sorted(failed.items()))


def _lr_frames(info: VideoInfo, indices: Sequence[int], deinterlace: str) -> Iterator[tuple[int, Tensor]]:
    batch = max(1, LR_BATCH_BYTES // (info.height * info.width * 3 * 4))
    for start in range(0, len(indices), batch):
        yield from read_frames(info.path, indices[start : start + batch], deinterlace=deinterlace).items()


def _write(path: Path, image: Tensor) -> None:
    try:
        path.write_bytes(encode_image(image, ".png", bits=8))
    except OSError as exc:
        msg = f"{path.name} cannot be written into {path.parent} ({exc.strerror}); is the disk full?"
        raise EncodeError(msg) from exc


def image_name(index: int) -> str:
    """``48`` to ``00048.png``."""
    return f"{index:05d}.png"


def _move_into_place(work: Path, folder: Path) -> list[str]:
    """Replace what an earlier run wrote; leave what somebody else put there, and say so."""
    if not folder.exists():
        # A fresh name appears complete or not at all. The temporary folder is private, the result is not.
        work.chmod(0o755)
        work.rename(folder)
        work.mkdir()  # for the context manager that removes it
        return []
    try:
        old = read_manifest(folder)
    except KeyframeError:
        old = None
    for entry in old.keyframes if old else ():
        for written in {entry.file or image_name(entry.index), image_name(entry.index)}:
            (folder / written).unlink(missing_ok=True)
            (folder / LR_FOLDER / written).unlink(missing_ok=True)
    (folder / LR_FOLDER).mkdir(exist_ok=True)
    # The list goes last: until then the folder is not taken for a complete one.
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    names = sorted(path.relative_to(work) for path in work.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)
    for name in [*names, Path(MANIFEST_NAME)]:
        (work / name).replace(folder / name)
    extra = set(FolderMaker(folder).paths) - {int(name.stem) for name in names if name.stem.isdigit()}
    if not extra:
        return []
    shown = ", ".join(map(str, sorted(extra)[:8]))
    return [f"{folder} also holds images for frames {shown}, which were not made now; they will be used as well"]


def _plan_event(folder: Path, selection: Selection, shots: Sequence[Shot], maker: ReferenceMaker) -> dict[str, Any]:
    return {
        "event": "keyframes",
        "folder": str(folder),
        "keyframes": list(selection.indices),
        "dropped_keyframes": list(selection.dropped),
        "keyframe_method": selection.method,
        "references": maker.name,
        "shots": [[shot.start, shot.stop] for shot in shots],
    }


def _done_event(result: KeyframeResult) -> dict[str, Any]:
    return {
        "event": "keyframes_done",
        "folder": str(result.folder),
        "contact_sheet": str(result.folder / SHEET_NAME),
        "keyframes": [entry.index for entry in result.keyframes],
        "failed": {str(index): why for index, why in result.failed.items()},
        "notes": list(result.notes),
    }
