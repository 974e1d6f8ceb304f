"""From a decided job to its output: the work folder, what is missing in it, joining, and what is kept afterwards.

Rendering lies between ``missing`` and ``finish``; who does it, this process or others, makes no difference here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

from torch import Tensor

from sparkvsr.hooks import Hook, for_input
from sparkvsr.inference.clip.disk import DiskNeed, disk_need
from sparkvsr.inference.clip.job import ClipJob
from sparkvsr.inference.clip.other_load import OtherLoad
from sparkvsr.inference.clip.output_names import compare_path
from sparkvsr.inference.clip.render import missing_runs, segment_suffix
from sparkvsr.inference.clip.segments import Segment
from sparkvsr.inference.clip.store import WorkStore, default_work_folder, was_joining
from sparkvsr.inference.compare.captions import GAP_PX, side_by_side
from sparkvsr.output_lock import OutputLock
from sparkvsr.version import __version__
from sparkvsr.video import VideoReader, VideoWriter, check_output, output_kind, read_image
from sparkvsr.video.assemble import assemble_video
from sparkvsr.video.image_segments import SEGMENT_SUFFIX as IMAGE_SEGMENT_SUFFIX
from sparkvsr.video.image_segments import assemble_images, unpack_images
from sparkvsr.video.pixels import resize_image

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UpscaleResult:
    """What was made.

    Attributes:
        output: file, folder or pattern written.
        compare: side-by-side video, if asked for.
        height, width, frames: of the output.
        rendered: frames that were restored now; the others were in the work folder.
        seconds: from the first frame read to the file complete.
        keyframe_indices: that were used.
        work: the work folder, if it is kept.
        notes: what the user should know.
    """

    output: Path
    compare: Path | None
    height: int
    width: int
    frames: int
    rendered: int
    seconds: float
    keyframe_indices: tuple[int, ...]
    work: Path | None
    notes: tuple[str, ...]

    @property
    def fps(self) -> float:
        """Frames restored per second, decode and encode included."""
        return self.rendered / self.seconds if self.seconds else 0.0


SIGNATURE = "upscaled by sparkvsr"
"""How the comment of every video that is written here begins, or goes on behind the source's own."""


class ClipWork:
    """One job with its work folder; a context manager that holds the folder.

    Args:
        job: with everything decided.
        segments: the segments of the job.
        hook: gets ``plan``, ``resume``, ``note`` and ``done`` events.
        estimated_seconds: from now to the complete output, None if not known.

    Attributes:
        other_programs: once it is complete, the share of the machine that others took (``OtherLoad.share``).
    """

    def __init__(
        self, job: ClipJob, segments: Sequence[Segment], hook: Hook, estimated_seconds: float | None = None
    ) -> None:
        self.job = job
        self._estimated = None if estimated_seconds is None else round(estimated_seconds, 1)
        self.segments = list(segments)
        self.hook = for_input(hook, job.info.path)
        self.folder = job.work.folder or default_work_folder(job.output)
        self.store = WorkStore(self.folder, job.work.limit_bytes, suffix=segment_suffix(job.output))
        self._output_lock = OutputLock(job.output)
        self.need: DiskNeed = disk_need(job, self.segments, self.folder)
        self._started = time.monotonic()
        self._load = OtherLoad()
        self.other_programs: float | None = None
        self._kept_frames = 0

    def report_plan(self) -> None:
        """Send the event "plan"; nothing is written yet.

        Raises:
            ResourceError: the disk is too small, were nothing of the job stored yet.
        """
        pieces = {"pieces": len(self.segments), "disk": self.need.event(), "estimated_seconds": self._estimated}
        self.hook({**plan_event(self.job), **pieces})

    def check_disk(self, stored_bytes: int = 0) -> None:
        """Refuse a job that does not fit on the disk.

        Raises:
            ResourceError: see ``DiskNeed.check``.
        """
        self.need.check(self.job.output, stored_bytes)

    def __enter__(self) -> ClipWork:
        existed = self.folder.exists()
        self.store.__enter__()
        try:
            self._output_lock.__enter__()
            self.check_disk(self.store.stored_bytes)
        except BaseException:
            self.store.__exit__(None, None, None)
            if not existed:
                self.store.remove()
            self._output_lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        policy = self.job.work
        if kind is None:
            if self.kept_folder is None:
                self.store.remove()
        elif not policy.keep or (self.store.is_empty and policy.folder is None):
            self.store.remove()
        self.store.__exit__(kind, error, trace)
        self._output_lock.__exit__(kind, error, trace)

    @property
    def kept_folder(self) -> Path | None:
        """The work folder if it stays after success: where the user named it, or where another edit is likely."""
        policy = self.job.work
        is_kept = policy.keep and (policy.folder is not None or self.job.has_own_images)
        return self.folder if is_kept else None

    def missing(self) -> list[list[Segment]]:
        """Runs of neighbouring segments that have to be rendered; says what an earlier run left."""
        runs, self._kept_frames = missing_runs(self.segments, self.store)
        damaged = len(self.store.damaged)
        if self._kept_frames or damaged:
            self.hook(
                {
                    "event": "resume",
                    "kept": self._kept_frames,
                    "total": self.job.num_frames,
                    "damaged": damaged,
                    "work": str(self.folder),
                }
            )
        _log.info(
            "%s: %d of %d frames to render, in %d segments; work folder %s",
            *(self.job.output, self.job.num_frames - self._kept_frames, self.job.num_frames),
            *(sum(map(len, runs)), self.folder),
        )
        return runs

    def still_missing(self) -> list[list[Segment]]:
        """Runs of segments that are missing or were found damaged after all."""
        return missing_runs(self.segments, self.store)[0]

    def finish(self) -> UpscaleResult:
        """Join the segments under the output's name, which appears only now, and say so.

        Raises:
            SparkVSRError: the output cannot be written, or a segment is damaged.
        """
        job = self.job
        notes: list[str] = []
        started = time.monotonic()
        segments = [self.store.path(segment.key) for segment in self.segments]
        # Both names are taken by this run, or by an interrupted one (`prepare` has looked).
        check_output(job.output, job.overwrite or was_joining(self.folder), job.encode)
        job.check_unchanged(look_inside=True)
        self.store.begin_joining()
        comparison = None
        if job.compare:
            # Before the output: that one's name says that all is done.
            comparison = compare_path(job.output)
            write_comparison(job, segments, comparison, self.folder)
        if output_kind(job.output) == "video":
            notes = assemble_video(
                job.output,
                segments,
                job.record.times,
                source=job.info,
                size=(job.size.height, job.size.width),
                options=job.encode,
                overwrite=True,
                clip_range=job.clip_range,
                made_by=made_by(job),
                check=lambda: job.check_unchanged(look_inside=True),
            )
        else:
            assemble_images(
                job.output, segments, job.num_frames, source=job.info, overwrite=True, start=job.shots[0].start
            )
        _log.info("%s: joined %d segments in %.2f s", job.output, len(segments), time.monotonic() - started)
        self.store.end_joining()
        self.store.prune({segment.key for segment in self.segments})
        result = UpscaleResult(
            output=job.output,
            compare=comparison,
            height=job.size.height,
            width=job.size.width,
            frames=job.num_frames,
            rendered=job.num_frames - self._kept_frames,
            seconds=time.monotonic() - self._started,
            keyframe_indices=job.selection.indices,
            work=self.kept_folder,
            notes=tuple(dict.fromkeys([*job.notes, *notes])),
        )
        # An estimate is of the whole clip: it cannot be held against a run that went on.
        estimated = None if self._kept_frames else self._estimated
        self.other_programs = self._load.share()
        self.hook({**_done_event(result), "estimated_seconds": estimated, "other_programs": self.other_programs})
        return result


