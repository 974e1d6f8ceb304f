"""Keyframes of the model's own kind: where they lie, and who makes their images.

With a model that gains from them (lite in the vivid look) no frame stays far from a keyframe. An upscaler that runs
here makes all of them; where images come from somebody (a folder, a program, an endpoint), the model's own network
fills in. ``sparkvsr upscale`` and ``eval`` both decide it here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sparkvsr.keyframes.coverage import with_own_keyframes
from sparkvsr.keyframes.makers.mixed import MixedMaker
from sparkvsr.keyframes.references import ReferenceMaker, make_reference_maker
from sparkvsr.keyframes.select import Selection, snapped
from sparkvsr.keyframes.shots import Shot
from sparkvsr.models.interface import RestorationModel

AUTO = "auto"


def wants_own_keyframes(kind: str, guidance_scale: float, model: RestorationModel) -> bool:
    """Whether keyframes are placed by the motion: where that was asked for, or where the model gains from them.

    Args:
        kind: of the ``KeyframeChoice``.
        guidance_scale: 0 uses no keyframes.
        model: that will use them.
    """
    if kind == "none" or guidance_scale == 0:
        return False
    return kind == "auto" or model.wants_own_keyframes


def resolve_references(name: str, model: RestorationModel) -> str:
    """What ``--references`` stands for with a model: ``auto`` is the maker of the model's own kind."""
    return model.own_references if name == AUTO else name


def add_own_keyframes(
    selection: Selection,
    shots: Sequence[Shot],
    wanted: Sequence[int],
    maker: ReferenceMaker,
    model: RestorationModel,
    bad: Collection[int] = (),
) -> tuple[Selection, tuple[int, ...]]:
    """The selection with keyframes of the model's own kind, and which of all keyframes are of that kind.

    Args:
        selection, shots, wanted: see ``with_own_keyframes``.
        maker: of the chosen keyframes.
        model: that will use them.
        bad: empty, blurred and damaged frames, which are avoided.
    """
    full, _ = with_own_keyframes(selection, shots, wanted, bad, weak_keyframes(maker, model))
    full = snapped(full, shots, model.keyframe_multiple)
    if not model.wants_own_keyframes or maker.covers_clip:
        return full, ()
    if is_own_kind(maker):
        return full, full.indices
    return full, tuple(index for index in full.indices if index not in set(selection.indices))


def weak_keyframes(maker: ReferenceMaker | None, model: RestorationModel) -> frozenset[int]:
    """Frame indices of the images that count less than fully: what they leave comes from keyframes beside them."""
    if maker is None or not model.wants_own_keyframes:
        return frozenset()
    return frozenset(index for index, weight in maker.weights.items() if weight < 1)


def is_own_kind(maker: ReferenceMaker) -> bool:
    """Whether a maker is an upscaler that runs here and shows nothing but what its frame shows."""
    return not maker.may_colour


def completed_maker(maker: ReferenceMaker, own: Collection[int], model: RestorationModel) -> ReferenceMaker:
    """A maker that also makes the keyframes of the model's own kind.

    Raises:
        WeightsError: the model's own network cannot be read.
    """
    if not own or is_own_kind(maker):
        return maker
    return MixedMaker(maker, make_reference_maker(model.own_references, model.device), own)
