"""`sparkvsr studio`: a page on this machine to look at a clip, mend keyframes and see them carried."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from sparkvsr.errors import ConfigError

from .console import private_paths, write_stderr
from .crash import state_folder
from .options import MODEL, SIZE, Deinterlace, Device, Dtype, Look, Model, Seed

ENCODER, MAKER, SERVER = "Encoder", "Makers of keyframes", "Server"


def studio(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Videos, or a folder of videos: a list to choose from.")
    ],
    project: Annotated[
        Path | None,
        typer.Option("--project", metavar="DIR", help="Where everything is kept (default: in.studio beside the clip)."),
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Port (default: the first free one from 8765).", rich_help_panel=SERVER)
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            "--host", help="Address to listen on; any but this machine's own is a risk.", rich_help_panel=SERVER
        ),
    ] = "127.0.0.1",
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only print the address.", rich_help_panel=SERVER)
    ] = False,
    scale: Annotated[
        float | None,
        typer.Option("--scale", help="Factor from 1 to 4, may be fractional (default: 4).", rich_help_panel=SIZE),
    ] = None,
    height: Annotated[
        int | None, typer.Option("--height", help="Output height, e.g. 1080.", rich_help_panel=SIZE)
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="Box the output fits into, e.g. 1920x1080.", rich_help_panel=SIZE)
    ] = None,
    maker: Annotated[
        list[str] | None,
        typer.Option(
            "--maker",
            help="What makes keyframes: all that --references of `sparkvsr keyframes` takes, besides folders; may be "
            "repeated, the first is used when a keyframe is added (lite is always there).",
            rich_help_panel=MAKER,
        ),
    ] = None,
    prompt: Annotated[
        str, typer.Option("--prompt", help="Words for makers that take them.", rich_help_panel=MAKER)
    ] = "",
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds for one image of a program or endpoint.", rich_help_panel=MAKER)
    ] = 600.0,
    api_key_env: Annotated[
        str,
        typer.Option("--api-key-env", help="Environment variable that holds an endpoint's key.", rich_help_panel=MAKER),
    ] = "SPARKVSR_API_KEY",
    guidance: Annotated[
        float,
        typer.Option("--guidance", help="Of a new project: 0 blind, 1 plain, above closer.", rich_help_panel=MODEL),
    ] = 1.0,
    model: Model = "lite",
    look: Look = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = 42,
    codec: Annotated[
        str, typer.Option("--codec", help="h264, hevc, av1, ffv1 (lossless), prores.", rich_help_panel=ENCODER)
    ] = "h264",
    crf: Annotated[int | None, typer.Option("--crf", help="Quality, lower is better.", rich_help_panel=ENCODER)] = None,
    pixel_format: Annotated[
        str | None, typer.Option("--pixel-format", help="e.g. yuv420p.", rich_help_panel=ENCODER)
    ] = None,
    deinterlace: Deinterlace = "auto",
) -> None:
    """Look at a clip, mend keyframes, see them carried: a page in the browser, on this machine only.

    Example: sparkvsr studio in.mp4
    """
    if port is not None and not 0 <= port <= 65535:
        msg = f"--port {port} is out of range; use 1 to 65535"
        raise ConfigError(msg)
    if not timeout > 0:
        msg = f"--timeout {timeout:g} is too short; give seconds above 0"
        raise ConfigError(msg)
    values: dict[str, Any] = {
        "scale": scale,
        "height": height,
        "size": size,
        "guidance_scale": guidance,
        "model": model,
        "look": look,
        "device": device,
        "dtype": dtype,
        "seed": seed,
        "codec": codec,
        "crf": crf,
        "pixel_format": pixel_format,
        "deinterlace": deinterlace,
    }
    from sparkvsr.inference.batch import find_inputs
    from sparkvsr.inference.options import check_options
    from sparkvsr.inference.upscale import make_options
    from sparkvsr.keyframes.makers.interface import MakerOptions
    from sparkvsr.models.registry import LOOKS, own_references
    from sparkvsr.studio.serve import bind, serve
    from sparkvsr.studio.studio import Studio, StudioOptions

    check_options(make_options(**values))
    found = find_inputs(inputs)
    private_paths.update(map(str, found.paths))
    if not found.paths:
        msg = "there is no clip; name a video or a folder of videos"
        raise ConfigError(msg)
    options = StudioOptions(
        clips=[path.absolute() for path in found.paths],
        values=values,
        makers=tuple(dict.fromkeys([*(maker or []), own_references(look or LOOKS[0]), "lite"])),
        maker=MakerOptions(prompt=prompt, timeout_seconds=timeout, key_variable=api_key_env, seed=seed),
        project=None if project is None else project.expanduser().absolute(),
    )
    listener = bind(host, port)
    if host not in ("127.0.0.1", "::1", "localhost"):
        write_stderr(
            f"Warning: {host} can be reached from other machines; whoever sees the address below can use the studio"
        )
    made = Studio(options)
    made.start()
    try:
        if len(options.clips) == 1:
            made.clip(0)  # what is wrong with the clip or the folder is said here
    except BaseException:
        made.close()
        raise

    def told(address: str) -> None:
        sys.stdout.write(f"Studio   {address}\n         everything is kept in {options.folder(0)}\n")
        sys.stdout.write("         Ctrl-C stops it; the same command goes on\n")
        sys.stdout.flush()
        if not no_browser:
            webbrowser.open(address)

    serve(made, listener, host, state_folder(), told)
