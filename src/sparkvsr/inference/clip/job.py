"""Deciding everything before the first frame is restored: sizes, shots, keyframes, chunks, the output's name."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

from sparkvsr.errors import ConfigError, EncodeError
from sparkvsr.hooks import Hook, for_input
from sparkvsr.inference.clip.analysis import ClipRecord, open_frames, read_through
from sparkvsr.inference.clip.engine import RestoreSettings
from sparkvsr.inference.clip.output_names import (
    compare_path,
    resolve_output,
)
from sparkvsr.inference.clip.own_keyframes import (
    add_own_keyframes,
    completed_maker,
    resolve_references,
    wants_own_keyframes,
)
from sparkvsr.inference.clip.planning import plan_run
from sparkvsr.inference.clip.store import default_work_folder, was_joining
from sparkvsr.inference.clip.unchanged import changed_error, held_frames, identity_of
from sparkvsr.inference.compare.captions import GAP_PX
from sparkvsr.inference.events import input_event
from sparkvsr.inference.options import ModelChoice, UpscaleOptions, WorkPolicy, check_options
from sparkvsr.keyframes.checks import content_notes
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.references import ReferenceMaker, make_reference_maker, place_of
from sparkvsr.keyframes.select import Selection, selection_notes
from sparkvsr.keyframes.shots import Shot
from sparkvsr.models.interface import RestorationModel
from sparkvsr.shapes import OutputSize, output_size, preview_frames
from sparkvsr.video import (
    EncodeOptions,
    Frame,
    VideoInfo,
    check_output,
    iframe_indices,
    losses,
    output_kind,
    probe,
    read_frames,
)
from sparkvsr.video.frame_size import check_frame_size, takes
from sparkvsr.video.own_files import refuse_source

_log = logging.getLogger(__name__)

PIPE = Path("stdout.mkv")
"""Stands for the output of a job that has no file; nothing of that name is written."""

NO_REFERENCES = "bicubic"
"""The maker of a job without keyframes: it is never asked for an image."""


@dataclass(frozen=True)
class ClipJob:
    """One clip with everything decided: plain values, which can go to another process.

    Attributes:
        info: what was read.
        output: final path (file, folder or printf pattern).
        size: of the result.
        settings: what decides the pixels, besides model and keyframes.
        shots: contiguous, covering the part that is restored.
        clip_range: first frame and number of frames of a part of the clip, None for the whole.
        deinterlace: ``auto``, ``on``, ``off``.
        selection: keyframes.
        references: where their images come from, for the user; None without keyframes.
        maker: what ``make_reference_maker`` makes them with.
        has_own_images: whether they are a folder of the user's, which invites another edit.
        model: which model another process has to load.
        model_name, model_device, model_dtype, look: of the loaded one, for the user.
        state_bytes: size of the model's state between two segments of a shot.
        memory_bytes: estimated peak of the model's working memory.
        encode: codec settings.
        overwrite: replace an existing output.
        compare: also write a side-by-side video.
        work: what becomes of the work folder.
        notes: lines for the user.
        record: times and hashes of the LR frames.
    """

    info: VideoInfo
    output: Path
    size: OutputSize
    settings: RestoreSettings
    shots: tuple[Shot, ...]
    clip_range: tuple[int, int] | None
    deinterlace: str
    selection: Selection
    references: str | None
    maker: str
    has_own_images: bool
    model: ModelChoice
    model_name: str
    model_device: str
    model_dtype: str
    look: str | None
    state_bytes: int
    memory_bytes: int
    encode: EncodeOptions
    overwrite: bool
    compare: bool
    work: WorkPolicy
    notes: tuple[str, ...]
    record: ClipRecord

    @property
    def num_frames(self) -> int:
        """Frames that will be restored."""
        return self.shots[-1].stop - self.shots[0].start

    @property
    def outputs(self) -> tuple[Path, ...]:
        """What is written under final names: the output, and the comparison beside it."""
        return (self.output, compare_path(self.output)) if self.compare else (self.output,)

    def open_frames(self, start: int | None = None, stop: int | None = None) -> Generator[Frame, None, None]:
        """LR frames ``[start, stop)``, by default all of the job."""
        first = self.shots[0].start if start is None else start
        last = self.shots[-1].stop if stop is None else stop
        path, mode, stream = self.info.path, self.deinterlace, self.info.stream_index
        return held_frames(
            lambda begin, end: open_frames(path, begin, end - begin, mode, stream),
            *(first, last),
            path=path,
            origin=self.shots[0].start,
            size=(self.info.height, self.info.width),
            digest=self.record.digest,
            identity=self.record.identity,
        )

    def check_unchanged(self, *, look_inside: bool = False) -> None:
        """Hold the clip's file against what it was.

        Raises:
            DecodeError: it is another one.
        """
        identity = self.record.identity
        if identity is not None and identity.has_changed(self.info.path, look_inside=look_inside):
            raise changed_error(self.info.path)


def _compare_losses(info: VideoInfo, output: Path, size: OutputSize, notes: list[str]) -> list[str]:
    """What the side-by-side video does not keep, where that is not said of the output already."""
    path = compare_path(output)
    found = losses(info, path, EncodeOptions(), (size.height, 2 * size.width + GAP_PX))
    return [f"{path.name}: {note}" for note in found if note not in notes]


def _why_fewer(info: VideoInfo) -> str:
    if not info.time_steps:
        return ""
    return ": what is joined behind may be in another codec; bring the parts into one before they are joined"


@dataclass(frozen=True)
class UpscaleJob:
    """A job with what restores it in this process.

    Attributes:
        clip: everything decided.
        model: loaded.
        maker: gives the reference images.
    """

    clip: ClipJob
    model: RestorationModel
    maker: ReferenceMaker


def prepare(
    path: Path,
    output: Path | None,
    options: UpscaleOptions,
    model: RestorationModel,
    hook: Hook,
    *,
    into_folder: bool = False,
    into_pipe: bool = False,
    memory_share: float = 1.0,
    analysis: tuple[list[Shot], ClipRecord] | None = None,
) -> UpscaleJob:
    """Read what is needed and decide everything; nothing is written.

    Args:
        path, output, options, model: as for ``sparkvsr.upscale``.
        hook: gets ``input`` and ``analysis`` events.
        into_folder: ``output`` is a folder for several inputs.
        into_pipe: there is no output file; who opens the pipe says what it does not hold.
        memory_share: of the free memory that this process may take, when several share a machine.
        analysis: what an earlier pass over the same frames of the clip found, instead of another pass.

    Raises:
        SparkVSRError: anything that would make the job fail and can be known now.
    """
    # 1. What is it, and what comes out.
    check_options(options)
    sources = [path]
    if (place := place_of(options.references)) is not None:
        sources.append(place)
    if output is not None and not into_folder:
        refuse_source(output, sources)
    hook = for_input(hook, path)
    started = time.monotonic()
    identity = identity_of(path)
    info = probe(path, options.stream)
    _log.info("%s: %s, %s, time base %s", path, info.summary(), info.pixel_format, info.time_base)
    hook(input_event(info))
    if options.preview is not None:
        first, count = preview_frames(options.preview, float(info.average_fps), info.num_frames)
        options = replace(options, start=first, frames=count)
    size = output_size((info.height, info.width), scale=options.scale, height=options.height, size=options.size)
    if into_pipe:
        target = PIPE
    else:
        target = resolve_output(path, output, info, options, size, into_folder=into_folder)
        _check_target(target, sources, options)
        _check_frame_sizes(target, info, size, options)

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
    references = resolve_references(options.references, model)
    maker = make_reference_maker(references, model.device) if choice.kind != "none" else None
    if maker is not None:
        maker.check_clip(path)
        is_part = options.frames is not None or options.start > 0
        given = maker.given(options.start, stop, is_part=is_part) if choice.kind == "default" else None
        choice = choice if given is None else KeyframeChoice("manual", indices=given)
    choice.check_early(options.start, stop)
    places_own = wants_own_keyframes(choice.kind, options.guidance_scale, model)

    # 3. One pass over the clip: cuts, and the true number of frames.
    if analysis is None or (places_own and analysis[1].wanted is None):
        analysis = read_through(
            info, options.start, stop, options.deinterlace, hook, judge=choice.follows_shots, follow=places_own
        )
    shots, record = analysis
    if identity is not None and identity.has_changed(path):
        raise changed_error(path)
    record.identity = record.identity or identity
    notes: list[str] = [size.note] if size.note else []
    notes += record.warnings
    if not into_pipe:
        notes += losses(info, target, options.encode, (size.height, size.width), record.side_data)
    if options.compare:
        notes += _compare_losses(info, target, size, notes)
    true_stop = shots[-1].stop
    if true_stop < stop:
        notes.append(
            f"only {true_stop - options.start} of {stop - options.start} announced frames could be decoded"
            f"{_why_fewer(info)}"
        )

    # 4. Keyframes and their images.
    selection = choice.select(
        shots,
        lambda: iframe_indices(path, info.stream_index),
        options.seed,
        multiple=model.keyframe_multiple,
        bad=record.bad_frames,
    )
    notes += selection_notes(selection)
    if maker is None:
        maker = make_reference_maker(NO_REFERENCES)
    maker.check(selection.indices, (info.height, info.width))
    notes += content_notes(
        maker, lambda indices: read_frames(path, indices, stream=info.stream_index), selection.indices
    )
    if maker.guidance and not model.has_keyframe_guidance:
        notes.append(f"keyframes have a guidance of their own, but {model.name} knows only one for all (--guidance)")
    has_own_images = maker.holds_images
    own: tuple[int, ...] = ()
    if places_own:
        selection, own = add_own_keyframes(selection, shots, record.wanted or (), maker, model, record.bad_frames)
        maker = completed_maker(maker, own, model)
    is_grey = record.stays_grey(selection.indices, maker)
    if is_grey:
        notes.append("the clip is grey, and so will be the result; keyframe images of your own may bring colour")

    # 5. How the model runs.
    num_frames = true_stop - options.start
    plan = plan_run(
        model,
        (info.height, info.width),
        (size.height, size.width),
        num_frames,
        num_keyframes=len(selection.indices),
        guidance_scale=options.guidance_scale,
        chunk_frames=options.chunk_frames,
        tile=options.tile,
        seed=options.seed,
        memory_share=memory_share,
    )
    _log.info(
        "%s: %d frames in %d shots, %d keyframes (%s), chunks of %d, tile %s; looked through in %.1f s",
        *(path, num_frames, len(shots), len(selection.indices), selection.method),
        *(plan.model.chunk_frames, plan.model.tile, time.monotonic() - started),
    )
    is_whole = options.start == 0 and (options.frames is None or options.frames >= info.num_frames)
    clip = ClipJob(
        info=info,
        output=target,
        size=size,
        settings=replace(plan.settings, is_grey=is_grey, own_keyframes=frozenset(own)),
        shots=tuple(shots),
        clip_range=None if is_whole else (shots[0].start, num_frames),
        deinterlace=options.deinterlace,
        selection=selection,
        references=maker.name if selection.indices else None,
        maker=(maker.spec or references) if selection.indices else NO_REFERENCES,
        has_own_images=has_own_images,
        model=options.model_choice,
        model_name=model.name,
        model_device=str(model.device),
        model_dtype=str(model.dtype).removeprefix("torch."),
        look=model.look,
        state_bytes=plan.state_bytes,
        memory_bytes=plan.model.memory_bytes,
        encode=options.encode,
        overwrite=options.overwrite,
        compare=options.compare,
        work=options.work_policy,
        notes=(*notes, *plan.model.notes),
        record=record,
    )
    return UpscaleJob(clip, model, maker)


def _check_target(target: Path, sources: list[Path], options: UpscaleOptions) -> None:
    refuse_source(target, sources)
    if options.compare:
        refuse_source(compare_path(target), sources)
    # What an interrupted run left under the final names while it gave them is ours to replace.
    may_replace = options.overwrite or was_joining(options.work or default_work_folder(target))
    check_output(target, may_replace, options.encode)
    if options.compare:
        check_output(compare_path(target), may_replace)


def _check_frame_sizes(target: Path, info: VideoInfo, size: OutputSize, options: UpscaleOptions) -> None:
    if output_kind(target) == "video":
        check_frame_size(options.encode, info, (size.height, size.width), target.suffix.lower())
    if options.compare:
        wide = (size.height, 2 * size.width + GAP_PX)
        if not takes(EncodeOptions(), info, wide):
            msg = f"--compare needs a video of {wide[1]}x{wide[0]}, which h264 cannot hold; leave --compare out"
            raise EncodeError(msg)
