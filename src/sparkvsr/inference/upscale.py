"""`sparkvsr.upscale`: from what a person writes to one clip's result, in this process or on workers."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from sparkvsr.errors import ConfigError
from sparkvsr.home import expanded
from sparkvsr.hooks import Hook, silent
from sparkvsr.inference.clip.job import UpscaleJob, prepare
from sparkvsr.inference.clip.output_names import SEQUENCE_PATTERN
from sparkvsr.inference.clip.render import render_segments, segments_of
from sparkvsr.inference.clip.timing import estimate, keep_rates, kept_rates, learned
from sparkvsr.inference.clip.work import ClipWork, UpscaleResult
from sparkvsr.inference.options import UpscaleOptions, check_options
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.models.interface import RestorationModel
from sparkvsr.shapes import parse_size
from sparkvsr.video import EncodeOptions

__all__ = ["UpscaleResult", "as_output", "load_for", "make_options", "run", "upscale"]


def run(job: UpscaleJob, hook: Hook = silent) -> UpscaleResult:
    """Restore and write one prepared clip. The output appears under its name only when it is complete.

    A clip is rendered in segments that a work folder keeps until the output is complete, so that the same call goes on
    where an interrupted one stopped.

    Raises:
        SparkVSRError: reading, restoring or writing failed; nothing is left under the output's name.
    """
    rates = kept_rates(job)
    work = ClipWork(job.clip, segments_of(job), hook, None if rates is None else estimate(job, rates))
    work.report_plan()
    with work:
        render_segments(job, work.missing(), work.store, work.hook)
        result = work.finish()
    is_whole = result.rendered == result.frames and result.compare is None
    if rates is not None and is_whole and work.other_programs is None:
        keep_rates(job, learned(job, rates, result.seconds))
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
    devices: int | None = None,
    ray: str | None = None,
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
        devices: share the shots over so many GPUs or processes, see docs/scale_out.md.
        ray: address of a Ray cluster to share them over.
        hook: gets the events of ``inference.progress``.
        options: the fields of ``UpscaleOptions`` and ``EncodeOptions``, see ``make_options``.

    Raises:
        SparkVSRError: one clear line of what is wrong; nothing is left under the output's name.
    """
    chosen = make_options(**options) if isinstance(model, RestorationModel) else make_options(model=model, **options)
    target = None if output is None else as_output(output)
    if devices is not None or ray is not None:
        if isinstance(model, RestorationModel):
            msg = "with devices or ray every worker loads its own model; give the model's name or folder"
            raise ConfigError(msg)
        return _on_workers(Path(path), target, chosen, devices, ray, hook)
    loaded = model if isinstance(model, RestorationModel) else load_for(chosen)
    return run(prepare(Path(path), target, chosen, loaded, hook), hook)


def _on_workers(
    path: Path, target: Path | None, options: UpscaleOptions, devices: int | None, ray: str | None, hook: Hook
) -> UpscaleResult:
    from sparkvsr.inference.workers.scale_out import ScaleOut, Workers

    check_options(options)
    (outcome,) = ScaleOut(options, Workers(devices, ray), hook).run([path], target, into_folder=False)
    if outcome.result is None:
        raise outcome.error or RuntimeError(path)
    return outcome.result


def load_for(options: UpscaleOptions) -> RestorationModel:
    """The model an ``UpscaleOptions`` names."""
    return options.model_choice.load(options.device)


def as_output(output: str | Path, *, into_folder: bool = False) -> Path:
    """A trailing slash means a folder of images; ``Path`` drops it, so it becomes a pattern here.

    Args:
        output: as typed.
        into_folder: it is the folder for several outputs.
    """
    path = expanded(output)
    return path / SEQUENCE_PATTERN if str(output).endswith("/") and not into_folder else path
