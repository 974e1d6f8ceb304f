"""The whole job for one clip: plan, then read, restore and write at the same time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparkvsr.errors import ConfigError
from sparkvsr.inference.compare import GAP_PX, side_by_side
from sparkvsr.inference.job import SEQUENCE_PATTERN, UpscaleJob, UpscaleOptions, compare_path, plan_event, prepare
from sparkvsr.inference.pipeline import BackgroundSink
from sparkvsr.inference.progress import Hook, ProgressReporter, silent
from sparkvsr.inference.render import (
    SR_FRAMES_WAITING,
    missing_runs,
    render_segments,
    restored_frames,
    segments_of,
)
from sparkvsr.inference.store import WorkStore, default_work_folder
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.references import FolderMaker, resize_image
from sparkvsr.models.interface import RestorationModel
from sparkvsr.models.registry import load_model
from sparkvsr.shapes import parse_size
from sparkvsr.video import EncodeOptions, Frame, VideoReader, VideoWriter, output_kind
from sparkvsr.video.assemble import assemble_video, can_assemble


@dataclass(frozen=True)
class UpscaleResult:
    """What was made.

    Attributes:
        output: file, folder or pattern written.
        compare: side-by-side video, if asked for.
        height, width, frames: of the output.
        seconds: from the first frame read to the file complete.
        keyframe_indices: that were used.
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


def run(job: UpscaleJob, hook: Hook = silent) -> UpscaleResult:
    """Restore and write one prepared clip. The output appears under its name only when it is complete.

    A video is rendered in segments that a work folder keeps until the output is complete, so that the same call
    goes on where an interrupted one stopped.

    Raises:
        SparkVSRError: reading, restoring or writing failed; nothing is left under the output's name.
    """
    hook(plan_event(job))
    started = time.monotonic()
    in_segments = output_kind(job.output) == "video" and can_assemble(job.output)
    notes, rendered, work = _run_in_segments(job, hook) if in_segments else _run_directly(job, hook)
    comparison = None
    if job.options.compare:
        comparison = compare_path(job.output)
        write_comparison(job, comparison)
    result = UpscaleResult(
        output=job.output,
        compare=comparison,
        height=job.size.height,
        width=job.size.width,
        frames=job.num_frames,
        rendered=rendered,
        seconds=time.monotonic() - started,
        keyframe_indices=job.selection.indices,
        work=work,
        notes=tuple(dict.fromkeys([*job.notes, *notes])),
    )
    hook(_done_event(result))
    return result


def _run_in_segments(job: UpscaleJob, hook: Hook) -> tuple[list[str], int, Path | None]:
    """Render what the work folder does not hold, and join; returns notes, frames rendered, the folder if kept."""
    options = job.options
    folder = options.work or default_work_folder(job.output)
    is_kept = options.keep_work and (options.work is not None or isinstance(job.maker, FolderMaker))
    with WorkStore(folder, options.work_limit_bytes) as store:
        try:
            segments = segments_of(job)
            runs, kept = missing_runs(segments, store)
            if kept:
                hook({"event": "resume", "kept": kept, "total": job.num_frames, "work": str(folder)})
            render_segments(job, runs, store, hook)
            notes = assemble_video(
                job.output,
                [store.path(segment.key) for segment in segments],
                job.record.times,
                source=job.info,
                size=(job.size.height, job.size.width),
                options=options.encode,
                overwrite=options.overwrite,
                clip_range=_clip_range(job),
            )
            store.prune({segment.key for segment in segments})
        except BaseException:
            if not options.keep_work or (store.is_empty and options.work is None):
                store.remove()
            raise
        if not is_kept:
            store.remove()
    return notes, job.num_frames - kept, folder if is_kept else None


def _run_directly(job: UpscaleJob, hook: Hook) -> tuple[list[str], int, None]:
    """Restore, encode and write in one go: images, and containers that cannot be joined from pieces."""
    size = (job.size.height, job.size.width)
    progress = ProgressReporter(hook, job.num_frames)
    with ExitStack() as stack:
        writer = stack.enter_context(
            VideoWriter(
                job.output,
                source=job.info,
                size=size,
                options=job.options.encode,
                overwrite=job.options.overwrite,
                clip_range=_clip_range(job),
            )
        )

        def consume(item: tuple[Frame, Tensor]) -> None:
            frame, sr = item
            alpha = None if frame.alpha is None else resize_image(frame.alpha, size)
            writer.write(sr, frame.pts, frame.duration, alpha=alpha)

        frames = stack.enter_context(closing(restored_frames(job)))
        stack.enter_context(torch.inference_mode())
        sink = stack.enter_context(BackgroundSink(consume, SR_FRAMES_WAITING))
        for item in frames:
            sink.put(item)
            progress.advance()
    return writer.notes, job.num_frames, None


