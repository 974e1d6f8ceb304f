"""Three nodes in ComfyUI's V3 schema over SparkVSR's public Python API.

ComfyUI's IMAGE is ``(B, H, W, C)`` float in [0, 1], B frames of one clip; SparkVSR's is ``(F, 3, h, w)``.
Written for ``comfy_api`` v0_0_2 (``comfy_api.latest`` of ComfyUI 0.8).
"""

from __future__ import annotations

import logging

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import ComfyExtension, io

import sparkvsr

_log = logging.getLogger("sparkvsr.comfyui")

CATEGORY = "video/SparkVSR"
DEVICES = ["auto", "cpu"]
MAKERS = ("detail", "lite", "bicubic", "realesrgan")


class KeyframeVSR(io.ComfyNode):
    """Frames, and keyframe images if there are any, to upscaled frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the node looks like."""
        return io.Schema(
            node_id="SparkVSR_KeyframeVSR",
            display_name="Keyframe VSR (SparkVSR)",
            category=CATEGORY,
            description="Upscales the frames of a clip. Give HR images of a few frames, and they are carried through "
            "the clip; without any, SparkVSR makes its own.",
            inputs=[
                _frames_input(),
                io.Image.Input(
                    "keyframe_images", optional=True, tooltip="HR images of some frames, any size above the frames'."
                ),
                io.String.Input(
                    "keyframe_indices",
                    default="",
                    tooltip="Which frames the images belong to, counted from 0: 0,48,96. One number for each image.",
                ),
                io.Combo.Input(
                    "choose",
                    options=["auto", "scenes", "none"],
                    default="auto",
                    tooltip="Without images: which frames get one made. none upscales blindly.",
                ),
                io.Combo.Input(
                    "look",
                    options=["vivid", "faithful"],
                    default="vivid",
                    tooltip="Of the embedded model: vivid is sharp, invents detail; faithful is closest to the clip.",
                ),
                _scale_input(),
                io.Float.Input(
                    "guidance",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="0 ignores keyframes, 1 is plain, 2 stays closest to them.",
                ),
                io.Boolean.Input(
                    "find_cuts", default=True, tooltip="Nothing is carried over a cut. Off: all frames are one shot."
                ),
                io.String.Input("model", default="lite", tooltip="lite, or a model folder or hub id."),
                _device_input(),
            ],
            outputs=[io.Image.Output("upscaled", display_name="frames")],
        )

    @classmethod
    def validate_inputs(cls, keyframe_indices: str | None = None) -> bool | str:
        """Refuse a list of numbers that is none, before anything runs."""
        return _list_or_fault(keyframe_indices)

    @classmethod
    def execute(
        cls,
        frames: torch.Tensor,
        keyframe_indices: str,
        choose: str,
        look: str,
        scale: float,
        guidance: float,
        find_cuts: bool,
        model: str,
        device: str,
        keyframe_images: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        """Upscale."""
        result = sparkvsr.upscale_frames(
            _to_frames(frames),
            None if keyframe_images is None else _to_frames(keyframe_images),
            _indices(keyframe_indices),
            choose=choose,
            model=model,
            device=_device(device),
            look=look if model == "lite" else None,
            scale=scale,
            guidance_scale=guidance,
            find_cuts=find_cuts,
            progress=_Progress(),
        )
        return io.NodeOutput(_to_image(result))


class MakeKeyframes(io.ComfyNode):
    """Chooses keyframes of a clip and makes their HR images, for other nodes to improve."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the node looks like."""
        return io.Schema(
            node_id="SparkVSR_MakeKeyframes",
            display_name="Make Keyframes (SparkVSR)",
            category=CATEGORY,
            description="Chooses frames of a clip and upscales them one by one. Improve the images with any node you "
            "like, then give them to Keyframe VSR together with the indices.",
            inputs=[
                _frames_input(),
                io.Combo.Input(
                    "choose",
                    options=["scenes", "auto", "every", "random", "indices"],
                    default="scenes",
                    tooltip="scenes: the first frame of every shot; auto: by the motion; every: each number-th frame; "
                    "random: number of them; indices: those written below.",
                ),
                io.Int.Input("number", default=24, min=4, max=10000, tooltip="For every and random."),
                io.String.Input("indices_wanted", default="0", tooltip="For indices: 0,48,96."),
                io.String.Input(
                    "references",
                    default="detail",
                    tooltip="What makes the images: detail, lite, bicubic, or the path of an upscaler's weight file.",
                ),
                _scale_input(),
                _device_input(),
            ],
            outputs=[
                io.Image.Output("images", display_name="keyframe_images"),
                io.String.Output("indices", display_name="keyframe_indices"),
            ],
        )

    @classmethod
    def validate_inputs(cls, choose: str | None = None, indices_wanted: str | None = None) -> bool | str:
        """Refuse a list of numbers that is none, before anything runs."""
        return choose != "indices" or _list_or_fault(indices_wanted)

    @classmethod
    def execute(
        cls,
        frames: torch.Tensor,
        choose: str,
        number: int,
        indices_wanted: str,
        references: str,
        scale: float,
        device: str,
    ) -> io.NodeOutput:
        """Choose and make."""
        choice = {"every": f"every:{number}", "random": f"random:{number}", "indices": _indices(indices_wanted)}
        made = sparkvsr.make_keyframes(
            _to_frames(frames),
            choose=choice.get(choose, choose),
            references=_maker(references),
            scale=scale,
            device=_device(device),
            progress=_Progress(),
        )
        return io.NodeOutput(_to_image(made.images), ",".join(map(str, made.indices)))


class Compare(io.ComfyNode):
    """Two versions of a clip in one picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the node looks like."""
        return io.Schema(
            node_id="SparkVSR_Compare",
            display_name="Compare (SparkVSR)",
            category=CATEGORY,
            description="Two versions of a clip beside each other, split at a line, or their difference. The smaller "
            "one is enlarged.",
            inputs=[
                io.Image.Input("before"),
                io.Image.Input("after"),
                io.Combo.Input("mode", options=["split", "side by side", "difference"], default="split"),
                io.Float.Input("position", default=0.5, min=0.0, max=1.0, step=0.01, tooltip="Of the line in split."),
                io.Float.Input("gain", default=4.0, min=1.0, max=50.0, step=0.5, tooltip="Of the difference."),
            ],
            outputs=[io.Image.Output("compared", display_name="frames")],
        )

    @classmethod
    def execute(
        cls, before: torch.Tensor, after: torch.Tensor, mode: str, position: float, gain: float
    ) -> io.NodeOutput:
        """Compare."""
        left, right = _to_frames(before), _to_frames(after)
        if len(left) != len(right):
            msg = f"before has {len(left)} frames, after has {len(right)}; compare the same frames"
            raise ValueError(msg)
        size = (max(left.shape[-2], right.shape[-2]), max(left.shape[-1], right.shape[-1]))
        left, right = _enlarged(left, size), _enlarged(right, size)
        if mode == "side by side":
            return io.NodeOutput(_to_image(torch.cat([left, right], dim=-1)))
        if mode == "difference":
            return io.NodeOutput(_to_image((0.5 + (right - left) * gain / 2).clamp(0, 1)))
        column = round(position * size[1])
        split = torch.cat([left[..., :column], right[..., column:]], dim=-1)
        if 0 < column < size[1]:
            split[..., column - 1 : column + 1] = 1.0
        return io.NodeOutput(_to_image(split))


class _Progress:
    """ComfyUI's bar, and its way to stop: both are asked after every frame."""

    def __init__(self) -> None:
        self._bar: comfy.utils.ProgressBar | None = None

    def __call__(self, done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if self._bar is None:
            self._bar = comfy.utils.ProgressBar(total)
        self._bar.update_absolute(done, total)


def _frames_input() -> io.Input:
    return io.Image.Input("frames", tooltip="The clip's frames, in order.")


def _scale_input() -> io.Input:
    return io.Float.Input("scale", default=4.0, min=1.0, max=4.0, step=0.25)


def _device_input() -> io.Input:
    return io.Combo.Input("device", options=DEVICES, default="auto")


def _device(name: str) -> str:
    return str(comfy.model_management.get_torch_device()) if name == "auto" else name


def _maker(name: str) -> str:
    """A workflow may come from somebody else: it names no program that would run and no address that frames go to."""
    is_file = name.endswith((".safetensors", ".pth", ".pt")) and ":" not in name.removeprefix(name[:2])
    if name in MAKERS or name.startswith("realesrgan:") or is_file:
        return name
    msg = f"references {name!r} cannot be used here; use {', '.join(MAKERS)} or the path of a weight file"
    raise ValueError(msg)


def _indices(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isdigit() for word in words):
        msg = f"{text!r} is no list of frame numbers; write them like 0,48,96"
        raise ValueError(msg)
    return [int(word) for word in words]


def _list_or_fault(text: str | None) -> bool | str:
    """What ``validate_inputs`` gives back for a list of frame numbers; None comes from another node."""
    try:
        _indices(text or "")
    except ValueError as exc:
        return str(exc)
    return True


def _to_frames(image: torch.Tensor) -> torch.Tensor:
    """IMAGE ``(B, H, W, C)`` to ``(B, 3, H, W)``; grey gets three channels, alpha is left out."""
    if image.shape[-1] == 1:
        image = image.expand(-1, -1, -1, 3)
    if image.shape[-1] == 4:
        _log.warning("SparkVSR works on RGB: the alpha channel is left out")
    return image[..., :3].movedim(-1, 1).float()


def _to_image(frames: torch.Tensor) -> torch.Tensor:
    """``(B, 3, H, W)`` to IMAGE ``(B, H, W, 3)`` on ComfyUI's own device for images, the CPU."""
    return frames.movedim(1, -1).contiguous().cpu()


def _enlarged(frames: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if tuple(frames.shape[-2:]) == size:
        return frames.cpu()
    bigger = torch.nn.functional.interpolate(frames.cpu(), size=size, mode="bicubic", antialias=True)
    return bigger.clamp(0, 1)


class SparkVSRExtension(ComfyExtension):
    """What ComfyUI loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes of this pack."""
        return [KeyframeVSR, MakeKeyframes, Compare]


async def comfy_entrypoint() -> SparkVSRExtension:
    """Called by ComfyUI once, when it loads the pack."""
    return SparkVSRExtension()
