"""One pass from a pipe to a sink: what is refused, what is planned, and the loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

from torch import Tensor

from sparkvsr.errors import ConfigError, DecodeError
from sparkvsr.hooks import Hook, ProgressReporter, for_input
from sparkvsr.inference.clip.own_keyframes import is_own_kind
from sparkvsr.inference.options import UpscaleOptions, check_options
from sparkvsr.inference.stream.into_sink import FRAMES_WAITING, StreamResult, Taken, done_event, frames_into
from sparkvsr.inference.stream.planning import PassingPlan, plan_passing
from sparkvsr.keyframes.look_ahead import check_passing, method_of
from sparkvsr.models.interface import RestorationModel
from sparkvsr.threads import prefetch
from sparkvsr.video import VideoInfo
from sparkvsr.video.pipes import HeldFrame, PipeSink, PipeSource
from sparkvsr.video.pixels import resize_image

_KEPT_GIVEN, _KEPT_KEYFRAMES = 3, 8

OpenSink = Callable[[VideoInfo, tuple[int, int]], PipeSink]


def check_stream_options(options: UpscaleOptions) -> None:
    """Refuse what cannot be done with frames that pass once.

    Raises:
        ConfigError: with what to take instead.
    """
    check_options(options)
    refused = {
        "--preview": (options.preview is not None, "take --start and --frames"),
        "--compare": (options.compare, "write the result to a file and take sparkvsr compare"),
        "--work": (options.work is not None, "nothing is stored, so there is no resume in a pipe"),
        "--stream": (options.stream is not None, "choose the stream in the program before (ffmpeg -map 0:v:1)"),
    }
    for name, (is_given, instead) in refused.items():
        if is_given:
            msg = f"{name} needs a file, frames of a pipe pass only once; {instead}"
            raise ConfigError(msg)
    check_passing(options.keyframes)


def upscale_stream(
    source: PipeSource, open_sink: OpenSink, options: UpscaleOptions, model: RestorationModel, hook: Hook, output: str
) -> StreamResult:
    """Restore frames as they pass.

    Args:
        source: gives them.
        open_sink: called once with the clip and the size of the result ``(H, W)``.
        options, model: as for ``sparkvsr.upscale``.
        hook: gets ``stream``, ``note``, ``progress`` and ``done`` events.
        output: where the frames go, for the user.

    Raises:
        SparkVSRError: a frame cannot be read, restored or written. An end in the middle of a frame is told after all
            whole frames were written.
    """
    hook = for_input(hook, source.info.path)
    plan = _plan(source, options, model)
    size = (plan.size.height, plan.size.width)
    started = time.monotonic()
    sink = open_sink(source.info, size)
    of_size = [plan.size.note] if plan.size.note else []
    notes = [*source.notes, *of_size, *plan.run.model.notes, *sink.notes]
    hook(_stream_event(source, plan, model, output, notes))
    run = _Run(source, plan, model, hook)
    with frames_into(sink) as queue:
        for taken in run.frames():
            queue.put(taken)
    late = run.late_notes()
    result = StreamResult(output, *size, sink.num_frames, time.monotonic() - started, tuple(dict.fromkeys(late)))
    hook(done_event(result))
    if source.ended_early is not None:
        raise source.ended_early
    if result.frames == 0:
        msg = f"{source.info.path} holds no frame; see what the program before it says"
        raise DecodeError(msg)
    return result


class _Run:
    """The frames that are held between the source and the model."""

    def __init__(self, source: PipeSource, plan: PassingPlan, model: RestorationModel, hook: Hook) -> None:
        self._source, self._plan, self._hook = source, plan, hook
        self._held: dict[int, HeldFrame] = {}
        self._notes: list[str] = []
        self._look, self._restorer = plan.begin(model, self._pixels_of, self._note, source.first_index)
        self._chunk = plan.run.settings.chunk_frames
        self._next = source.first_index

    def frames(self) -> Iterator[Taken]:
        """Restored frames in order, as a sink takes them."""
        progress = ProgressReporter(self._hook, self._source.num_frames)
        depth = max(FRAMES_WAITING, self._chunk)
        with ExitStack() as stack:
            stack.callback(self._restorer.close)
            incoming = stack.enter_context(closing(prefetch(self._converted(), depth)))
            stack.callback(self._source.stop)
            for held, pixels in incoming:
                self._held[held.index] = held
                self._look.push(pixels)
                for taken in self._ready():
                    yield taken
                    progress.advance()
            self._look.finish()
            for taken in self._ready():
                yield taken
                progress.advance()
        progress.finish()

    def late_notes(self) -> list[str]:
        """What only the end could tell."""
        notes = [*self._notes, *self._look.notes]
        beyond = [index for index in self._plan.choice.indices if index >= self._look.count]
        if beyond:
            shown = ", ".join(map(str, beyond[:8])) + (", ..." if len(beyond) > 8 else "")
            notes.append(f"keyframes {shown} were never reached: the clip ended after {self._look.count} frames")
        return notes

    def _converted(self) -> Iterator[tuple[HeldFrame, Tensor]]:
        for held in self._source.frames():
            yield held, held.pixels()

    def _ready(self) -> Iterator[Taken]:
        look = self._look
        while look.is_ready(self._next):
            stop = self._next + 1
            end = look.shot_stop(self._next)
            while stop - self._next < self._chunk and look.is_ready(stop) and (end is None or stop < end):
                stop += 1
            is_full = stop - self._next == self._chunk or stop == end or look.is_finished
            if not is_full:
                return
            restored = self._restorer.restore(self._next, stop)
            for index, pixels in zip(range(self._next, stop), restored, strict=True):
                yield pixels, *self._times_and_alpha(index)
            self._next = stop
            self._forget()

    def _times_and_alpha(self, index: int) -> tuple[int, int, Tensor | None]:
        alpha = None
        if self._source.info.has_alpha:
            alpha = self._held[index].frame().alpha
            alpha = None if alpha is None else resize_image(alpha, self._plan.run.settings.size)
        return index - self._source.first_index, 1, alpha

    def _forget(self) -> None:
        """Let go of frames, but for those that keyframes still in use belong to."""
        last = self._next - 1
        keyframes = [index for index in self._look.keyframes(last) if index <= last]
        given = [index for index in keyframes if index in self._look.given(last)]
        wanted = {*given[-_KEPT_GIVEN:], *keyframes[-_KEPT_KEYFRAMES:]}
        if self._look.shot_stop(last) == self._next:
            wanted = set()
        for index in [index for index in self._held if index < self._next and index not in wanted]:
            del self._held[index]
        self._look.forget(last)

    def _pixels_of(self, index: int) -> Tensor:
        return self._held[index].pixels()

    def _note(self, text: str) -> None:
        self._notes.append(text)
        self._hook({"event": "note", "text": text})


def _plan(source: PipeSource, options: UpscaleOptions, model: RestorationModel) -> PassingPlan:
    check_stream_options(options)
    lr_size = (source.info.height, source.info.width)
    return plan_passing(options, model, lr_size, source.fmt.fps, start=source.first_index, num_frames=source.num_frames)


def _stream_event(
    source: PipeSource, plan: PassingPlan, model: RestorationModel, output: str, notes: list[str]
) -> dict[str, Any]:
    fmt = source.fmt
    return {
        "event": "stream",
        "input": source.info.path.name,
        "kind": fmt.kind,
        "pixel_format": fmt.pixel_format,
        "input_width": fmt.width,
        "input_height": fmt.height,
        "fps": float(fmt.fps),
        "frames": source.num_frames,
        "output": output,
        "width": plan.size.width,
        "height": plan.size.height,
        "scale": round(plan.size.scale, 4),
        "model": model.name,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "look": model.look,
        "keyframe_method": _method(plan),
        "references": None if plan.maker is None else plan.maker.name,
        "guidance_scale": plan.run.settings.guidance_scale,
        "chunk_frames": plan.run.settings.chunk_frames,
        "tile": plan.run.settings.tile,
        "memory_bytes": plan.run.model.memory_bytes,
        "notes": list(dict.fromkeys(notes)),
    }


def _method(plan: PassingPlan) -> str:
    text = method_of(plan.choice)
    if plan.fills and plan.choice.kind != "auto":
        is_own = plan.maker is not None and is_own_kind(plan.maker)
        text += ", and between them by the look of the motion" + ("" if is_own else " (of the model's own kind)")
    return text
