"""`sparkvsr keyframes`: write a folder of references that people can edit, or check one."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sparkvsr.errors import ConfigError
from sparkvsr.home import expanded
from sparkvsr.printable import printable

from . import options as shared
from .console import JsonReporter, TextReporter


def keyframes(
    clip: Annotated[Path, typer.Argument(metavar="INPUT", help="Video, folder of images or pattern.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to write (default: in_refs beside the input).")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make the references of the folder again; edits of them are lost.")
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="DIR", help="Make nothing: say what is odd about the references in DIR."),
    ] = None,
    seed: shared.Seed = 42,
    iframes: shared.Iframes = False,
    keyframes: shared.FrameNumbers = None,
    random: shared.Random = None,
    every: shared.Every = None,
    scenes: shared.Scenes = False,
    best: Annotated[
        int | None,
        typer.Option(
            "--best",
            help="N sharp frames without motion blur, spread over all shots.",
            rich_help_panel=shared.KEYFRAMES,
        ),
    ] = None,
    references: Annotated[
        str,
        typer.Option(
            "--references",
            help="Maker: auto (detail, or lite for --look faithful), detail, lite, bicubic, "
            "realesrgan[:x4plus|:x4plus-anime|:animevideov3], a weight file that spandrel reads, a folder of images, "
            "another video of the clip, 'command:PROGRAM {input} {output}', diffusers:PATH, or an endpoint's URL.",
            rich_help_panel=shared.MAKER,
        ),
    ] = "auto",
    look: Annotated[
        str,
        typer.Option(
            "--look", help="vivid or faithful: which network --references auto means.", rich_help_panel=shared.MAKER
        ),
    ] = "vivid",
    scale: Annotated[
        float,
        typer.Option("--scale", help="Size of the references over the clip's, 1 to 4.", rich_help_panel=shared.MAKER),
    ] = 4.0,
    prompt: shared.Prompt = "",
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            "--prompt-file", help='Words for single keyframes, JSON: {"48": "a face"}.', rich_help_panel=shared.MAKER
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", help="Programs or requests at once (default: 2 or 4).", rich_help_panel=shared.MAKER),
    ] = None,
    timeout: shared.Timeout = shared.DEFAULT_TIMEOUT,
    api_key_env: shared.KeyVariable = shared.DEFAULT_KEY_VARIABLE,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="Leave a keyframe out when its reference fails, and say so.",
            rich_help_panel=shared.MAKER,
        ),
    ] = False,
    device: shared.Device = "auto",
    deinterlace: shared.Deinterlace = "auto",
    stream: shared.Stream = None,
    json: shared.Json = False,
) -> None:
    """Write keyframes as images to look at and edit: references, LR frames, contact sheet, keyframes.json.

    Example: sparkvsr keyframes in.mp4 --best 5 -o refs/; edit an image; sparkvsr upscale in.mp4 --references refs/
    """
    spread = {"--best": None if best is None else f"best:{best}"}
    choice = shared.keyframe_choice(iframes, keyframes, random, every, scenes, spread)
    if check is not None:
        _check(clip, check, as_json=json)
        return
    if choice == "auto":
        msg = "--keyframes auto is for upscale, which follows the motion; give --iframes, --scenes, --every or numbers"
        raise ConfigError(msg)
    if jobs is not None and jobs < 1:
        msg = f"--jobs {jobs} is too small; give at least 1"
        raise ConfigError(msg)
    shared.check_timeout(timeout)
    prompts = {} if prompt_file is None else read_prompts(prompt_file)
    with JsonReporter() if json else KeyframeReporter() as report:
        from sparkvsr.inference.keyframe_job import KeyframeOptions, make_keyframes
        from sparkvsr.keyframes.choice import KeyframeChoice
        from sparkvsr.keyframes.makers.interface import MakerOptions
        from sparkvsr.models.registry import own_references

        maker = MakerOptions(
            prompt=prompt,
            prompts=prompts,
            timeout_seconds=timeout,
            jobs=jobs,
            key_variable=api_key_env,
            seed=seed,
        )
        options = KeyframeOptions(
            keyframes=KeyframeChoice.parse(None if best is not None else choice),
            best=best,
            references=own_references(look) if references == "auto" else references,
            maker=maker,
            scale=scale,
            device=device,
            seed=seed,
            overwrite=overwrite,
            keep_going=keep_going,
            deinterlace=deinterlace,
            stream=stream,
        )
        clip = expanded(clip)
        folder = expanded(output) if output is not None else _default_folder(clip)
        result = make_keyframes(clip, folder, options, report)
        unused = sorted(set(prompts) - {entry.index for entry in result.keyframes} - set(result.failed))
        if unused:
            report({"event": "note", "text": f"--prompt-file has words for frames that are no keyframes: {unused[:8]}"})


def read_prompts(path: Path) -> dict[int, str]:
    """``{"48": "a face"}`` from a file.

    Raises:
        ConfigError: not readable, or not an object from frame numbers to text.
    """
    try:
        content = json_module.loads(expanded(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        msg = f'--prompt-file {path} is not readable JSON ({exc}); write it like {{"48": "a face"}}'
        raise ConfigError(msg) from exc
    items = content.items() if isinstance(content, dict) else [("", None)]
    prompts: dict[int, str] = {}
    for name, text in items:
        if not (name.isascii() and name.isdigit() and len(name) < 10 and isinstance(text, str)):
            msg = f'--prompt-file {path} has to be an object from frame numbers to text, like {{"48": "a face"}}'
            raise ConfigError(msg)
        prompts[int(name)] = text
    return prompts


def _default_folder(clip: Path) -> Path:
    name = clip.parent.name if "%" in clip.name else clip.stem
    parent = clip.parent.parent if "%" in clip.name else clip.parent
    return parent / f"{name}_refs"


def _check(clip: Path, folder: Path, *, as_json: bool) -> None:
    from sparkvsr.inference.keyframe_job import check_references

    found = check_references(expanded(clip), expanded(folder))
    if as_json:
        sys.stdout.write(json_module.dumps({"event": "check", **found}) + "\n")
        return
    count = len(found["keyframes"])
    lines = [f"Checked  {count} reference{'s' if count != 1 else ''} in {found['folder']}"]
    if found["left_out"]:
        lines.append(f"Note     weight 0, not used: {', '.join(map(str, found['left_out']))}")
    lines += [f"Warning  {text}" for text in found["warnings"]] or ["         all of them fit their frames"]
    sys.stdout.write("\n".join(map(printable, lines)) + "\n")


class KeyframeReporter(TextReporter):
    """Adds the events of this command to those that ``upscale`` knows."""

    def __call__(self, event: dict[str, Any]) -> None:
        name = event["event"]
        if name == "keyframes":
            self._stop()
            indices = event["keyframes"]
            shown = ", ".join(map(str, indices[:10])) + (f", ... ({len(indices)} in all)" if len(indices) > 10 else "")
            count = len(event["shots"])
            self._line(
                f"Plan     keyframes: {event['keyframe_method']}: {shown}, in {count} shot{'s' if count != 1 else ''}"
            )
            self._line(f"         references: {event['references']}")
        elif name == "reference":
            self._bar("making references", event["done"], event["total"], "")
        elif name == "keyframes_done":
            self._stop()
            self._line(f"Wrote    {len(event['keyframes'])} references into {event['folder']}")
            self._line(f"Look at  {event['contact_sheet']}")
        else:
            super().__call__(event)
