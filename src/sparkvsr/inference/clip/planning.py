"""How a model will run a clip: working size, passes, chunk and tile for the memory that is free.

``sparkvsr upscale``, ``eval`` and ``profile`` all decide it here, so that what is measured is what runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sparkvsr.inference.clip.engine import RestoreSettings
from sparkvsr.models.device import working_memory
from sparkvsr.models.interface import ModelPlan, RestorationModel, needs_blind_pass


@dataclass(frozen=True)
class RunPlan:
    """What was decided for one clip.

    Attributes:
        settings: what decides the pixels, besides model and keyframes.
        model: chunk, tile, estimated memory and remarks for the user.
        state_bytes: size of the model's state between two segments of a shot.
    """

    settings: RestoreSettings
    model: ModelPlan
    state_bytes: int


def plan_run(
    model: RestorationModel,
    lr_size: tuple[int, int],
    size: tuple[int, int],
    num_frames: int,
    *,
    num_keyframes: int,
    guidance_scale: float = 1.0,
    chunk_frames: int | None = None,
    tile: int | None = None,
    seed: int = 42,
    memory_share: float = 1.0,
) -> RunPlan:
    """Decide how a model runs a clip.

    Args:
        model: loaded.
        lr_size: ``(h, w)`` of the clip.
        size: ``(H, W)`` asked for.
        num_frames: that will be restored.
        num_keyframes: of them.
        guidance_scale, seed: see ``ShotRequest``.
        chunk_frames: None leaves it to the model.
        tile: side in LR pixels, 0 for whole frames; None leaves it to the model.
        memory_share: of the free memory that this process may take.

    Raises:
        ResourceError: not even the smallest setting fits.
    """
    working = model.working_size(lr_size, size)
    passes = 2 if needs_blind_pass(guidance_scale, num_keyframes) else 1
    memory = int(working_memory(model.device) * memory_share)
    plan = model.plan(lr_size, working, num_frames, guided_passes=passes, memory_bytes=memory)
    if chunk_frames is not None:
        plan = replace(plan, chunk_frames=chunk_frames)
    if tile is not None:
        plan = replace(plan, tile=tile or None)
    settings = RestoreSettings(
        size=size,
        working_size=working,
        guidance_scale=guidance_scale,
        chunk_frames=plan.chunk_frames,
        tile=plan.tile,
        seed=seed,
    )
    return RunPlan(settings, plan, passes * model.state_bytes(lr_size, working))
