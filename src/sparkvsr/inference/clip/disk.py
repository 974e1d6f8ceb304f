"""How much disk a job will take, said before it starts and checked against what is free.

An estimate: the size of a video depends on what it shows. The figures are a little above the mean of six public clips,
restored by lite (``python benchmarks/disk.py``); those lie between a third and one and a half times.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkvsr.errors import ResourceError
from sparkvsr.inference.clip.job import ClipJob
from sparkvsr.inference.clip.output_names import compare_path
from sparkvsr.inference.clip.segments import Segment
from sparkvsr.units import human_bytes
from sparkvsr.video import EncodeOptions, output_kind
from sparkvsr.video.image_segments import image_suffix
from sparkvsr.video.options import CODECS

_BITS_PER_PIXEL = {"h264": 0.25, "hevc": 0.17, "av1": 0.13, "ffv1": 1.8, "prores": 3.3}
"""Bits for each output pixel at the default quality; see the module's docstring."""

_CRF_PER_HALF = 6.0
"""Steps of crf that halve the size (x264 and x265; av1's scale is longer)."""

_IMAGE_BITS_PER_PIXEL = {
    ".png": 10.0,
    ".tif": 14.0,
    ".tiff": 14.0,
    ".webp": 8.0,
    ".jpg": 4.0,
    ".jpeg": 4.0,
    ".bmp": 24.0,
}

_RESERVE_BYTES = 20_000_000
"""Left free in any case: file systems become slow and programs fail before the last byte."""


@dataclass(frozen=True)
class DiskNeed:
    """What a job takes.

    Attributes:
        output_bytes: the result, with comparison if asked for.
        work_bytes: segments and model states, until the result is complete.
        output_folder, work_folder: where.
    """

    output_bytes: int
    work_bytes: int
    output_folder: Path
    work_folder: Path

    def event(self) -> dict[str, Any]:
        """The part ``disk`` of the ``plan`` event."""
        return {
            "output_bytes": self.output_bytes,
            "work_bytes": self.work_bytes,
            "output_free_bytes": free_bytes(self.output_folder),
            "work_free_bytes": free_bytes(self.work_folder),
        }

    def check(self, output: Path, stored_bytes: int = 0) -> None:
        """Refuse a job that does not fit.

        Args:
            output: for the message.
            stored_bytes: of the work that is on the disk already.

        Raises:
            ResourceError: with what is needed, what is free, and what to do.
        """
        work = max(0, self.work_bytes - stored_bytes)
        needs = [(self.output_folder, self.output_bytes), (self.work_folder, work)]
        if _is_same_disk(self.output_folder, self.work_folder):
            needs = [(self.output_folder, self.output_bytes + work)]
        for folder, need in needs:
            free = free_bytes(folder)
            if need + _RESERVE_BYTES > free:
                msg = (
                    f"{output} needs about {_human(need)} on the disk of {_nearest(folder)} (result "
                    f"{_human(self.output_bytes)}, segments until it is complete {_human(work)}), {_human(free)} are "
                    f"free; free some, give another -o or --work, or ask for less with --crf, --scale or --frames"
                )
                raise ResourceError(msg)


def disk_need(job: ClipJob, segments: Sequence[Segment], work_folder: Path) -> DiskNeed:
    """Estimate what a job takes."""
    pixels = job.size.width * job.size.height
    picture = int(job.num_frames * pixels * bits_per_pixel(job.output, job.encode, job.info.bit_depth) / 8)
    others = 0
    info = job.info
    has_others = info.num_audio + info.num_subtitles + info.num_attachments > 0
    if output_kind(job.output) == "video" and info.kind == "video" and has_others:
        # Sound and the like are copied; how large they are is not known before, but less than the source.
        with suppress(OSError):
            others = int(info.path.stat().st_size * job.num_frames / max(1, info.num_frames))
    comparison = 0
    if job.compare:
        wide = 2 * bits_per_pixel(compare_path(job.output), EncodeOptions(), 8)
        comparison = int(job.num_frames * pixels * wide / 8) + others
    # The last segment of a shot needs no state.
    states = job.state_bytes * (len(segments) - len(job.shots))
    return DiskNeed(picture + others + comparison, picture + states, job.output.absolute().parent, work_folder)


def bits_per_pixel(output: Path, options: EncodeOptions, source_bits: int) -> float:
    """Estimated bits for each pixel of the output."""
    if output_kind(output) != "video":
        suffix = image_suffix(output)
        deep = 2.2 if source_bits > 8 and suffix in (".png", ".tif", ".tiff") else 1.0
        return _IMAGE_BITS_PER_PIXEL.get(suffix, 24.0) * deep
    bits = _BITS_PER_PIXEL[options.codec]
    default = CODECS[options.codec].crf
    if options.crf is not None and default is not None:
        steps = _CRF_PER_HALF * (63 / 51 if options.codec == "av1" else 1)
        bits *= 2 ** ((default - options.crf) / steps)
    if options.codec in ("ffv1", "prores") and source_bits > 8:
        bits *= 1.5
    return bits


def free_bytes(folder: Path) -> int:
    """Free space for this user where a folder is or will be made."""
    return shutil.disk_usage(_nearest(folder)).free


def _nearest(folder: Path) -> Path:
    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    return nearest


def _is_same_disk(first: Path, second: Path) -> bool:
    return os.stat(_nearest(first)).st_dev == os.stat(_nearest(second)).st_dev  # noqa: PTH116 (reads as a comparison)


def _human(count: float) -> str:
    return human_bytes(count, digits=0)
