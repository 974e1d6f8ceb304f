"""`sparkvsr keyframes`: choose frames of a clip, make their HR images, and write a folder that people can edit.

    refs/00048.png          HR reference, to be edited or replaced
    refs/lr/00048.png       the clip's own frame
    refs/contact_sheet.png  all references in one picture
    refs/keyframes.json     which clip, when, which shot, weights

Everything is made in a folder beside the final one and moved into place when complete.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from sparkvsr.errors import ConfigError, DecodeError, EncodeError, KeyframeError, SparkVSRError
from sparkvsr.hooks import Hook, silent
from sparkvsr.inference.clip.unchanged import Watched
from sparkvsr.inference.events import input_event
from sparkvsr.keyframes.checks import content_notes
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.cuts import detect_cuts
from sparkvsr.keyframes.folder import FolderMaker
from sparkvsr.keyframes.folder_writing import check_folder, folder_beside, image_name, move_into_place, write_png
from sparkvsr.keyframes.frame_watch import FrameWatch
from sparkvsr.keyframes.makers.interface import MakerOptions, ReferenceMaker
from sparkvsr.keyframes.manifest import (
    LR_FOLDER,
    SHEET_NAME,
    KeyframeEntry,
    Manifest,
    clip_fingerprint,
    write_manifest,
)
from sparkvsr.keyframes.quality import best_frames
from sparkvsr.keyframes.references import make_reference_maker, place_of
from sparkvsr.keyframes.select import Selection, selection_notes
from sparkvsr.keyframes.sheet import SheetTile, contact_sheet, thumbnail
from sparkvsr.keyframes.shots import Shot, shots_from_cuts
from sparkvsr.models.device import resolve_device
from sparkvsr.output_lock import OutputLock
from sparkvsr.shapes import output_size
from sparkvsr.video import VideoInfo, VideoReader, iframe_indices, probe, read_frames
from sparkvsr.video.images import is_pattern
from sparkvsr.video.own_files import refuse_source

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
        deinterlace, stream: as for ``sparkvsr upscale``.
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
    stream: int | None = None


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
    bad: frozenset[int]


def make_keyframes(
    path: Path, folder: Path, options: KeyframeOptions | None = None, hook: Hook = silent
) -> KeyframeResult:
    """Choose keyframes, make their references and write the folder.

    Events: ``input``, ``analysis``, ``keyframes`` (folder, keyframes, method, references, shots), ``reference`` (index,
    done, total, error), ``note`` and ``keyframes_done`` (folder, sheet, keyframes, failed, notes).

    Raises:
        SparkVSRError: something is wrong, or a reference failed without ``keep_going``; the folder is as it was.
    """
    with OutputLock(folder, "-o"):
        return _make_keyframes(path, folder, options or KeyframeOptions(), hook)


def _make_keyframes(path: Path, folder: Path, options: KeyframeOptions, hook: Hook) -> KeyframeResult:
    # 1. What is wrong whatever the clip shows.
    refuse_source(folder, [path, path.parent] if is_pattern(path) else [path])
    if (place := place_of(options.references)) is not None:
        refuse_source(folder, [place])
    check_folder(folder, overwrite=options.overwrite)
    if options.keyframes.kind == "none":
        msg = "no keyframes were asked for; leave --no-keyframes out"
        raise ConfigError(msg)
    if options.best is not None and options.best < 1:
        msg = f"--best {options.best} leaves nothing to do; give at least 1"
        raise ConfigError(msg)
    info = probe(path, options.stream)
    watched = Watched(info)
    hook(input_event(info))
    size = output_size((info.height, info.width), scale=options.scale)
    if options.best is None:
        options.keyframes.check_early(0, info.num_frames)
    maker = make_reference_maker(options.references, resolve_device(options.device), options.maker)
    maker.check_clip(path)

    # 2. Which frames.
    analysis = _analyse(info, options, hook)
    if options.best is not None:
        selection = best_frames(options.best, analysis.shots, analysis.sharpness)
    else:
        selection = options.keyframes.select(
            analysis.shots, lambda: iframe_indices(path, options.stream), options.seed, bad=analysis.bad
        )
    if not selection.indices:
        msg = f"{path} has no frame that can be a keyframe ({selection.method}); use --every or --keyframes"
        raise KeyframeError(msg)
    watched.check()  # before images are made, which may cost money
    maker.check(selection.indices, (info.height, info.width))
    notes = [size.note] if size.note else []
    notes += selection_notes(selection)

    def read_lr(wanted: Sequence[int]) -> dict[int, Tensor]:
        return read_frames(path, wanted, deinterlace=options.deinterlace, stream=options.stream)

    notes += content_notes(maker, read_lr, selection.indices)
    hook(_plan_event(folder, selection, analysis.shots, maker))

    # 3. Their images, beside the final folder.
    with folder_beside(folder) as work:
        entries, tiles, failed = _make_all(
            info, work, selection, analysis, maker, (size.height, size.width), options, hook
        )
        if not entries:
            msg = f"no reference could be made; the first failed with: {next(iter(failed.values()))}"
            raise KeyframeError(msg)
        notes += [f"keyframe {index} was left out: {why}" for index, why in failed.items()]
        write_png(work / SHEET_NAME, contact_sheet(tiles))
        manifest = Manifest(
            keyframes=tuple(entries),
            fingerprint=clip_fingerprint(path),
            clip_name=path.name,
            num_frames=analysis.shots[-1].stop,
        )
        write_manifest(work, manifest)
        watched.check()
        try:
            notes += move_into_place(work, folder)
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
    maker.given(0, info.num_frames)
    maker.check(maker.indices, (info.height, info.width))
    warnings = content_notes(maker, lambda wanted: read_frames(path, wanted), maker.indices)
    return {
        "folder": str(folder),
        "keyframes": maker.indices,
        "weights": {str(index): weight for index, weight in maker.weights.items()},
        "left_out": list(maker.left_out),
        "warnings": warnings,
    }


def _analyse(info: VideoInfo, options: KeyframeOptions, hook: Hook) -> _Analysis:
    """One pass over the clip: cuts, times, and how good the frames are where that decides."""
    times = array("d")
    watch = FrameWatch() if options.best is not None or options.keyframes.follows_shots else None
    total = info.num_frames
    every = max(1, total // 100)

    def frames() -> Iterator[Tensor]:
        with VideoReader(info.path, deinterlace=options.deinterlace, stream=options.stream) as reader:
            for frame in reader:
                if frame.pts is None:
                    times.append(float(frame.index / info.average_fps) if info.average_fps else 0.0)
                else:
                    times.append(float((frame.pts - info.start_pts) * info.time_base))
                if watch is not None:
                    watch.see(frame.pixels)
                yield frame.pixels

    def report(done: int) -> None:
        if done % every == 0 or done == total:
            hook({"event": "analysis", "done": done, "total": total})

    cuts, count = detect_cuts(frames(), on_frame=report)
    if count == 0:
        msg = f"{info.path} has no decodable frame"
        raise DecodeError(msg)
    shots = shots_from_cuts(cuts, 0, count)
    if watch is None:
        return _Analysis(shots, times, (), frozenset())
    bad = watch.bad(0, shots)
    return _Analysis(shots, times, watch.scores(0, bad), bad)


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
        write_png(work / LR_FOLDER / image_name(index), lr)
        write_png(work / image_name(index), hr)
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
        for index, lr in _lr_frames(info, selection.indices, options):
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


def _lr_frames(info: VideoInfo, indices: Sequence[int], options: KeyframeOptions) -> Iterator[tuple[int, Tensor]]:
    batch = max(1, LR_BATCH_BYTES // (info.height * info.width * 3 * 4))
    for start in range(0, len(indices), batch):
        part = indices[start : start + batch]
        yield from read_frames(info.path, part, deinterlace=options.deinterlace, stream=options.stream).items()


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
