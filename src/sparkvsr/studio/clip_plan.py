"""From a clip, its references and the settings to the job and the segments that `sparkvsr upscale` would have.

`prepare` looks at everything anew for each call. Here the pass over the clip is done once and kept in the project, and
an edit costs only what it changes: the keys of the segments. Exports go through `prepare` itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

from sparkvsr.hooks import Hook, silent
from sparkvsr.inference.clip.analysis import ClipRecord, read_through
from sparkvsr.inference.clip.job import UpscaleJob, prepare
from sparkvsr.inference.clip.own_keyframes import add_own_keyframes, is_own_kind, wants_own_keyframes
from sparkvsr.inference.clip.planning import plan_run
from sparkvsr.inference.clip.render import segments_of
from sparkvsr.inference.clip.segments import Segment
from sparkvsr.inference.options import UpscaleOptions, check_options
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.makers.mixed import MixedMaker
from sparkvsr.keyframes.references import FolderMaker, ReferenceMaker, make_reference_maker
from sparkvsr.keyframes.shots import Shot
from sparkvsr.models.interface import RestorationModel
from sparkvsr.studio.remembered import RememberingMaker
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
    # As `upscale` does for keyframes that are given: empty and blurred frames are not looked for.
    return read_through(info, 0, info.num_frames, options.deinterlace, hook, judge=False, follow=True)


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
        "side_data": sorted(record.side_data),
        "wanted": None if record.wanted is None else list(record.wanted),
    }


def analysis_from_json(kept: Any, identity: str) -> Analysis | None:
    """What ``analysis_to_json`` gave; None if it is not of this clip or not sound."""
    if not isinstance(kept, Mapping) or kept.get("clip") != identity:
        return None
    try:
        shots = [Shot(int(start), int(stop)) for start, stop in kept["shots"]]
        times = [(pts, duration) for pts, duration in kept["times"]]
        digests = [bytes.fromhex(digest) for digest in kept["digests"]]
        warnings, side_data = [str(text) for text in kept["warnings"]], frozenset(map(str, kept["side_data"]))
        record = ClipRecord(0, times, digests, float(kept["colour"]), warnings, side_data)
        record.wanted = None if kept["wanted"] is None else tuple(map(int, kept["wanted"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return (shots, record) if _is_sound(shots, record) else None


def _is_sound(shots: list[Shot], record: ClipRecord) -> bool:
    """Whether shots cover the clip one after the other, and times are what a clip has."""
    count = len(record.digests)
    bounds = [0, *(shot.stop for shot in shots)]
    return (
        count > 0
        and bounds[-1] == count == len(record.times)
        and [shot.start for shot in shots] == bounds[:-1]
        and all(a < b for a, b in pairwise(bounds))
        and all(value is None or type(value) is int for time in record.times for value in time)
        and all(0 <= index < count for index in record.wanted or ())
        and isfinite(record.colour)
    )


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
        self._options = plain
        self._own_maker: ReferenceMaker | None = None
        self.base = prepare(path, output, plain, model, hook, analysis=analysis)

    def job(self, references: Path | None, guidance: float) -> UpscaleJob:
        """The job with the images of a folder (None or an empty one: without keyframes).

        Raises:
            KeyframeError: the folder cannot be used.
        """
        base, shots, record = self.base, *self.analysis
        options = replace(self._options, guidance_scale=guidance)
        check_options(options)
        maker = folder_maker(references)
        inside = () if maker is None else tuple(index for index in maker.indices if index < shots[-1].stop)
        selection = KeyframeChoice("manual" if inside else "none", indices=inside).select(shots, list, options.seed)
        own: tuple[int, ...] = ()
        if maker is not None and wants_own_keyframes("manual" if inside else "none", guidance, base.model):
            selection, own = add_own_keyframes(selection, shots, record.wanted or (), maker, base.model)
        plan = plan_run(
            base.model,
            (base.clip.info.height, base.clip.info.width),
            base.clip.settings.size,
            base.clip.num_frames,
            num_keyframes=len(selection.indices),
            guidance_scale=guidance,
            chunk_frames=options.chunk_frames,
            tile=options.tile,
            seed=options.seed,
        )
        combined = None if maker is None else self._completed(maker, own)
        is_grey = record.stays_grey(selection.indices, combined)
        settings = replace(plan.settings, is_grey=is_grey, own_keyframes=frozenset(own))
        clip = replace(base.clip, settings=settings, selection=selection, state_bytes=plan.state_bytes)
        if maker is None or combined is None:
            return replace(base, clip=clip)
        clip = replace(clip, references=combined.name, maker=str(references), has_own_images=True)
        return UpscaleJob(clip, base.model, combined)

    def _completed(self, maker: ReferenceMaker, own: tuple[int, ...]) -> ReferenceMaker:
        """As ``completed_maker``, with the model's own network loaded once."""
        if not own or is_own_kind(maker):
            return maker
        if self._own_maker is None:
            own_kind = make_reference_maker(self.base.model.own_references, self.base.model.device)
            self._own_maker = RememberingMaker(own_kind)
        return MixedMaker(maker, self._own_maker, own)


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
