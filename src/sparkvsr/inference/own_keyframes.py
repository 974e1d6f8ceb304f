"""Keyframes of the model's own kind: where they lie, and who makes their images.

With a model that gains from them (lite in the vivid look) no frame stays far from a keyframe. An upscaler that runs
here makes all of them; where images come from somebody (a folder, a program, an endpoint), the model's own network
fills in.
"""

from __future__ import annotations

from collections.abc import Sequence

from sparkvsr.inference.options import UpscaleOptions
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.coverage import with_own_keyframes
from sparkvsr.keyframes.makers.mixed import MixedMaker
from sparkvsr.keyframes.references import ReferenceMaker, make_reference_maker
from sparkvsr.keyframes.select import Selection, Shot
from sparkvsr.models.interface import RestorationModel

AUTO = "auto"


def wants_own_keyframes(options: UpscaleOptions, choice: KeyframeChoice, model: RestorationModel) -> bool:
    """Whether keyframes are placed by the look of the motion: where asked for, or where the model gains from them."""
    if choice.kind == "none" or options.guidance_scale == 0:
        return False
    return choice.kind == "auto" or model.wants_own_keyframes


def chosen_maker(options: UpscaleOptions, model: RestorationModel) -> ReferenceMaker:
    """What ``options.references`` stands for with this model.

    Raises:
        ConfigError, KeyframeError, WeightsError: see ``make_reference_maker``.
    """
    name = model.own_references if options.references == AUTO else options.references
    return make_reference_maker(name, model.device)


def add_own_keyframes(
    selection: Selection,
    shots: Sequence[Shot],
    wanted: Sequence[int],
    maker: ReferenceMaker,
    model: RestorationModel,
) -> tuple[Selection, tuple[int, ...]]:
    """The selection with keyframes of the model's own kind, and which of all keyframes are of that kind.

    Args:
        selection, shots, wanted: see ``with_own_keyframes``.
        maker: of the chosen keyframes.
        model: that will use them.
    """
    full, _ = with_own_keyframes(selection, shots, wanted)
    if not model.wants_own_keyframes:
        return full, ()
    if is_own_kind(maker):
        return full, full.indices
    return full, tuple(index for index in full.indices if index not in set(selection.indices))


def is_own_kind(maker: ReferenceMaker) -> bool:
    """Whether a maker is an upscaler that runs here and shows nothing but what its frame shows."""
    return not maker.may_colour


def completed_maker(maker: ReferenceMaker, own: Sequence[int], model: RestorationModel) -> ReferenceMaker:
    """A maker that also makes the keyframes of the model's own kind."""
    if not own or is_own_kind(maker):
        return maker
    return MixedMaker(maker, make_reference_maker(model.own_references, model.device), own)


def maker_of_job(
    options: UpscaleOptions, indices: Sequence[int], own: Sequence[int], model: RestorationModel
) -> ReferenceMaker:
    """The maker of a decided job, built again in another process."""
    if not indices:
        return make_reference_maker("bicubic")
    return completed_maker(chosen_maker(options, model), own, model)
