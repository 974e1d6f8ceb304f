"""`sparkvsr studio`: a page on this machine to look at a clip, mend keyframes and see them carried."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from sparkvsr.errors import ConfigError
from sparkvsr.home import expanded
from sparkvsr.printable import printable

from .console import private_paths, write_stderr
from .crash import state_folder
from .options import (
    DEFAULT_KEY_VARIABLE,
    DEFAULT_TIMEOUT,
    MAKER,
    MODEL,
    SIZE,
    Deinterlace,
    Device,
    Dtype,
    KeyVariable,
    Look,
    Model,
    Prompt,
    Seed,
    Timeout,
    check_timeout,
)

ENCODER, SERVER = "Encoder", "Server"


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
            help="What makes keyframes: what --references of `sparkvsr keyframes` takes but no folder, another video "
            "of the clip too; may be repeated, the first is for a new keyframe (lite is always there).",
            rich_help_panel=MAKER,
        ),
    ] = None,
    prompt: Prompt = "",
    timeout: Timeout = DEFAULT_TIMEOUT,
    api_key_env: KeyVariable = DEFAULT_KEY_VARIABLE,
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
    check_timeout(timeout)
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
    # Nothing of this imports torch: it lives in the render process, which is started first and answers meanwhile.
    from sparkvsr.studio.render_client import RenderClient
    from sparkvsr.studio.serve import bind, serve
    from sparkvsr.studio.studio import Studio, StudioOptions

    render = RenderClient()
    render.start()
    try:
        begun = render.ask("begin", inputs=inputs, values=values, makers=maker or [])
        private_paths.update(begun["clips"])
        if not begun["clips"]:
            msg = "there is no clip; name a video or a folder of videos"
            raise ConfigError(msg)
        options = StudioOptions(
            clips=[Path(clip) for clip in begun["clips"]],
            values=values,
            makers=tuple(dict.fromkeys([*(maker or []), begun["own"], "lite"])),
            maker={"prompt": prompt, "timeout_seconds": timeout, "key_variable": api_key_env, "seed": seed},
            project=None if project is None else expanded(project).absolute(),
        )
        listener = bind(host, port)
        made = Studio(options, render)
        made.start()
        if len(options.clips) == 1:
            made.clip(0)  # what is wrong with the clip or the folder is said here
    except BaseException:
        render.close()
        raise
    if host not in ("127.0.0.1", "::1", "localhost"):
        write_stderr(
            f"Warning: {host} can be reached from other machines; whoever sees the address below can use the studio"
        )

    def told(address: str) -> None:
        sys.stdout.write(f"Studio   {address}\n         everything is kept in {printable(str(options.folder(0)))}\n")
        sys.stdout.write("         Ctrl-C stops it; the same command goes on\n")
        sys.stdout.flush()
        if not no_browser:
            webbrowser.open(address)

    serve(made, listener, host, state_folder(), told)
