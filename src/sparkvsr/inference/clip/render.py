"""Rendering a job's segments: only those that the work store does not hold, reading and encoding in threads."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sparkvsr.errors import DecodeError, EncodeError, KeyframeError
from sparkvsr.hooks import Hook, ProgressReporter
from sparkvsr.inference.clip.engine import KeyframeLoader, SegmentEnd, restore_segments
from sparkvsr.inference.clip.heap import release_free_memory
from sparkvsr.inference.clip.job import ClipJob, UpscaleJob
from sparkvsr.inference.clip.segments import SEGMENT_FRAMES, Segment, plan_segments
from sparkvsr.inference.clip.store import WorkStore
from sparkvsr.keyframes.references import ReferenceMaker
from sparkvsr.threads import BackgroundSink, prefetch
from sparkvsr.version import __version__
from sparkvsr.video import Frame, VideoWriter, assemble, image_segments, output_kind
from sparkvsr.video.options import encoder_version
from sparkvsr.video.pixels import resize_image

_log = logging.getLogger(__name__)

LR_FRAMES_AHEAD = 4
SR_FRAMES_WAITING = 4
"""Queue lengths: enough to hide a slow moment of decoder or encoder, small enough for 4K frames (100 MB each)."""

RELEASE_EVERY = 16
"""Frames between two releases of free heap memory: 1% of lite's time at 320x180; with 8 it is 3% for 20 MiB less."""


def keyframe_loader(job: UpscaleJob, planned: Mapping[int, str] | None = None) -> KeyframeLoader:
    """The loader of a job's keyframes.

    Args:
        job: whose keyframes are meant.
        planned: identities of their images, of those that are used now by default: another image is refused.
    """
    clip, maker = job.clip, job.maker
    # Files of the user's; what a program or an endpoint gives is asked for once, under the key of its settings.
    if not maker.holds_images:
        planned = {}
    elif planned is None:
        planned = {index: _identity(maker, index) for index in clip.selection.indices}

    def check(index: int) -> None:
        if index in planned and _identity(maker, index) != planned[index]:
            msg = f"the reference image of keyframe {index} was changed while it was used; run the same again"
            raise KeyframeError(msg)

    return KeyframeLoader(clip.open_frames, maker, clip.settings.working_size, check=check)


def pixel_settings(job: UpscaleJob) -> dict[str, object]:
    """Everything that decides the bytes of all segments of a job, besides its frames and keyframes."""
    clip, settings = job.clip, job.clip.settings
    is_video = output_kind(clip.output) == "video"
    return {
        "version": __version__,
        "model": job.model.fingerprint(),
        "device": job.model.device.type,
        "dtype": str(job.model.dtype),
        "size": [*settings.size, *settings.working_size],
        "guidance_scale": settings.guidance_scale,
        "seed": settings.seed,
        "tile": settings.tile,
        # A model that cannot be continued in mid-shot may depend on where its chunks lie.
        "chunk_frames": None if job.model.is_resumable else settings.chunk_frames,
        "encode": repr(clip.encode),
        "grey": settings.is_grey,
        "picture": [clip.info.pixel_format, repr(clip.info.color), str(clip.info.average_fps), repr(clip.info.hdr)],
        "encoder": encoder_version(),
        "images": None if is_video else image_segments.image_suffix(clip.output),
        "threads": None if job.model.is_thread_invariant else torch.get_num_threads(),
    }


def segments_of(job: UpscaleJob) -> list[Segment]:
    """The job's segments with their keys."""
    return plan_segments(
        job.clip.shots,
        job.clip.selection.indices,
        lookahead=job.model.keyframe_lookahead,
        longest=SEGMENT_FRAMES if job.model.is_resumable else None,
        settings=pixel_settings(job),
        frame_digest=job.clip.record.digest,
        keyframe_identity=lambda index: _identity(job.maker, index),
    )


def _identity(maker: ReferenceMaker, index: int) -> str:
    try:
        return maker.identity(index)
    except OSError as exc:
        msg = f"the reference image of keyframe {index} cannot be read any more ({exc.strerror}); put it back"
        raise KeyframeError(msg) from exc


