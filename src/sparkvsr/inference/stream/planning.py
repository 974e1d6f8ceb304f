"""What is decided before the first frame of a clip that passes once: for pipes, and for VapourSynth."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

from sparkvsr.inference.clip.own_keyframes import resolve_references, wants_own_keyframes, weak_keyframes
from sparkvsr.inference.clip.planning import RunPlan, plan_run
from sparkvsr.inference.options import UpscaleOptions
from sparkvsr.inference.stream.restorer import PassingRestorer, check_model
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.look_ahead import LookAhead, check_passing
from sparkvsr.keyframes.references import ReferenceMaker, make_reference_maker
from sparkvsr.models.interface import RestorationModel
from sparkvsr.shapes import OutputSize, output_size

MANY_FRAMES = 10**6
"""Stands for the length of a clip that is not known."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PassingPlan:
    """What was decided.

    Attributes:
        choice: of keyframes, as ``check_passing`` gave it.
        maker: of their images; None without keyframes.
        fills: whether keyframes are added by the motion.
        size: of the result.
        run: how the model runs.
    """

    choice: KeyframeChoice
    maker: ReferenceMaker | None
    fills: bool
    size: OutputSize
    run: RunPlan

    def begin(
        self,
        model: RestorationModel,
        pixels_of: Callable[[int], Tensor],
        on_note: Callable[[str], None],
        first: int = 0,
    ) -> tuple[LookAhead, PassingRestorer]:
        """What looks ahead, and what restores.

        Args:
            model: restores.
            pixels_of: LR pixels ``(3, h, w)`` float32 in [0, 1] of a frame that is held.
            on_note: told what is worth a line, once each.
            first: index of the first frame.
        """
        weak = weak_keyframes(self.maker, model)
        look = LookAhead(self.choice, fills=self.fills, reach=model.keyframe_lookahead or 0, first=first, weak=weak)
        return look, PassingRestorer(model, look, self.run.settings, pixels_of, self.maker, on_note)


def plan_passing(
    options: UpscaleOptions,
    model: RestorationModel,
    lr_size: tuple[int, int],
    fps: Fraction,
    *,
    start: int = 0,
    stop: int | None = None,
    num_frames: int | None = None,
) -> PassingPlan:
    """Decide size, keyframes and how the model runs.

    Args:
        options, model: as for ``sparkvsr.upscale``; the options were checked.
        lr_size: ``(h, w)``.
        fps: of the clip; only for references from another video.
        start: index of the first frame.
        stop: behind the last frame, where that is certain.
        num_frames: that will come, as far as is known.

    Raises:
        SparkVSRError: the model or the references cannot be used, or keyframes need the whole clip.
    """
    check_model(model)
    size = output_size(lr_size, scale=options.scale, height=options.height, size=options.size)
    choice, maker = options.keyframes, None
    if choice.kind != "none":
        maker = make_reference_maker(resolve_references(options.references, model), model.device)
        last = MANY_FRAMES if stop is None else stop
        given = maker.given(start, last, is_part=stop is None) if choice.kind == "default" else None
        choice = choice if given is None else KeyframeChoice("manual", indices=given)
    if stop is not None:
        choice.check_early(start, stop)
    choice = check_passing(choice)
    if maker is not None:
        maker.set_times(lambda index: index / fps)
        maker.check(choice.indices, lr_size)
    run = plan_run(
        model,
        lr_size,
        (size.height, size.width),
        num_frames or MANY_FRAMES,
        num_keyframes=0 if choice.kind == "none" else 1,
        guidance_scale=options.guidance_scale,
        chunk_frames=options.chunk_frames,
        tile=options.tile,
        seed=options.seed,
    )
    _log.info("frames that pass: %s, chunks of %d, tile %s", choice, run.model.chunk_frames, run.model.tile)
    return PassingPlan(choice, maker, wants_own_keyframes(choice.kind, options.guidance_scale, model), size, run)
