"""The whole job for one clip: plan, then read, restore and write at the same time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparkvsr.errors import ConfigError
from sparkvsr.inference.compare import GAP_PX, side_by_side
from sparkvsr.inference.engine import KeyframeLoader, RestoreSettings, restore_stream
from sparkvsr.inference.job import SEQUENCE_PATTERN, UpscaleJob, UpscaleOptions, compare_path, plan_event, prepare
from sparkvsr.inference.pipeline import BackgroundSink, prefetch
from sparkvsr.inference.progress import Hook, RateMeter, silent
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.references import resize_image
from sparkvsr.models.interface import RestorationModel
from sparkvsr.models.registry import load_model
from sparkvsr.shapes import parse_size
from sparkvsr.video import EncodeOptions, Frame, VideoWriter

PROGRESS_SECONDS = 0.5

LR_FRAMES_AHEAD = 4
SR_FRAMES_WAITING = 4
"""Queue lengths: enough to hide a slow moment of decoder or encoder, small enough for 4K frames (100 MB each)."""


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
    seconds: float
    keyframe_indices: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def fps(self) -> float:
        """Frames restored per second, decode and encode included."""
        return self.frames / self.seconds if self.seconds else 0.0


def restored_frames(job: UpscaleJob) -> Iterator[tuple[Frame, Tensor]]:
    """The restored frames of a job, LR frame and ``(3, H, W)`` float32 in [0, 1], with reading in a thread."""
    settings = RestoreSettings(
        size=(job.size.height, job.size.width),
        working_size=job.working_size,
        guidance_scale=job.options.guidance_scale,
        chunk_frames=job.plan.chunk_frames,
        tile=job.plan.tile,
        seed=job.options.seed,
    )
    with ExitStack() as stack:
        loader = KeyframeLoader(job.open_frames, job.maker, job.working_size)
        stack.callback(loader.close)
        depth = max(LR_FRAMES_AHEAD, job.plan.chunk_frames)
        frames = stack.enter_context(closing(prefetch(job.open_frames(), depth)))
        yield from restore_stream(job.model, frames, job.shots, job.selection.indices, loader, settings)


def run(job: UpscaleJob, hook: Hook = silent) -> UpscaleResult:
    """Restore and write one prepared clip. The output appears under its name only when it is complete.

    Raises:
        SparkVSRError: reading, restoring or writing failed; nothing is left under the output's name.
    """
    hook(plan_event(job))
    started = time.monotonic()
    size = (job.size.height, job.size.width)
    comparison = compare_path(job.output) if job.options.compare else None
    meter = RateMeter(job.num_frames)
    shown = 0.0
    part = (job.shots[0].start, job.num_frames)
    with ExitStack() as stack:
        writer = stack.enter_context(
            VideoWriter(
                job.output,
                source=job.info,
                size=size,
                options=job.options.encode,
                overwrite=job.options.overwrite,
                clip_range=part,
            )
        )
        side_writer = None
        if comparison is not None:
            side_writer = stack.enter_context(
                VideoWriter(
                    comparison,
                    source=job.info,
                    size=(size[0], 2 * size[1] + GAP_PX),
                    options=EncodeOptions(),
                    overwrite=job.options.overwrite,
                    clip_range=part,
                )
            )

        def consume(item: tuple[Frame, Tensor]) -> None:
            frame, sr = item
            alpha = None if frame.alpha is None else resize_image(frame.alpha, size)
            writer.write(sr, frame.pts, frame.duration, alpha=alpha)
            if side_writer is not None:
                bicubic = resize_image(frame.pixels, size)
                side_writer.write(
                    side_by_side(bicubic, sr, "bicubic", f"sparkvsr {job.model.name}"), frame.pts, frame.duration
                )

        frames = stack.enter_context(closing(restored_frames(job)))
        with torch.inference_mode(), BackgroundSink(consume, SR_FRAMES_WAITING) as sink:
            for done, item in enumerate(frames, start=1):
                sink.put(item)
                now = time.monotonic()
                if now - shown >= PROGRESS_SECONDS or done == job.num_frames:
                    shown = now
                    hook(meter.update(done))
    seconds = time.monotonic() - started
    notes = tuple(dict.fromkeys([*job.notes, *writer.notes]))
    result = UpscaleResult(
        output=job.output,
        compare=comparison,
        height=size[0],
        width=size[1],
        frames=job.num_frames,
        seconds=seconds,
        keyframe_indices=job.selection.indices,
        notes=notes,
    )
    hook(_done_event(result))
    return result


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
        "seconds": round(result.seconds, 3),
        "fps": round(result.fps, 3),
        "bytes": sum(path.stat().st_size for path in paths) if paths else None,
        "notes": list(result.notes),
    }
