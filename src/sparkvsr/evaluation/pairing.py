"""Which restored clip belongs to which ground truth, when the user gives two paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sparkvsr.errors import DatasetError, MetricError
from sparkvsr.evaluation.frames import CroppedClip, FileClip, FrameClip, clip_paths, holds_images
from sparkvsr.evaluation.numbering import paired_by_number

Crop = Literal["none", "center", "topleft"]


@dataclass(frozen=True)
class ClipPair:
    """A restored clip and its ground truth, of one size and one length.

    Attributes:
        notes: what was cut to make them agree, one line each.
    """

    name: str
    sr: FrameClip
    gt: FrameClip
    notes: tuple[str, ...] = ()


def pair_paths(sr: Path, gt: Path, *, crop: Crop = "none", trim: bool = False) -> list[ClipPair]:
    """Pair the clips of two paths.

    Args:
        sr, gt: two videos, two folders of frames, one of each, or two folders of either (paired by name).
        crop: how to make sizes agree: refuse, or cut both to the common size around the centre or from the top left.
        trim: cut the longer clip at its end; refused otherwise.

    Raises:
        DatasetError: a path is missing, or clips have no partner.
        MetricError: sizes or frame counts differ and were not allowed to.
    """
    for label, path in (("--pred", sr), ("--gt", gt)):
        if not path.exists() and "%" not in path.name:
            msg = f"{label} {path} does not exist; give a video, a folder of frames, or a folder of either"
            raise DatasetError(msg)
    sr_set, gt_set = _as_set(sr, "--pred"), _as_set(gt, "--gt")
    if (sr_set is None) != (gt_set is None):
        many, one = (("--pred", sr), ("--gt", gt)) if sr_set is not None else (("--gt", gt), ("--pred", sr))
        msg = f"{many[0]} {many[1]} holds several clips but {one[0]} {one[1]} is a single clip; give two of one kind"
        raise DatasetError(msg)
    if sr_set is None or gt_set is None:
        return [_fit(FileClip(sr), FileClip(gt), crop, trim)]
    common = sorted(set(sr_set) & set(gt_set))
    alone = sorted(set(sr_set) ^ set(gt_set))
    if alone or not common:
        shown = ", ".join(alone[:5]) + (f" and {len(alone) - 5} more" if len(alone) > 5 else "")
        msg = (
            f"--pred {sr} and --gt {gt} must hold clips of the same names; without a partner: {shown}; "
            "rename or move them"
        )
        raise DatasetError(msg)
    return [_fit(FileClip(sr_set[name], name), FileClip(gt_set[name], name), crop, trim) for name in common]


def _as_set(path: Path, label: str) -> dict[str, Path] | None:
    """The clips of a folder of clips, or None when the path is one clip."""
    if not path.is_dir() or holds_images(path):
        return None
    clips = clip_paths(path)
    if not clips:
        inside = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
        msg = f"{label} {path} holds neither images, videos nor folders of images (found: {inside})"
        raise DatasetError(msg)
    return clips


def _fit(sr: FrameClip, gt: FrameClip, crop: Crop, trim: bool) -> ClipPair:
    sr, gt, notes = paired_by_number(sr, gt, trim=trim)
    frames = min(sr.num_frames, gt.num_frames)
    if sr.num_frames != gt.num_frames:
        if not trim:
            msg = (
                f"{sr.name}: the restored clip has {sr.num_frames} frames but the ground truth {gt.num_frames}; "
                "counts must agree (--trim cuts the longer one at its end)"
            )
            raise MetricError(msg)
        notes.append(f"trimmed to {frames} frames (restored {sr.num_frames}, ground truth {gt.num_frames})")
    size = (min(sr.size[0], gt.size[0]), min(sr.size[1], gt.size[1]))
    if sr.size != gt.size:
        if crop == "none":
            msg = (
                f"{sr.name}: the restored clip is {sr.size[1]}x{sr.size[0]} but the ground truth "
                f"{gt.size[1]}x{gt.size[0]}; sizes must agree (--crop topleft or --crop center cuts both)"
            )
            raise MetricError(msg)
        notes.append(f"cropped to {size[1]}x{size[0]} ({crop})")
    if sr.num_frames != gt.num_frames or sr.size != gt.size:
        sr, gt = (CroppedClip(clip, size, _corner(clip.size, size, crop), frames) for clip in (sr, gt))
    return ClipPair(gt.name, sr, gt, tuple(notes))


def _corner(full: tuple[int, int], size: tuple[int, int], crop: Crop) -> tuple[int, int]:
    if crop == "center":
        return (full[0] - size[0]) // 2, (full[1] - size[1]) // 2
    return 0, 0
