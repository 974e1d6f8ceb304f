"""From a clip, its references and the settings to the job and the segments that `sparkvsr upscale` would have.

`prepare` looks at everything anew for each call. Here the pass over the clip is done once and kept in the project, and
an edit costs only what it changes: the keys of the segments. Exports go through `prepare` itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparkvsr.hooks import Hook, silent
from sparkvsr.inference.clip.analysis import GREY_SPREAD, ClipRecord, read_through
from sparkvsr.inference.clip.job import UpscaleJob, prepare
from sparkvsr.inference.clip.render import segments_of
from sparkvsr.inference.clip.segments import Segment
from sparkvsr.inference.options import UpscaleOptions, check_options
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.references import FolderMaker
from sparkvsr.keyframes.shots import Shot
from sparkvsr.models.device import working_memory
from sparkvsr.models.interface import RestorationModel, needs_blind_pass
from sparkvsr.video import probe

Analysis = tuple[list[Shot], ClipRecord]


def clip_identity(path: Path, deinterlace: str) -> str:
    """Text that changes with the bytes of a clip (of a sequence: with name, size and time of its files)."""
    info = probe(path)
    digest = hashlib.sha256(deinterlace.encode())
    if info.files:
        for file in info.files:
            status = file.stat()
            digest.update(f"{file.name}:{status.st_size}:{status.st_mtime_ns};".encode())
    else:
        with path.open("rb") as file_object:
            digest.update(hashlib.file_digest(file_object, "sha256").digest())
    return digest.hexdigest()


def analyse(path: Path, options: UpscaleOptions, hook: Hook = silent) -> Analysis:
    """The pass over the whole clip."""
    info = probe(path)
    return read_through(info, options, info.num_frames, hook)


def analysis_to_json(analysis: Analysis, identity: str) -> dict[str, Any]:
    """For the project folder."""
    shots, record = analysis
    return {
        "clip": identity,
        "shots": [[shot.start, shot.stop] for shot in shots],
        "times": record.times,
        "digests": [digest.hex() for digest in record.digests],
        "colour": record.colour,
        "warnings": record.warnings,
    }


def analysis_from_json(kept: Any, identity: str) -> Analysis | None:
    """What ``analysis_to_json`` gave; None if it is not of this clip or not sound."""
    if not isinstance(kept, Mapping) or kept.get("clip") != identity:
        return None
    try:
        shots = [Shot(int(start), int(stop)) for start, stop in kept["shots"]]
        times = [(pts, duration) for pts, duration in kept["times"]]
        digests = [bytes.fromhex(digest) for digest in kept["digests"]]
        record = ClipRecord(0, times, digests, float(kept["colour"]), [str(text) for text in kept["warnings"]])
    except (KeyError, TypeError, ValueError):
        return None
    return (shots, record) if shots and shots[-1].stop == len(digests) == len(times) else None


class ClipPlanner:
    """The jobs of one clip.

    Args:
        path: the clip.
        output: what a render of everything is for; decides how segments are encoded, nothing is written there.
        options: size, model settings, codec.
        model: loaded.
        analysis: of the whole clip.
        hook: gets the ``input`` event.
    """

    def __init__(
        self,
        path: Path,
        output: Path,
        options: UpscaleOptions,
        model: RestorationModel,
        analysis: Analysis,
        hook: Hook = silent,
    ) -> None:
        plain = replace(options, keyframes=KeyframeChoice("none"), overwrite=True, compare=False)
        self.analysis = analysis
        self.base = prepare(path, output, plain, model, hook, analysis=analysis)

    def job(self, references: Path | None, guidance: float) -> UpscaleJob:
        """The job with the images of a folder (None or an empty one: without keyframes).

        Raises:
            KeyframeError: the folder cannot be used.
        """
        base = self.base
        shots, record = self.analysis
        options = replace(base.options, guidance_scale=guidance)
        check_options(options)
        maker = folder_maker(references)
        if maker is None:
            return replace(base, options=options)
        inside = [index for index in maker.indices if shots[0].start <= index < shots[-1].stop]
        selection = KeyframeChoice("manual", indices=tuple(inside)).select(shots, list, options.seed)
        passes = 2 if needs_blind_pass(guidance, len(selection.indices)) else 1
        model = base.model
        lr_size = (base.info.height, base.info.width)
        plan = model.plan(
            lr_size,
            base.working_size,
            base.num_frames,
            guided_passes=passes,
            memory_bytes=int(working_memory(model.device)),
        )
        if options.chunk_frames is not None or options.tile is not None:
            tile = plan.tile if options.tile is None else (options.tile or None)
            plan = replace(plan, chunk_frames=options.chunk_frames or plan.chunk_frames, tile=tile)
        return replace(
            base,
            options=replace(options, references=str(references)),
            selection=selection,
            references=maker.name if selection.indices else None,
            has_own_images=True,
            state_bytes=passes * model.state_bytes(lr_size),
            plan=plan,
            guided_passes=passes,
            is_grey=record.colour <= GREY_SPREAD and not selection.indices,
            maker=maker,
        )


def folder_maker(references: Path | None) -> FolderMaker | None:
    """The images of a folder; None without any that has an influence."""
    if references is None or not any(path.suffix == ".png" for path in references.iterdir()):
        return None
    from sparkvsr.keyframes.manifest import read_manifest

    manifest = read_manifest(references)
    if manifest is not None and manifest.keyframes and all(entry.weight == 0 for entry in manifest.keyframes):
        return None
    return FolderMaker(references)


def segments_between(job: UpscaleJob, start: int, stop: int) -> list[Segment]:
    """The segments of the shots that some frames lie in."""
    return [one for one in segments_of(job) if one.shot.start < stop and start < one.shot.stop]
