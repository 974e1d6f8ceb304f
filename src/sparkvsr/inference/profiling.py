"""`sparkvsr profile`: what each stage of a run costs, through the real reader and encoder."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from sparkvsr.inference.clip.planning import plan_run
from sparkvsr.models.interface import RestorationModel
from sparkvsr.models.stage_cost import Profile, profile_model
from sparkvsr.shapes import output_size
from sparkvsr.video import EncodeOptions, VideoReader, VideoWriter


def profile(
    model: RestorationModel,
    *,
    clip: Path | None,
    lr_size: tuple[int, int],
    frames: int,
    scale: float,
    keyframe: bool,
    guidance_scale: float = 1.0,
) -> Profile:
    """Measure read, restore (and encode, decode where the model has them) and write.

    Args:
        clip: read from here; None makes noise of ``lr_size`` and measures no reading.
        lr_size: ``(h, w)``, ignored with a clip.
        frames: length of the shot; at most the clip's.
        scale: output size over input size.
        keyframe: one keyframe at frame 0, else blind.

    Raises:
        SparkVSRError: the clip cannot be read, or the model does not fit into memory.
    """
    if clip is not None:
        with VideoReader(clip, frames=frames) as reader:
            lr_size, frames = (reader.info.height, reader.info.width), len(reader)
    size = output_size(lr_size, scale=scale)
    shape = (size.height, size.width)
    plan = plan_run(model, lr_size, shape, frames, num_keyframes=int(keyframe), guidance_scale=guidance_scale).model

    def read() -> Tensor:
        assert clip is not None
        with VideoReader(clip, frames=frames) as reader:
            return torch.stack([frame.pixels for frame in reader])

    def write(sr: Tensor) -> None:
        with tempfile.TemporaryDirectory() as folder:
            out = (sr.shape[-2], sr.shape[-1])
            with VideoWriter(Path(folder) / "out.mp4", source=None, size=out, options=EncodeOptions()) as writer:
                for pixels in sr:
                    writer.write(pixels)

    return profile_model(
        model,
        lr_size=lr_size,
        size=shape,
        num_frames=frames,
        chunk_frames=plan.chunk_frames,
        tile=plan.tile,
        keyframe_index=0 if keyframe else None,
        guidance_scale=guidance_scale,
        read=read if clip is not None else None,
        write=write,
    )