def missing_runs(segments: Sequence[Segment], store: WorkStore) -> tuple[list[list[Segment]], int]:
    """Runs of segments that have to be rendered.

    A run begins where a shot begins, or behind a segment whose model state is stored; where that state is lost, the
    run begins earlier.

    Returns:
        Runs of neighbouring segments, and the number of frames that need not be rendered.
    """
    position = {segment.key: k for k, segment in enumerate(segments)}
    needed = {k for k, segment in enumerate(segments) if not store.has(segment.key, segment.num_frames)}
    for k in sorted(needed):
        first = k
        while (previous := segments[first].previous) is not None:
            # A segment before the first one given is somebody else's work; its state is there.
            if previous not in position or position[previous] in needed or store.has_state(previous):
                break
            first = position[previous]
            needed.add(first)
    runs: list[list[Segment]] = []
    for k in sorted(needed):
        follows = k > 0 and segments[k - 1].stop == segments[k].start
        if runs and follows and runs[-1][-1] is segments[k - 1]:
            runs[-1].append(segments[k])
        else:
            runs.append([segments[k]])
    kept = sum(segment.num_frames for k, segment in enumerate(segments) if k not in needed)
    return runs, kept


def render_segments(job: UpscaleJob, runs: Sequence[Sequence[Segment]], store: WorkStore, hook: Hook) -> None:
    """Restore and encode the segments of some runs into the store.

    Raises:
        SparkVSRError: reading, restoring or encoding failed; finished segments stay in the store.
    """
    progress = ProgressReporter(hook, sum(segment.num_frames for run in runs for segment in run))
    encoder = _SegmentEncoder(job.clip, store)
    with ExitStack() as stack:
        stack.callback(encoder.abort)
        loader = keyframe_loader(job, {k: text for run in runs for segment in run for k, text in segment.references})
        stack.callback(loader.close)
        stack.enter_context(torch.inference_mode())
        sink = stack.enter_context(BackgroundSink(encoder.take, SR_FRAMES_WAITING))
        settings = job.clip.settings
        depth = max(LR_FRAMES_AHEAD, settings.chunk_frames)
        for run in runs:
            previous = run[0].previous
            state = None if previous is None else store.state(previous)
            if previous is not None and state is None:
                # Going on without it would give other pixels under the same key.
                msg = f"the model's state before frame {run[0].start} is lost from {store.folder}; run the same again"
                raise DecodeError(msg)
            opened = job.clip.open_frames(run[0].start, run[-1].stop)
            with closing(prefetch(opened, depth)) as frames:
                segments = restore_segments(job.model, frames, run, job.clip.selection.indices, loader, settings, state)
                for item in segments:
                    sink.put(item)
                    if not isinstance(item, SegmentEnd):
                        progress.advance()
    release_free_memory()  # joining the segments begins with an empty heap


class _SegmentEncoder:
    """Writes what the engine gives into segment files; lives in the writing thread."""

    def __init__(self, job: ClipJob, store: WorkStore) -> None:
        self._job = job
        self._store = store
        self._size = job.settings.size
        self._writer: VideoWriter | image_segments.ImageSegmentWriter | None = None
        self._taken = 0

    def take(self, item: tuple[Frame, Tensor] | SegmentEnd[Segment]) -> None:
        """Encode a frame, or finish the segment."""
        try:
            self._take(item)
        except EncodeError as exc:
            # It is the work folder's disk that is full, wherever the output lies.
            raise EncodeError(str(exc).replace("another --output", "another --work")) from exc

    def _take(self, item: tuple[Frame, Tensor] | SegmentEnd[Segment]) -> None:
        if isinstance(item, SegmentEnd):
            assert self._writer is not None
            writer, self._writer = self._writer, None
            partial = writer.close()
            self._job.check_unchanged()
            self._store.take(item.segment.key, partial, item.segment.num_frames, item.state)
            _log.info("rendered frames %d to %d", item.segment.start, item.segment.stop - 1)
            return
        frame, sr = item
        if self._writer is None:
            self._writer = self._open(self._store.partial_path())
        alpha = None if frame.alpha is None else resize_image(frame.alpha, self._size)
        self._writer.write(sr, frame.pts, frame.duration, alpha=alpha)
        self._taken += 1
        if self._taken % RELEASE_EVERY == 0:
            release_free_memory()

    def _open(self, path: Path) -> VideoWriter | image_segments.ImageSegmentWriter:
        if output_kind(self._job.output) != "video":
            return image_segments.ImageSegmentWriter(
                path, self._job.output, self._job.info, is_grey=self._job.settings.is_grey
            )
        options = replace(self._job.encode, copy_streams=False)
        return VideoWriter(path, source=self._job.info, size=self._size, options=options, overwrite=True)

    def abort(self) -> None:
        """Drop an unfinished segment."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None


def segment_suffix(output: Path) -> str:
    """Of the segment files of an output."""
    return assemble.SEGMENT_SUFFIX if output_kind(output) == "video" else image_segments.SEGMENT_SUFFIX
