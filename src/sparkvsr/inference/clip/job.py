"""Deciding everything before the first frame is restored: sizes, shots, keyframes, chunks, the output's name."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from sparkvsr.errors import ConfigError, EncodeError, KeyframeError
from sparkvsr.hooks import Hook, for_input
from sparkvsr.inference.clip.analysis import GREY_SPREAD, ClipRecord, open_frames, read_through
from sparkvsr.inference.clip.output_names import (
    compare_path,
    resolve_output,
)
from sparkvsr.inference.clip.store import default_work_folder, was_joining
from sparkvsr.inference.events import input_event
from sparkvsr.inference.options import UpscaleOptions, check_options
from sparkvsr.keyframes.checks import content_notes
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.references import FolderMaker, ReferenceMaker, make_reference_maker
from sparkvsr.keyframes.select import Selection
from sparkvsr.keyframes.shots import Shot
from sparkvsr.models.device import working_memory
from sparkvsr.models.interface import ModelPlan, RestorationModel, needs_blind_pass
from sparkvsr.shapes import OutputSize, output_size, preview_frames
from sparkvsr.video import (
    Frame,
    VideoInfo,
    check_output,
    iframe_indices,
    output_kind,
    probe,
    read_frames,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipJob:
    """One clip with everything decided: plain values, which can go to another process.

    Attributes:
        info: what was read.
        output: final path (file, folder or printf pattern).
        size: of the result.
        working_size: at which the model works.
        shots: contiguous, covering the part that is restored.
        selection: keyframes.
        references: where their images come from, None without keyframes.
        has_own_images: whether they are a folder of the user's, which invites another edit.
        model_name, model_device, model_dtype: for the user.
        state_bytes: size of the model's state between two segments of a shot.
        plan: chunk, tile and memory of the model.
        guided_passes: 1 or 2.
        is_grey: the clip is grey and the result will be.
        notes: lines for the user.
        record: times and hashes of the LR frames.
    """

    info: VideoInfo
    output: Path
    options: UpscaleOptions
    size: OutputSize
    working_size: tuple[int, int]
    shots: tuple[Shot, ...]
    selection: Selection
    references: str | None
    has_own_images: bool
    model_name: str
    model_device: str
    model_dtype: str
    state_bytes: int
    plan: ModelPlan
    guided_passes: int
    is_grey: bool
    notes: tuple[str, ...]
    record: ClipRecord

    @property
    def num_frames(self) -> int:
        """Frames that will be restored."""
        return self.shots[-1].stop - self.shots[0].start

    @property
    def clip_range(self) -> tuple[int, int] | None:
        """First frame and number of frames of a part of the clip, None for the whole."""
        frames = self.options.frames
        is_whole = self.options.start == 0 and (frames is None or frames >= self.info.num_frames)
        return None if is_whole else (self.shots[0].start, self.num_frames)

    def open_frames(self, start: int | None = None, stop: int | None = None) -> Generator[Frame, None, None]:
        """LR frames ``[start, stop)``, by default all of the job."""
        first = self.shots[0].start if start is None else start
        last = self.shots[-1].stop if stop is None else stop
        return open_frames(self.info.path, first, last - first, self.options.deinterlace)

    def with_model(self, model: RestorationModel, maker: ReferenceMaker) -> UpscaleJob:
        """The job with what restores it."""
        values = {item.name: getattr(self, item.name) for item in fields(ClipJob)}
        return UpscaleJob(**values, model=model, maker=maker)


@dataclass(frozen=True)
class UpscaleJob(ClipJob):
    """One clip, ready to be restored in this process.

    Attributes:
        model: loaded.
        maker: gives the reference images.
    """

    model: RestorationModel
    maker: ReferenceMaker

    def clip(self) -> ClipJob:
        """The job without model and maker."""
        return ClipJob(**{item.name: getattr(self, item.name) for item in fields(ClipJob)})


def prepare(
    path: Path,
    output: Path | None,
    options: UpscaleOptions,
    model: RestorationModel,
    hook: Hook,
    *,
    into_folder: bool = False,
    memory_share: float = 1.0,
    analysis: tuple[list[Shot], ClipRecord] | None = None,
) -> UpscaleJob:
    """Read what is needed and decide everything; nothing is written.

    Args:
        path, output, options, model: as for ``sparkvsr.upscale``.
        hook: gets ``input`` and ``analysis`` events.
        into_folder: ``output`` is a folder for several inputs.
        memory_share: of the free memory that this process may take, when several share a machine.
        analysis: what an earlier pass over the same frames of the clip found, instead of another pass.

    Raises:
        SparkVSRError: anything that would make the job fail and can be known now.
    """
    # 1. What is it, and what comes out.
    check_options(options)
    hook = for_input(hook, path)
    started = time.monotonic()
    info = probe(path)
    _log.info("%s: %s, %s, time base %s", path, info.summary(), info.pixel_format, info.time_base)
    hook(input_event(info))
    if options.preview is not None:
        first, count = preview_frames(options.preview, float(info.average_fps), info.num_frames)
        options = replace(options, start=first, frames=count)
    size = output_size((info.height, info.width), scale=options.scale, height=options.height, size=options.size)
    target = resolve_output(path, output, info, options, size, into_folder=into_folder)
    # What an interrupted run left under the final names while it gave them is ours to replace.
    may_replace = options.overwrite or was_joining(options.work or default_work_folder(target))
    check_output(target, may_replace, options.encode)
    if options.compare:
        check_output(compare_path(target), may_replace)

    # 2. Early refusals that need no look at the pixels.
    stop = info.num_frames if options.frames is None else min(info.num_frames, options.start + options.frames)
    if options.start >= info.num_frames:
        msg = f"--start {options.start} is beyond the clip ({info.num_frames} frames, 0 to {info.num_frames - 1})"
        raise ConfigError(msg)
    if output_kind(target) == "image" and stop - options.start > 1:
        msg = (
            f"-o {target} is one image, {path} has {stop - options.start} frames; give a folder/ or %05d{target.suffix}"
        )
        raise EncodeError(msg)
    choice = options.keyframes
    maker = make_reference_maker(options.references, model.device) if choice.kind != "none" else None
    if isinstance(maker, FolderMaker):
        maker.check_clip(path)
    if isinstance(maker, FolderMaker) and choice.kind == "default":
        inside = [index for index in maker.indices if options.start <= index < stop]
        if not inside or (options.frames is None and options.start == 0 and len(inside) < len(maker.indices)):
            outside = [index for index in maker.indices if not options.start <= index < stop]
            msg = (
                f"reference image {maker.paths[outside[0]]} is for frame {outside[0]}, "
                f"outside the clip (frames {options.start} to {stop - 1}); rename or remove it"
            )
            raise KeyframeError(msg)
        choice = KeyframeChoice("manual", indices=tuple(inside))
    choice.check_early(options.start, stop)

    # 3. One pass over the clip: cuts, and the true number of frames.
    shots, record = analysis or read_through(info, options, stop, hook)
    notes: list[str] = [size.note] if size.note else []
    notes += record.warnings
    true_stop = shots[-1].stop
    if true_stop < stop:
        notes.append(f"only {true_stop - options.start} of {stop - options.start} announced frames could be decoded")

    # 4. Keyframes and their images.
    selection = choice.select(shots, lambda: iframe_indices(path), options.seed, multiple=model.keyframe_multiple)
    if selection.dropped:
        shown = ", ".join(map(str, selection.dropped[:8])) + (", ..." if len(selection.dropped) > 8 else "")
        notes.append(f"dropped {len(selection.dropped)} keyframes closer than 4 frames to another: {shown}")
    if maker is None:
        maker = make_reference_maker("bicubic")
    if isinstance(maker, FolderMaker):
        maker.check(selection.indices, (info.height, info.width))
        notes += content_notes(maker, lambda indices: read_frames(path, indices), selection.indices)
    is_grey = record.colour <= GREY_SPREAD and not (selection.indices and maker.may_colour)
    if is_grey:
        notes.append("the clip is grey, and so will be the result; keyframe images of your own may bring colour")

    # 5. How the model runs.
    working = model.working_size((info.height, info.width), (size.height, size.width))
    passes = 2 if needs_blind_pass(options.guidance_scale, len(selection.indices)) else 1
    plan = model.plan(
        (info.height, info.width),
        working,
        true_stop - options.start,
        guided_passes=passes,
        memory_bytes=int(working_memory(model.device) * memory_share),
    )
    if options.chunk_frames is not None or options.tile is not None:
        plan = ModelPlan(
            chunk_frames=options.chunk_frames or plan.chunk_frames,
            tile=plan.tile if options.tile is None else (options.tile or None),
            memory_bytes=plan.memory_bytes,
            notes=plan.notes,
        )
    _log.info(
        "%s: %d frames in %d shots, %d keyframes (%s), chunks of %d, tile %s; looked through in %.1f s",
        *(path, true_stop - options.start, len(shots), len(selection.indices), selection.method),
        *(plan.chunk_frames, plan.tile, time.monotonic() - started),
    )
    return UpscaleJob(
        info=info,
        output=target,
        options=options,
        size=size,
        working_size=working,
        shots=tuple(shots),
        selection=selection,
        references=maker.name if selection.indices else None,
        has_own_images=isinstance(maker, FolderMaker),
        model_name=model.name,
        model_device=str(model.device),
        model_dtype=str(model.dtype).removeprefix("torch."),
        state_bytes=passes * model.state_bytes((info.height, info.width)),
        plan=plan,
        guided_passes=passes,
        is_grey=is_grey,
        notes=(*notes, *plan.notes),
        record=record,
        model=model,
        maker=maker,
    )
