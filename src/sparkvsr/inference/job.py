"""Deciding everything before the first frame is restored: sizes, shots, keyframes, chunks, the output's name."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from sparkvsr.errors import ConfigError, DecodeError, EncodeError, KeyframeError
from sparkvsr.inference.options import UpscaleOptions, check_options
from sparkvsr.inference.own_keyframes import add_own_keyframes, chosen_maker, completed_maker, wants_own_keyframes
from sparkvsr.inference.progress import Hook, for_input
from sparkvsr.inference.store import default_work_folder, was_joining
from sparkvsr.keyframes.checks import content_notes
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.coverage import Coverage
from sparkvsr.keyframes.references import FolderMaker, ReferenceMaker, make_reference_maker
from sparkvsr.keyframes.select import Selection, Shot, shots_from_cuts
from sparkvsr.keyframes.shots import detect_cuts
from sparkvsr.models.interface import ModelPlan, RestorationModel, needs_blind_pass
from sparkvsr.shapes import OutputSize, output_size, preview_frames
from sparkvsr.video import (
    Frame,
    VideoInfo,
    VideoReader,
    check_output,
    iframe_indices,
    output_kind,
    probe,
    read_frames,
)

CPU_MEMORY_SHARE = 0.6
"""Of the memory that is free now: the model's own plan takes less where less is as fast."""

GPU_MEMORY_SHARE = 0.85

SEQUENCE_PATTERN = "%05d.png"
"""File names of an image sequence when the output is a folder."""

_SAME_CONTAINER = (".mp4", ".mkv", ".mov")

_GREY = 1.5 / 255
"""How far the channels of a grey clip may lie apart: rounding."""

_log = logging.getLogger(__name__)


@dataclass
class ClipRecord:
    """What the pass over the clip found besides the cuts.

    Attributes:
        start: index of the first frame.
        times: presentation time and duration of each frame in the clip's time base.
        digests: hash of each frame's pixels.
        colour: largest difference between the channels of a pixel, 0 to 1; 0 for a grey clip.
        warnings: of the reader.
    """

    start: int
    times: list[tuple[int | None, int | None]] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    colour: float = 0.0
    warnings: list[str] = field(default_factory=list)

    def digest(self, index: int) -> bytes:
        """Hash of the frame at an index of the clip."""
        return self.digests[index - self.start]


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
        own_keyframes: those of the model's own kind, see ``ShotRequest``.
        references: where their images come from, None without keyframes.
        has_own_images: whether they are a folder of the user's, which invites another edit.
        model_name, model_device, model_dtype, look: for the user.
        state_bytes: size of the model's state between two pieces of a shot.
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
    own_keyframes: tuple[int, ...]
    references: str | None
    has_own_images: bool
    model_name: str
    model_device: str
    model_dtype: str
    look: str | None
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


def open_frames(path: Path, start: int, frames: int | None, deinterlace: str) -> Generator[Frame, None, None]:
    """Iterate over decoded frames; the file is closed when the iterator is."""
    with VideoReader(path, start=start, frames=frames, deinterlace=deinterlace) as reader:
        yield from reader


def default_output(path: Path, info: VideoInfo, options: UpscaleOptions, size: OutputSize) -> Path:
    """``in.mp4`` to ``in_x4.mp4``; with ``--height`` or ``--size`` to ``in_1080p.mp4``.

    mp4, mkv and mov keep their container, so that what it carries can be kept; anything else becomes mp4.
    """
    by_factor = options.height is None and options.size is None
    tag = f"_x{size.scale:g}" if by_factor else f"_{size.height}p"
    if options.preview is not None:
        tag += "_preview"
    if info.kind == "sequence":
        folder = path.parent if "%" in path.name else path
        return folder.with_name(folder.name + tag) / SEQUENCE_PATTERN
    if info.kind == "image":
        return path.with_name(path.stem + tag + ".png")
    suffix = path.suffix.lower() if path.suffix.lower() in _SAME_CONTAINER else ".mp4"
    if options.encode.codec == "ffv1":
        suffix = ".mkv"
    elif options.encode.codec == "prores":
        suffix = ".mov" if suffix == ".mp4" else suffix
    return path.with_name(path.stem + tag + suffix)


def resolve_output(
    path: Path, output: Path | None, info: VideoInfo, options: UpscaleOptions, size: OutputSize, *, into_folder: bool
) -> Path:
    """The output path for one input.

    A video is written as an image sequence when ``output`` has no suffix, is an existing folder or holds
    ``%05d``; with several inputs (``into_folder``) each gets its default name inside the folder ``output``.
    """
    default = default_output(path, info, options, size)
    if output is None:
        return default
    if into_folder:
        return output / default.name
    names_a_folder = output.is_dir() or not output.suffix
    if info.kind == "image" and names_a_folder:
        return output / default.name
    if names_a_folder:
        return output / SEQUENCE_PATTERN
    return output