def made_by(job: ClipJob) -> str:
    """What the container says of its making."""
    look = f", look {job.look}" if job.look else ""
    return f"{SIGNATURE} {__version__}, model {job.model_name}{look}"


def write_comparison(job: ClipJob, segments: Sequence[Path], path: Path, scratch: Path) -> None:
    """Write the restored frames beside a bicubic upscaling of the input.

    Args:
        segments: with the restored frames.
        path: the video to write.
        scratch: folder for images of one segment at a time.
    """
    size = (job.size.height, job.size.width)
    wide = (size[0], 2 * size[1] + GAP_PX)
    with ExitStack() as stack:
        low = stack.enter_context(closing(job.open_frames()))
        high = stack.enter_context(closing(_frames_of(segments, scratch)))
        writer = stack.enter_context(
            VideoWriter(path, source=job.info, size=wide, overwrite=True, clip_range=job.clip_range)
        )
        for lr, sr in zip(low, high, strict=True):
            left = resize_image(lr.pixels, size)
            joined = side_by_side(left, sr, "bicubic", " ".join(filter(None, ("sparkvsr", job.model_name, job.look))))
            writer.write(joined, lr.pts, lr.duration)
        job.check_unchanged(look_inside=True)


def _frames_of(segments: Sequence[Path], scratch: Path) -> Generator[Tensor, None, None]:
    """The frames that segments hold, ``(3, H, W)``."""
    for segment in segments:
        if segment.suffix != IMAGE_SEGMENT_SUFFIX:
            with VideoReader(segment) as reader:
                yield from (frame.pixels for frame in reader)
            continue
        with TemporaryDirectory(dir=scratch, prefix=".compare-") as folder:
            for image in unpack_images(segment, Path(folder)):
                yield read_image(image)
                image.unlink()


def plan_event(job: ClipJob) -> dict[str, Any]:
    """The ``plan`` event of a job."""
    return {
        "event": "plan",
        "output": str(job.output),
        "width": job.size.width,
        "height": job.size.height,
        "scale": round(job.size.scale, 4),
        "frames": job.num_frames,
        "model": job.model_name,
        "device": job.model_device,
        "dtype": job.model_dtype,
        "look": job.look,
        "shots": [[shot.start, shot.stop] for shot in job.shots],
        "keyframes": list(job.selection.indices),
        "own_keyframes": sorted(job.settings.own_keyframes),
        "dropped_keyframes": list(job.selection.dropped),
        "keyframe_method": job.selection.method,
        "references": job.references,
        "guidance_scale": job.settings.guidance_scale,
        "chunk_frames": job.settings.chunk_frames,
        "tile": job.settings.tile,
        "memory_bytes": job.memory_bytes,
        "notes": list(job.notes),
    }


def _done_event(result: UpscaleResult) -> dict[str, Any]:
    return {
        "event": "done",
        "output": str(result.output),
        "compare": None if result.compare is None else str(result.compare),
        "width": result.width,
        "height": result.height,
        "frames": result.frames,
        "rendered": result.rendered,
        "seconds": round(result.seconds, 3),
        "fps": round(result.fps, 3),
        "bytes": result.output.stat().st_size if result.output.is_file() else None,
        "work": None if result.work is None else str(result.work),
        "notes": list(result.notes),
    }
