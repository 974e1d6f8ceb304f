"""A file restored into a pipe: all that a file allows (I-frames, chance, the whole clip known), and nothing stored."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import torch

from sparkvsr.errors import ConfigError
from sparkvsr.hooks import Hook, ProgressReporter, for_input
from sparkvsr.inference.clip.engine import restore_shots
from sparkvsr.inference.clip.job import UpscaleJob, prepare
from sparkvsr.inference.clip.render import keyframe_loader
from sparkvsr.inference.clip.work import plan_event
from sparkvsr.inference.options import UpscaleOptions
from sparkvsr.inference.stream.into_sink import FRAMES_WAITING, StreamResult, done_event, frames_into
from sparkvsr.models.interface import RestorationModel
from sparkvsr.threads import prefetch
from sparkvsr.video.pipes import PipeSink
from sparkvsr.video.pixels import resize_image

OpenFileSink = Callable[[UpscaleJob], PipeSink]


def check_file_options(options: UpscaleOptions) -> None:
    """Refuse what needs a file to be written.

    Raises:
        ConfigError: with what to take instead.
    """
    if options.compare:
        msg = "--compare writes a second file beside the output, and a pipe has none; take -o FILE"
        raise ConfigError(msg)
    if options.work is not None:
        msg = "--work keeps what was rendered for the next run, and nothing is kept when -o is a pipe; take -o FILE"
        raise ConfigError(msg)


def upscale_into_pipe(
    path: Path, open_sink: OpenFileSink, options: UpscaleOptions, model: RestorationModel, hook: Hook, output: str
) -> StreamResult:
    """Restore a file and hand its frames on as they are done.

    Args:
        path, options, model: as for ``sparkvsr.upscale``.
        open_sink: called once with the planned job.
        hook: gets ``input``, ``analysis``, ``plan``, ``progress`` and ``done`` events.
        output: where the frames go, for the user.

    Raises:
        SparkVSRError: the clip cannot be read, restored or written.
    """
    check_file_options(options)
    job = prepare(path, None, options, model, hook, into_pipe=True)
    clip, settings = job.clip, job.clip.settings
    hook = for_input(hook, path)
    started = time.monotonic()
    sink = open_sink(job)
    event = plan_event(clip)
    nothing_stored = {"pieces": 0, "disk": None, "estimated_seconds": None}
    hook({**event, "output": output, "notes": [*event["notes"], *sink.notes], **nothing_stored})
    progress = ProgressReporter(hook, clip.num_frames)
    with frames_into(sink) as queue, ExitStack() as stack:
        loader = keyframe_loader(job)
        stack.callback(loader.close)
        stack.enter_context(torch.inference_mode())
        depth = max(FRAMES_WAITING, settings.chunk_frames)
        frames = stack.enter_context(closing(prefetch(clip.open_frames(), depth)))
        for frame, pixels in restore_shots(job.model, frames, clip.shots, clip.selection.indices, loader, settings):
            alpha = None if frame.alpha is None else resize_image(frame.alpha, settings.size)
            queue.put((pixels, frame.pts, frame.duration, alpha))
            progress.advance()
        clip.check_unchanged(look_inside=True)
    size = (clip.size.height, clip.size.width)
    result = StreamResult(output, *size, sink.num_frames, time.monotonic() - started, ())
    hook(done_event(result))
    return result
