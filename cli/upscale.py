"""`sparkvsr upscale`: parse, call the library, report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparkvsr.errors import SparkVSRError

from . import options as shared
from .console import JsonReporter, Reporter, TextReporter, print_error, private_paths
from .crash import crash_message
from .pipes import InputFormat, OutputFormat, check_pipes, kept_stdout, upscale_pipe

if TYPE_CHECKING:
    from sparkvsr.inference.batch import Inputs, Outcome
    from sparkvsr.inference.options import UpscaleOptions

ENCODER, SCALE_OUT = "Encoder", "Several devices"
LARGE = "cogvideox models only"


def upscale(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Videos, images, folders of videos or of images, patterns like 'clips/*.mp4' or frames/%05d.png; "
            "- for a pipe (y4m, raw frames, or a container).",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            help="Output file; folder/ or %05d.png for an image sequence; a folder for several inputs; - for a pipe. "
            "Default: in_x4.mp4 beside the input (mkv and mov keep their container).",
        ),
    ] = None,
    overwrite: shared.Overwrite = False,
    scale: Annotated[
        float | None,
        typer.Option(
            "--scale", help="Factor from 1 to 4, may be fractional (default: 4).", rich_help_panel=shared.SIZE
        ),
    ] = None,
    height: Annotated[
        int | None, typer.Option("--height", help="Output height, e.g. 1080.", rich_help_panel=shared.SIZE)
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            help="Box the output fits into, e.g. 1920x1080; keeps the aspect ratio.",
            rich_help_panel=shared.SIZE,
        ),
    ] = None,
    iframes: shared.Iframes = False,
    keyframes: shared.FrameNumbers = None,
    random: shared.Random = None,
    every: shared.Every = None,
    scenes: shared.Scenes = False,
    no_keyframes: Annotated[
        bool, typer.Option("--no-keyframes", help="Blind restoration.", rich_help_panel=shared.KEYFRAMES)
    ] = False,
    references: Annotated[
        str,
        typer.Option(
            "--references",
            help="HR images of the keyframes: auto (by model and look), a folder of images named by frame number, "
            "another video of the same clip (what any upscaler made of it), or a maker: detail, lite, bicubic, "
            "realesrgan, a weight file that spandrel reads, "
            "'command:PROGRAM {input} {output}', diffusers:PATH, or an endpoint's URL.",
            rich_help_panel=shared.KEYFRAMES,
        ),
    ] = "auto",
    guidance: shared.Guidance = 1.0,
    model: shared.Model = "lite",
    look: shared.Look = None,
    device: shared.Device = "auto",
    dtype: shared.Dtype = "auto",
    chunk_frames: shared.ChunkFrames = None,
    tile: shared.Tile = None,
    seed: shared.Seed = 42,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            help="bf16, fp16, fp32, fp8, int8, fp8-matmul, int8-matmul (default: by device).",
            rich_help_panel=LARGE,
        ),
    ] = None,
    offload: Annotated[
        str | None,
        typer.Option("--offload", help="none, model, sequential (default: by memory).", rich_help_panel=LARGE),
    ] = None,
    vae_tiling: Annotated[
        str | None, typer.Option("--vae-tiling", help="auto, on, off (default: auto).", rich_help_panel=LARGE)
    ] = None,
    colour: Annotated[
        str | None,
        typer.Option("--colour", help="Match colours to the LR clip: none, wavelet, adain.", rich_help_panel=LARGE),
    ] = None,
    carry: Annotated[
        bool | None,
        typer.Option(
            "--carry/--no-carry",
            help="A chunk without a keyframe takes its predecessor's last frame as one (default: on).",
            rich_help_panel=LARGE,
        ),
    ] = None,
    slot: Annotated[
        str | None,
        typer.Option("--slot", help="Latent slot of a keyframe: floor (as trained), exact.", rich_help_panel=LARGE),
    ] = None,
    lora: Annotated[
        list[str] | None, typer.Option("--lora", help="LoRA file to merge; may be repeated.", rich_help_panel=LARGE)
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option(
            "--attention", help="auto, flash, fa3, cudnn, efficient, math (default: auto).", rich_help_panel=LARGE
        ),
    ] = None,
    compile_transformer: Annotated[
        bool | None,
        typer.Option(
            "--compile", help="torch.compile the transformer: pays for many or long clips.", rich_help_panel=LARGE
        ),
    ] = None,
    start: shared.Start = 0,
    frames: shared.Frames = None,
    preview: Annotated[
        str | None, typer.Option("--preview", help="Only a few seconds around a moment, e.g. 3s@0:42.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            help="Folder that keeps rendered segments, for the next edit. Default: beside the output, removed after "
            "success unless --references is a folder.",
        ),
    ] = None,
    no_work: Annotated[
        bool, typer.Option("--no-work", help="Keep nothing: remove the work folder in any case, also after a failure.")
    ] = False,
    work_limit: Annotated[float, typer.Option("--work-limit", help="Largest size of the work folder in GB.")] = 20.0,
    compare: Annotated[bool, typer.Option("--compare", help="Also write a side-by-side video.")] = False,
    codec: Annotated[
        str, typer.Option("--codec", help="h264, hevc, av1, ffv1 (lossless), prores.", rich_help_panel=ENCODER)
    ] = "h264",
    crf: Annotated[
        int | None, typer.Option("--crf", help="Quality, lower is better (default: by codec).", rich_help_panel=ENCODER)
    ] = None,
    pixel_format: Annotated[
        str | None,
        typer.Option(
            "--pixel-format", help="e.g. yuv420p, yuv444p10le (default: by codec and input).", rich_help_panel=ENCODER
        ),
    ] = None,
    deinterlace: shared.Deinterlace = "auto",
    stream: shared.Stream = None,
    devices: Annotated[
        int | None,
        typer.Option(
            "--devices",
            help="Share the shots of a clip, or many inputs, over N GPUs; on a CPU over N processes.",
            rich_help_panel=SCALE_OUT,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Share them over a Ray cluster: its address, auto, or local. Inputs have to lie on a shared disk.",
            rich_help_panel=SCALE_OUT,
        ),
    ] = None,
    input_format: InputFormat = None,
    output_format: OutputFormat = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say the plan, with the time and the disk it takes, and stop.")
    ] = False,
    json: shared.Json = False,
) -> None:
    """Upscale videos or images, guided by keyframes.

    Example: sparkvsr upscale in.mp4 --iframes; in a pipe: ffmpeg -i in.mkv -f yuv4mpegpipe - | sparkvsr upscale - -o -
    | ffmpeg -i - out.mkv
    """
    blind = {"--no-keyframes": "none" if no_keyframes else None}
    choice = shared.keyframe_choice(iframes, keyframes, random, every, scenes, blind)
    large = {
        "precision": precision,
        "offload": offload,
        "vae_tiling": vae_tiling,
        "colour": colour,
        "carry": carry,
        "slot": slot,
        "lora": lora or None,
        "attention": attention,
        "compile_transformer": compile_transformer,
    }
    several = devices is not None or ray is not None or dry_run
    is_pipe = check_pipes(inputs, output, input_format, output_format, several=several)
    reporter: Reporter = JsonReporter() if json else TextReporter()
    with kept_stdout(output) as descriptor, reporter as report:
        # Torch and all that is imported only now: help and usage errors stay quick.
        from sparkvsr.inference.upscale import make_options

        options = make_options(
            scale=scale,
            height=height,
            size=size,
            keyframes=choice,
            references=references,
            guidance_scale=guidance,
            model=model,
            look=look,
            model_options={name: value for name, value in large.items() if value is not None},
            device=device,
            dtype=dtype,
            chunk_frames=chunk_frames,
            tile=tile,
            seed=seed,
            start=start,
            frames=frames,
            preview=preview,
            compare=compare,
            overwrite=overwrite,
            deinterlace=deinterlace,
            stream=stream,
            codec=codec,
            crf=crf,
            pixel_format=pixel_format,
            work=work,
            keep_work=not no_work,
            work_limit_bytes=round(work_limit * 1e9),
        )
        if is_pipe:
            upscale_pipe(inputs[0], output, descriptor, options, (input_format, output_format), report)
            return
        from sparkvsr.inference.batch import find_inputs

        found = find_inputs(inputs)
        private_paths.update(map(str, found.paths))
        for path in found.left_out:
            report(
                {"event": "note", "text": f"{path} was made by an earlier run and is left out; name it alone to use it"}
            )
        if dry_run:
            _dry_run(found, output, options, report)
        else:
            _upscale(found, output, options, report, devices=devices, ray=ray)


def _upscale(
    found: Inputs,
    output: str | None,
    options: UpscaleOptions,
    report: Reporter,
    *,
    devices: int | None,
    ray: str | None,
) -> None:
    from sparkvsr.inference.batch import check_output_folder, upscale_many
    from sparkvsr.inference.upscale import as_output
    from sparkvsr.inference.workers.scale_out import Workers

    if found.is_batch and output is not None:
        check_output_folder(output, len(found.paths) + len(found.left_out))
    workers = None if devices is None and ray is None else Workers(devices, ray)
    into_folder = found.is_batch and output is not None
    target = None if output is None else as_output(output, into_folder=into_folder)
    started = time.monotonic()
    outcomes = []
    for outcome in upscale_many(found.paths, target, options, report, into_folder=into_folder, workers=workers):
        outcomes.append(outcome)
        _report_outcome(outcome, report, is_batch=found.is_batch)
    if not found.is_batch:
        return
    report(
        {
            "event": "summary",
            "rows": [outcome.event() for outcome in outcomes],
            "seconds": round(time.monotonic() - started, 3),
        }
    )
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    if failed:
        print_error(f"{failed} of {len(outcomes)} inputs failed")
        raise typer.Exit(1)


def _report_outcome(outcome: Outcome, report: Reporter, *, is_batch: bool) -> None:
    """Say what went wrong with an input; alone, its error ends the command."""
    error = outcome.error
    if error is None:
        return
    if is_batch and outcome.status == "skipped":
        report({"event": "skipped", "input": str(outcome.path), "reason": outcome.reason})
        return
    kind = getattr(error, "kind", type(error).__name__)
    report({"event": "error", "input": str(outcome.path), "kind": kind, "error": outcome.reason or str(error)})
    if not is_batch:
        raise error
    text = str(error) if isinstance(error, SparkVSRError) else crash_message(error)
    print_error(text if text.startswith(str(outcome.path)) else f"{outcome.path}: {text}")


def _dry_run(found: Inputs, output: str | None, options: UpscaleOptions, report: Reporter) -> None:
    """The plan of every input; nothing is written. The first thing that is wrong ends it."""
    from sparkvsr.inference.calibration import calibrate, can_calibrate
    from sparkvsr.inference.clip.job import prepare
    from sparkvsr.inference.clip.render import segments_of
    from sparkvsr.inference.clip.timing import estimate, keep_rates, kept_rates
    from sparkvsr.inference.clip.work import ClipWork
    from sparkvsr.inference.upscale import as_output, load_for

    model = load_for(options)
    into_folder = found.is_batch and output is not None
    target = None if output is None else as_output(output, into_folder=into_folder)
    for path in found.paths:
        job = prepare(path, target, options, model, report, into_folder=into_folder)
        rates = kept_rates(job)
        if rates is None and can_calibrate(model):
            rates = calibrate(job, options, report)
            keep_rates(job, rates)
        elif rates is None:
            text = f"how long {model.name} takes is not estimated; --preview 1s@0:00 restores a second and shows it"
            report({"event": "note", "text": text})
        work = ClipWork(job.clip, segments_of(job), report, None if rates is None else estimate(job, rates))
        work.report_plan()
        work.check_disk()
