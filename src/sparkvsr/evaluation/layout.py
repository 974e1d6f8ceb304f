"""Finds a bench's clips on disk and says what is wrong with them. Imports no torch: a missing set is said at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparkvsr.errors import ConfigError, DatasetError, SparkVSRError
from sparkvsr.evaluation.bench import Bench
from sparkvsr.evaluation.frames import FileClip, check_readable, clip_paths

_SHOWN = 6


@dataclass(frozen=True)
class ClipFiles:
    """Where a clip lies; ``gt`` None without ground truth, ``lr`` None when LR frames are to be made."""

    name: str
    gt: Path | None
    lr: Path | None


@dataclass(frozen=True)
class BenchData:
    """A bench's data set as found.

    Attributes:
        root: the set's folder; None for generated clips.
        clips: in the bench's order.
        absent: clips that the bench has and the folder has not.
    """

    bench: Bench
    root: Path | None
    clips: tuple[ClipFiles, ...]
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckLine:
    """One finding of ``check_data``."""

    text: str
    is_problem: bool = False


def data_roots(given: Path | None) -> list[Path]:
    """Where data sets are looked for, in this order: ``--data-root`` alone, or ``$SPARKVSR_DATA`` and ``./data``."""
    if given is not None:
        return [given]
    named = os.environ.get("SPARKVSR_DATA")
    return list(dict.fromkeys([*([Path(named)] if named else []), Path("data")]))


def find_data(bench: Bench, given_root: Path | None, clips: Sequence[str] = ()) -> BenchData:
    """Find the clips of a bench.

    Accepted: ``ROOT/NAME/{GT,LQ}/clip/*.png``, ``ROOT/{GT,LQ}/clip/*.png`` and videos in the place of frame folders
    (``{GT-Video,LQ-Video}/clip.mkv``), also below ``ROOT/test``; the bench's YAML lists further folder names.

    Args:
        bench: the bench.
        given_root: see ``data_roots``.
        clips: only these.

    Raises:
        DatasetError: nothing usable is there; names the expected layout, what was found and data/README.md.
        ConfigError: a clip in ``clips`` is not one of the bench's.
    """
    if bench.kind == "generated":
        return BenchData(bench, None, tuple(ClipFiles(name, None, None) for name in _picked(bench.clips, clips)))
    roots = data_roots(given_root)
    for root in roots:
        for folder in (root / bench.folder, root / "test" / bench.folder, root):
            lr = _subfolder(folder, bench.lr_folders)
            gt = _subfolder(folder, bench.gt_folders)
            data = _collect(bench, folder, gt, lr, clips) if (gt if bench.has_gt else lr) is not None else None
            if data is not None:
                return data
    raise DatasetError(_nothing_found(bench, roots))


def check_data(data: BenchData) -> Iterator[CheckLine]:
    """Read every frame of every clip and compare counts and sizes with the protocol."""
    bench = data.bench
    if data.root is None:
        yield CheckLine(f"{len(data.clips)} clips are computed on the fly; nothing to check")
        return
    yield CheckLine(f"found in {data.root}: {len(data.clips)} of {bench.num_clips} clips")
    if len(data.clips) < bench.num_clips:
        names = f" (missing: {', '.join(data.absent)})" if data.absent else ""
        yield CheckLine(f"problem: {bench.num_clips - len(data.clips)} clip(s) are not there{names}", is_problem=True)
    for clip in data.clips:
        try:
            problems, summary = _check_clip(bench, clip)
        except SparkVSRError as exc:
            problems, summary = [str(exc)], "unreadable"
        yield CheckLine(f"{clip.name}: {summary}")
        for problem in problems:
            yield CheckLine(f"problem: {clip.name}: {problem}", is_problem=True)


def _check_clip(bench: Bench, clip: ClipFiles) -> tuple[list[str], str]:
    problems, parts, counts = [], [], {}
    sizes: dict[str, tuple[int, int]] = {}
    for label, path in (("GT", clip.gt), ("LR", clip.lr)):
        if path is None:
            continue
        source = FileClip(path, clip.name)
        counts[label], sizes[label] = check_readable(source), source.size
        parts.append(f"{label} {counts[label]} frames {source.size[1]}x{source.size[0]}")
    if clip.lr is None:
        parts.append("LR frames are made")
    wanted = bench.frames_of(clip.name)
    if wanted is not None and any(count != wanted for count in counts.values()):
        problems.append(f"has {' and '.join(map(str, sorted(set(counts.values()))))} frames, the protocol has {wanted}")
    size = bench.gt_size_of(clip.name)
    if size is not None and "GT" in sizes and sizes["GT"] != size:
        problems.append(f"GT is {sizes['GT'][1]}x{sizes['GT'][0]}, the protocol has {size[1]}x{size[0]}")
    if len(counts) == 2:
        if counts["GT"] != counts["LR"]:
            problems.append(f"GT has {counts['GT']} frames but LR {counts['LR']}")
        problem = size_problem(bench, sizes["LR"], sizes["GT"])
        if problem:
            problems.append(problem)
    return problems, ", ".join(parts)


def size_problem(bench: Bench, lr: tuple[int, int], gt: tuple[int, int]) -> str | None:
    """Why an LR size does not fit a ground-truth size; GT may have up to ``scale - 1`` pixels more, which are cut."""
    if all(0 <= g - bench.scale * s < max(bench.scale, 1) for s, g in zip(lr, gt, strict=True)):
        return None
    return f"LR is {lr[1]}x{lr[0]}, GT {gt[1]}x{gt[0]}: not a factor of {bench.scale}"


def _collect(bench: Bench, folder: Path, gt: Path | None, lr: Path | None, wanted: Sequence[str]) -> BenchData | None:
    """The set in a folder, None where none of its clips is there."""
    gt_clips = clip_paths(gt) if gt is not None and bench.has_gt else {}
    lr_clips = clip_paths(lr) if lr is not None else {}
    present = gt_clips if bench.has_gt else lr_clips
    names = [name for name in bench.clips if name in present] if bench.clips else sorted(present)
    if not names:
        return None
    picked = _picked(names, wanted)
    without_lr = [name for name in picked if name not in lr_clips]
    if bench.lr_required and without_lr:
        where = f"{folder}/{bench.lr_folders[0]}"
        shown = ", ".join(without_lr[:_SHOWN])
        msg = (
            f"{bench.name} needs its own LR frames, and {where} has none for {len(without_lr)} clip(s) ({shown}); "
            f"expected {where}/CLIP/*.png or {where}-Video/CLIP.mkv; data/README.md says how to get them"
        )
        raise DatasetError(msg)
    clips = tuple(ClipFiles(name, gt_clips.get(name), lr_clips.get(name)) for name in picked)
    absent = tuple(name for name in bench.clips if name not in present)
    return BenchData(bench, folder, clips, absent)


def _picked(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    unknown = [name for name in wanted if name not in names]
    if unknown:
        msg = f"--clips {', '.join(unknown)} not found; there is {', '.join(names)}"
        raise ConfigError(msg)
    return [name for name in names if not wanted or name in wanted]


def _subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of the accepted subfolders that holds clips, whatever its case."""
    if not folder.is_dir():
        return None
    for name in names:
        place: Path | None = folder
        for part in name.split("/"):
            if place is not None:
                place = next(
                    (e for e in sorted(place.iterdir()) if e.is_dir() and e.name.lower() == part.lower()), None
                )
        if place is not None and clip_paths(place):
            return place
    return None


def _nothing_found(bench: Bench, roots: Sequence[Path]) -> str:
    folders = []
    if bench.has_gt:
        folders.append(bench.gt_folders[0])
    if bench.lr_required:
        folders.append(bench.lr_folders[0])
    shown = folders[0] if len(folders) == 1 else "{" + ",".join(folders) + "}"
    clip = bench.clips[0] if bench.clips else "CLIP"
    places = " or ".join(f"{root}/{bench.folder}/{shown}/{clip}/*.png" for root in roots)
    found = "; ".join(_found_in(root, bench) for root in roots)
    return (
        f"{bench.name} was not found; expected {places} (or {shown}-Video/{clip}.mkv); {found}; pass --data-root, or "
        f"get the data as data/README.md says ({bench.get})"
    )


def _found_in(root: Path, bench: Bench) -> str:
    place = next((folder for folder in (root / bench.folder, root) if folder.is_dir()), None)
    return f"{root} does not exist" if place is None else f"{place} holds {_listing(place)}"


def _listing(folder: Path) -> str:
    """What a folder holds, subfolders with their number of clips."""
    inside = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            count = len(clip_paths(entry))
            inside.append(f"{entry.name}/ ({count} clip{'s' * (count != 1)})" if count else f"{entry.name}/ (no clips)")
        elif not entry.name.startswith("."):
            inside.append(entry.name)
    more = f" and {len(inside) - _SHOWN} more" if len(inside) > _SHOWN else ""
    return ", ".join(inside[:_SHOWN]) + more if inside else "nothing"