def _clip_range(job: UpscaleJob) -> tuple[int, int] | None:
    is_whole = job.options.start == 0 and job.options.frames is None
    return None if is_whole else (job.shots[0].start, job.num_frames)


def write_comparison(job: UpscaleJob, path: Path) -> None:
    """Write the finished output beside a bicubic upscaling of its input."""
    size = (job.size.height, job.size.width)
    wide = (size[0], 2 * size[1] + GAP_PX)
    has_frames = output_kind(job.output) != "sequence"
    result = job.output if has_frames else job.output.parent if "%" in job.output.name else job.output
    with ExitStack() as stack:
        low = stack.enter_context(closing(job.open_frames()))
        high = stack.enter_context(VideoReader(result))
        writer = stack.enter_context(
            VideoWriter(path, source=job.info, size=wide, overwrite=job.options.overwrite, clip_range=_clip_range(job))
        )
        for lr, sr in zip(low, high, strict=False):
            left = resize_image(lr.pixels, size)
            joined = side_by_side(left, sr.pixels, "bicubic", f"sparkvsr {job.model.name}")
            writer.write(joined, lr.pts, lr.duration)


def make_options(**options: Any) -> UpscaleOptions:
    """``UpscaleOptions`` from plain values as a person writes them.

    ``keyframes`` may be ``"iframes"``, ``"every:24"``, ``[0, 48]``; ``size`` may be ``"1920x1080"``; ``codec``,
    ``crf`` and ``pixel_format`` go into the encoder's settings.

    Raises:
        ConfigError: unknown option or value.
    """
    encode_names = {"codec", "crf", "preset", "pixel_format", "copy_streams"}
    known = {item.name for item in fields(UpscaleOptions)} | encode_names
    for name in options:
        if name not in known:
            msg = f"upscale() has no option {name!r}; it takes {', '.join(sorted(known))}"
            raise ConfigError(msg)
    given = {name: options.pop(name) for name in sorted(encode_names & options.keys())}
    encode = {name: value for name, value in given.items() if value is not None}
    if "keyframes" in options:
        options["keyframes"] = KeyframeChoice.parse(options["keyframes"])
    if isinstance(options.get("size"), str):
        options["size"] = parse_size(options["size"])
    if "references" in options:
        options["references"] = str(options["references"])
    if "model" in options:
        options["model"] = str(options["model"])
    if encode:
        options["encode"] = EncodeOptions(**encode)
    return UpscaleOptions(**options)


def upscale(
    path: str | Path,
    output: str | Path | None = None,
    *,
    model: str | Path | RestorationModel = "lite",
    hook: Hook = silent,
    **options: Any,
) -> UpscaleResult:
    """Upscale one clip: what ``sparkvsr upscale`` does, from Python.

        import sparkvsr
        result = sparkvsr.upscale("in.mp4", "out.mp4", keyframes="iframes")
        print(result.output, result.fps)

    Args:
        path: video, image, folder of images or printf pattern.
        output: default beside the input.
        model: name, folder, hub id, or a model that was loaded before.
        hook: gets the events of ``inference.progress``.
        options: the fields of ``UpscaleOptions`` and ``EncodeOptions``, see ``make_options``.

    Raises:
        SparkVSRError: one clear line of what is wrong; nothing is left under the output's name.
    """
    chosen = make_options(**options) if isinstance(model, RestorationModel) else make_options(model=model, **options)
    loaded = model if isinstance(model, RestorationModel) else load_for(chosen)
    target = None if output is None else as_output(output)
    return run(prepare(Path(path), target, chosen, loaded, hook), hook)


def load_for(options: UpscaleOptions) -> RestorationModel:
    """The model an ``UpscaleOptions`` names."""
    return load_model(options.model, device=options.device, dtype=options.dtype, **options.model_options)


def as_output(output: str | Path) -> Path:
    """A trailing slash means a folder of images; ``Path`` drops it, so it becomes a pattern here."""
    path = Path(output).expanduser()
    return path / SEQUENCE_PATTERN if str(output).endswith("/") else path


def _done_event(result: UpscaleResult) -> dict[str, Any]:
    paths: Sequence[Path] = [result.output] if result.output.is_file() else []
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
        "bytes": sum(path.stat().st_size for path in paths) if paths else None,
        "work": None if result.work is None else str(result.work),
        "notes": list(result.notes),
    }