def working_memory(device: torch.device) -> int:
    """Bytes the model may use on a device now."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * GPU_MEMORY_SHARE)
    available = psutil.virtual_memory().available
    return int(available * CPU_MEMORY_SHARE)


def prepare(
    path: Path,
    output: Path | None,
    options: UpscaleOptions,
    model: RestorationModel,
    hook: Hook,
    *,
    into_folder: bool = False,
    memory_share: float = 1.0,
) -> UpscaleJob:
    """Read what is needed and decide everything; nothing is written.

    Args:
        path, output, options, model: as for ``sparkvsr.upscale``.
        hook: gets ``input`` and ``analysis`` events.
        into_folder: ``output`` is a folder for several inputs.
        memory_share: of the free memory that this process may take, when several share a machine.

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
    maker = chosen_maker(options, model) if choice.kind != "none" else None
    coverage = Coverage() if wants_own_keyframes(options, choice, model) else None
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
    shots, record = _read_through(info, options, stop, hook, coverage)
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
    has_own_images = isinstance(maker, FolderMaker)
    if isinstance(maker, FolderMaker):
        maker.check(selection.indices, (info.height, info.width))
        notes += content_notes(maker, lambda indices: read_frames(path, indices), selection.indices)
    own: tuple[int, ...] = ()
    if coverage is not None:
        wanted = [options.start + index for index in coverage.wanted]
        selection, own = add_own_keyframes(selection, shots, wanted, maker, model)
        maker = completed_maker(maker, own, model)
    is_grey = record.colour <= _GREY and not (selection.indices and maker.may_colour)
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
        own_keyframes=own,
        references=maker.name if selection.indices else None,
        has_own_images=has_own_images,
        model_name=model.name,
        model_device=str(model.device),
        model_dtype=str(model.dtype).removeprefix("torch."),
        look=model.look,
        state_bytes=passes * model.state_bytes((info.height, info.width)),
        plan=plan,
        guided_passes=passes,
        is_grey=is_grey,
        notes=(*notes, *plan.notes),
        record=record,
        model=model,
        maker=maker,
    )


def compare_path(output: Path) -> Path:
    """Where the side-by-side video of an output goes: ``out_compare.mp4`` beside it."""
    if "%" in output.name:
        return output.parent.with_name(f"{output.parent.name}_compare.mp4")
    keeps = output.suffix.lower() in (*_SAME_CONTAINER, ".png")
    return output.with_name(f"{output.stem}_compare{output.suffix if keeps else '.mp4'}")


def input_event(info: VideoInfo) -> dict[str, Any]:
    """The ``input`` event of a clip."""
    return {
        "event": "input",
        "path": str(info.path),
        "kind": info.kind,
        "width": info.width,
        "height": info.height,
        "frames": info.num_frames,
        "fps": float(info.average_fps) if info.average_fps else None,
        "codec": info.codec,
        "audio": info.num_audio,
        "summary": info.summary(),
    }


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
        "dropped_keyframes": list(job.selection.dropped),
        "own_keyframes": list(job.own_keyframes),
        "keyframe_method": job.selection.method,
        "references": job.references,
        "guidance_scale": job.options.guidance_scale,
        "chunk_frames": job.plan.chunk_frames,
        "tile": job.plan.tile,
        "memory_bytes": job.plan.memory_bytes,
        "notes": list(job.notes),
    }


def _read_through(
    info: VideoInfo, options: UpscaleOptions, stop: int, hook: Hook, coverage: Coverage | None
) -> tuple[list[Shot], ClipRecord]:
    """One pass over the clip with bounded memory: cuts, times, hashes."""
    start = options.start
    total = stop - start
    every = max(1, total // 100)
    record = ClipRecord(start)

    def report(done: int) -> None:
        if done % every == 0 or done == total:
            hook({"event": "analysis", "done": done, "total": total})

    def noted(reader: VideoReader) -> Iterator[Tensor]:
        for frame in reader:
            record.times.append((frame.pts, frame.duration))
            record.digests.append(hashlib.blake2b(frame.pixels.numpy().tobytes(), digest_size=16).digest())
            if record.colour <= _GREY:
                spread = frame.pixels.amax(0) - frame.pixels.amin(0)
                record.colour = max(record.colour, float(spread.max()))
            if coverage is not None:
                coverage.take(frame.pixels)
            yield frame.pixels

    with VideoReader(info.path, start=start, frames=total, deinterlace=options.deinterlace) as reader:
        cuts, count = detect_cuts(noted(reader), on_frame=report)
        record.warnings += reader.warnings
    if count == 0:
        msg = f"{info.path} has no decodable frame from {start} on"
        raise DecodeError(msg)
    return shots_from_cuts([start + cut for cut in cuts], start, start + count), record
