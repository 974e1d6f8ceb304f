"""Many inputs: which files a user means, and doing them all without one stopping the rest."""

from __future__ import annotations

import glob
import logging
import os
import re
import time
import traceback
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sparkvsr.errors import ConfigError, DecodeError, EncodeError, OutputExistsError, SparkVSRError
from sparkvsr.home import expanded
from sparkvsr.hooks import Hook
from sparkvsr.inference.clip.job import prepare
from sparkvsr.inference.clip.work import SIGNATURE, UpscaleResult
from sparkvsr.inference.options import UpscaleOptions, check_options
from sparkvsr.inference.upscale import load_for, run
from sparkvsr.inference.workers.scale_out import ScaleOut, Workers
from sparkvsr.models.interface import RestorationModel
from sparkvsr.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from sparkvsr.video.border import open_input
from sparkvsr.video.images import natural_key
from sparkvsr.video.own_files import refuse_source

_MADE_BY_US = re.compile(r"_(x[\d.]+|\d+p)(_preview)?(_compare)?$")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """What was given, file by file.

    Attributes:
        paths: in order, each once.
        is_batch: several, or a folder of videos: an output is then a folder.
        left_out: made by an earlier run from another of the inputs.
    """

    paths: tuple[Path, ...]
    is_batch: bool
    left_out: tuple[Path, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Attributes:
        path: the input.
        status: ``done``, ``skipped`` (its output is there already) or ``failed``.
        result: when done.
        reason: when not done, one line.
        error: when not done.
        seconds: it took.
    """

    path: Path
    status: Literal["done", "skipped", "failed"]
    result: UpscaleResult | None = None
    reason: str | None = None
    error: BaseException | None = None
    seconds: float = 0.0

    def event(self) -> dict[str, Any]:
        """One row of the ``summary`` event."""
        return {
            "input": str(self.path),
            "status": self.status,
            "output": None if self.result is None else str(self.result.output),
            "frames": None if self.result is None else self.result.frames,
            "seconds": round(self.seconds, 3),
            "reason": self.reason,
        }


def find_inputs(given: Sequence[str]) -> Inputs:
    """Expand patterns and folders of videos.

    Patterns that the shell left alone (quoted, or on Windows) are expanded here. A folder of images is one input, an
    image sequence; a folder of videos stands for its videos, not for those in folders inside it.

    Raises:
        ConfigError: a pattern matches nothing, or a folder holds both videos and images.
    """
    paths: list[Path] = []
    is_batch = False
    for text in given:
        path = expanded(text)
        matches = [path]
        if any(mark in text for mark in "*?[") and not os.path.lexists(path):
            matches = sorted(map(Path, glob.glob(str(path), recursive=True)), key=natural_key)  # noqa: PTH207
            if not matches:
                msg = f"{text} matches no file; check the pattern and the folder"
                raise ConfigError(msg)
        for match in matches:
            videos = _videos_in(match) if _is_folder(match) else []
            is_batch = is_batch or bool(videos)
            paths += videos or [match]
    unique = list({path.absolute(): path for path in paths}.values())
    made = _made_by_earlier_runs(unique)
    kept = [path for path in unique if path not in made]
    return Inputs(tuple(kept), is_batch or len(unique) > 1, tuple(made))


def check_output_folder(output: str, count: int) -> None:
    """Make the folder for the outputs of several inputs.

    Raises:
        ConfigError: it is a file.
        EncodeError: it cannot be made.
    """
    folder = expanded(output)
    if folder.exists() and not folder.is_dir():
        msg = f"-o {output} is a file, but there are {count} inputs; give a folder"
        raise ConfigError(msg)
    if folder.suffix.lower() in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES):
        msg = f"-o {output} names one output, but there are {count} inputs; give a folder"
        raise ConfigError(msg)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        msg = f"-o {output}: the folder cannot be made ({exc.strerror}); choose another"
        raise EncodeError(msg) from exc


def upscale_many(
    paths: Sequence[Path],
    output: Path | None,
    options: UpscaleOptions,
    hook: Hook,
    *,
    into_folder: bool = False,
    workers: Workers | None = None,
    model: RestorationModel | None = None,
) -> Generator[Outcome, None, None]:
    """Upscale inputs; whatever is wrong with one does not stop the others.

    Args:
        paths: what ``find_inputs`` gave.
        output: as for ``prepare``.
        options: for all.
        hook: gets all events, each with its ``input``.
        into_folder: ``output`` is a folder.
        workers: where to compute; None in this process.
        model: loaded already; only for this process.

    Yields:
        An outcome for each input as it is known.

    Raises:
        ConfigError: an option is wrong whatever the input.
        WeightsError: the model cannot be loaded.
    """
    check_options(options)
    claimed: dict[Path, Path] = {}
    if workers is None:
        outcomes = _one_by_one(paths, output, options, hook, model or load_for(options), into_folder=into_folder)
    else:
        outcomes = _on_workers(paths, output, options, hook, workers, into_folder=into_folder)
    with closing(outcomes):
        for outcome in outcomes:
            yield _judged(outcome, claimed)


def _one_by_one(
    paths: Sequence[Path],
    output: Path | None,
    options: UpscaleOptions,
    hook: Hook,
    model: RestorationModel,
    *,
    into_folder: bool,
) -> Generator[Outcome, None, None]:
    for path in paths:
        started = time.monotonic()
        try:
            job = prepare(path, output, options, model, hook, into_folder=into_folder)
            for target in job.clip.outputs:
                refuse_source(target, paths)
            result = run(job, hook)
        except Exception as exc:  # noqa: BLE001  (one bad file does not stop the rest; who asked reports it)
            yield Outcome(path, "failed", error=_lightened(exc), seconds=time.monotonic() - started)
        else:
            yield Outcome(path, "done", result, seconds=time.monotonic() - started)


def _on_workers(
    paths: Sequence[Path],
    output: Path | None,
    options: UpscaleOptions,
    hook: Hook,
    workers: Workers,
    *,
    into_folder: bool,
) -> Generator[Outcome, None, None]:
    started = time.monotonic()
    with closing(ScaleOut(options, workers, hook).run(paths, output, into_folder=into_folder)) as clips:
        for clip in clips:
            path = paths[clip.number]
            if clip.error is not None:
                yield Outcome(path, "failed", error=_lightened(clip.error), seconds=time.monotonic() - started)
            else:
                seconds = clip.result.seconds if clip.result is not None else 0.0
                yield Outcome(path, "done", clip.result, seconds=seconds)


def _lightened(error: BaseException) -> BaseException:
    """An exception without the local variables of the calls it went through: clips, tensors, decoders.

    Where it happened can still be told.
    """
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        waiting += [one.__cause__, one.__context__]
    return error


def _judged(outcome: Outcome, claimed: dict[Path, Path]) -> Outcome:
    """Tell what is there already from what went wrong.

    Args:
        claimed: which input an output belongs to.
    """
    error = outcome.error
    if outcome.result is not None:
        claimed[outcome.result.output.absolute()] = outcome.path
    if isinstance(error, OutputExistsError) and error.path is not None:
        owner = claimed.setdefault(error.path.absolute(), outcome.path)
        if owner == outcome.path:
            _log.info("%s: %s", outcome.path, error)
            return replace(outcome, status="skipped", reason=f"{error.path} is there already")
        error = EncodeError(f"its output {error.path} is that of {owner}; rename one, or give them different folders")
    if error is not None:
        text = str(error) if isinstance(error, SparkVSRError) else f"unexpected {type(error).__name__}"
        return replace(outcome, reason=text, error=error)
    return outcome


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long; reading the input says so
        return False


def _videos_in(folder: Path) -> list[Path]:
    files = [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file()]
    videos = sorted((path for path in files if path.suffix.lower() in VIDEO_SUFFIXES), key=natural_key)
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if videos and images:
        msg = (
            f"{folder} holds {len(videos)} videos and {len(images)} images; name the videos, "
            f"like '{folder}/*{videos[0].suffix}', or put the images elsewhere"
        )
        raise ConfigError(msg)
    return videos


def _may_be_ours(path: Path) -> bool:
    if path.suffix.lower() not in VIDEO_SUFFIXES or path.stem.endswith("_compare"):
        return True
    try:
        with open_input(path) as container:
            return SIGNATURE in container.metadata.get("comment", container.metadata.get("COMMENT", ""))
    except DecodeError:
        return False


def _made_by_earlier_runs(paths: Sequence[Path]) -> list[Path]:
    """Outputs of other inputs beside them: upscaling those again is never meant.

    A video says who made it; one that only has such a name is an input as any other. Images have the name only.
    """
    stems = {(path.absolute().parent, path.stem) for path in paths}
    made = []
    for path in paths:
        base = _MADE_BY_US.sub("", path.stem)
        if base != path.stem and (path.absolute().parent, base) in stems and _may_be_ours(path):
            made.append(path)
    return made
