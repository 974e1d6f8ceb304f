"""Frames in memory to frames in memory: for programs that hold a clip as a tensor (ComfyUI, notebooks, other tools).

What ``sparkvsr.upscale`` does to a file's frames, by the same rooms: cuts, keyframes, plan and sessions are the same.
A file is better for long clips: here everything stays in memory.

Shapes: F frames, K keyframes, h w LR pixels, H W output pixels; float in [0, 1].
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sparkvsr.errors import ConfigError, KeyframeError
from sparkvsr.inference.clip.analysis import ClipRecord, look_through
from sparkvsr.inference.clip.engine import KeyframeLoader, RestoreSettings, restore_shots
from sparkvsr.inference.clip.own_keyframes import (
    add_own_keyframes,
    completed_maker,
    resolve_references,
    wants_own_keyframes,
)
from sparkvsr.inference.clip.planning import plan_run
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.makers.interface import ReferenceMaker, fit_answer
from sparkvsr.keyframes.manifest import MAX_GUIDANCE
from sparkvsr.keyframes.references import make_reference_maker
from sparkvsr.keyframes.select import Selection
from sparkvsr.keyframes.shots import Shot
from sparkvsr.models.interface import RestorationModel
from sparkvsr.models.registry import load_model
from sparkvsr.shapes import output_size
from sparkvsr.video import Frame

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MadeKeyframes:
    """Keyframes and their images.

    Attributes:
        images: ``(K, 3, H, W)`` float32 in [0, 1].
        indices: K frame indices, 0-based, rising.
    """

    images: Tensor
    indices: tuple[int, ...]


class GivenImages(ReferenceMaker):
    """Keyframe images that the caller holds.

    Args:
        images: ``(K, 3, a, b)`` float in [0, 1], at least as large as the frames and of their aspect ratio.
        indices: K frame indices.
    """

    name = "given images"
    holds_images = True

    def __init__(self, images: Tensor, indices: Sequence[int]) -> None:
        self._images = dict(zip(indices, images, strict=True))

    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:
        """See ``ReferenceMaker.make``."""
        return fit_answer(self._images[index].float().clamp(0, 1), lr, size, f"the image of keyframe {index}")


def upscale_frames(
    frames: Tensor,
    keyframes: Tensor | None = None,
    keyframe_indices: Sequence[int] = (),
    *,
    choose: KeyframeChoice | str | Sequence[int] = "auto",
    references: str = "auto",
    model: str | Path | RestorationModel = "lite",
    device: str = "auto",
    look: str | None = None,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    guidance_scale: float = 1.0,
    find_cuts: bool = True,
    chunk_frames: int | None = None,
    tile: int | None = None,
    seed: int = 42,
    progress: Progress | None = None,
) -> Tensor:
    """Upscale a clip that is in memory.

        sr = sparkvsr.upscale_frames(lr)                                            # keyframes made by SparkVSR
        sr = sparkvsr.upscale_frames(lr, images, [0, 48], scale=2)                  # your own

    Args:
        frames: ``(F, 3, h, w)`` float in [0, 1], F >= 1, on any device.
        keyframes: ``(K, 3, a, b)`` float in [0, 1]: HR images of any size from that of the frames on, of their aspect
            ratio; None where ``references`` makes them.
        keyframe_indices: K frame indices in ``[0, F)``, rising.
        choose: which frames are keyframes where no images are given: ``auto``, ``scenes``, ``every:24``, ``random:5``,
            ``none`` or indices. I-frames are a file's; here there are none.
        references: what makes the images, see ``make_reference_maker``; ``auto`` is the model's own.
        model: name, folder, hub id, or a model that was loaded before.
        device, look: of a model that is named, see ``load_model``.
        scale: 1 to 4, default 4.
        size: ``(H, W)`` box instead; the result is the largest inside it with the clip's aspect ratio.
        guidance_scale: 0 ignores keyframes, 1 is plain, 2 stays closest to them.
        find_cuts: look for cuts, so that nothing is carried over one; False takes the frames as one shot.
        chunk_frames, tile: frames at once, side of a tile in LR pixels (0: whole frames); None leaves it to the model.
        seed: for random keyframes and models that sample.
        progress: gets frames done and frames in all; what it raises ends the work.

    Returns:
        ``(F, 3, H, W)`` float32 in [0, 1] on the CPU.

    Raises:
        ConfigError, KeyframeError: a shape, range or option is wrong.
        ResourceError: not even the smallest setting fits into the memory.
    """
    frames = _checked(frames)
    if not 0.0 <= guidance_scale <= MAX_GUIDANCE:
        msg = f"`guidance_scale` {guidance_scale:g} is out of range; use 0 (blind) to {MAX_GUIDANCE:g}, 1 is plain"
        raise ConfigError(msg)
    choice = _choice(choose, keyframes, keyframe_indices, len(frames))
    lr_size = (int(frames.shape[-2]), int(frames.shape[-1]))
    wanted = output_size(lr_size, scale=scale, size=size)
    loaded = model if isinstance(model, RestorationModel) else load_model(model, device=device, look=look)
    maker: ReferenceMaker = (
        GivenImages(keyframes, keyframe_indices)
        if keyframes is not None
        else make_reference_maker(resolve_references(references, loaded), loaded.device)
    )
    places_own = wants_own_keyframes(choice.kind, guidance_scale, loaded)
    shots, record = _look(frames, find_cuts=find_cuts, judge=choice.follows_shots, follow=places_own)
    selection, maker, own = _keyframes(choice, frames, shots, record, maker, loaded, seed, places_own=places_own)
    plan = plan_run(
        loaded,
        lr_size,
        (wanted.height, wanted.width),
        len(frames),
        num_keyframes=len(selection.indices),
        guidance_scale=guidance_scale,
        chunk_frames=chunk_frames,
        tile=tile,
        seed=seed,
    )
    is_grey = record.stays_grey(selection.indices, maker)
    settings = replace(plan.settings, is_grey=is_grey, own_keyframes=frozenset(own))
    return _restore(loaded, frames, shots, selection.indices, maker, settings, progress)


def make_keyframes(
    frames: Tensor,
    *,
    choose: KeyframeChoice | str | Sequence[int] = "scenes",
    references: str = "detail",
    scale: float | None = None,
    device: str = "auto",
    seed: int = 42,
    find_cuts: bool = True,
    progress: Progress | None = None,
) -> MadeKeyframes:
    """Choose keyframes of a clip in memory and make their HR images, to be edited and given to ``upscale_frames``.

    Args:
        frames: ``(F, 3, h, w)`` float in [0, 1], F >= 1.
        choose: ``scenes`` (the first frame of every shot), ``every:24``, ``random:5``, ``auto`` (by the motion) or
            indices.
        references: see ``make_reference_maker``.
        scale: size of the images over that of the frames, 1 to 4, default 4.
        device: where networks run.
        seed: for ``random``.
        find_cuts: as for ``upscale_frames``.
        progress: gets images made and images in all; what it raises ends the work.

    Raises:
        ConfigError, KeyframeError: a shape or option is wrong, or an image cannot be made.
    """
    from sparkvsr.models.device import resolve_device

    frames = _checked(frames)
    choice = _choice(choose, None, (), len(frames))
    if choice.kind == "none":
        msg = "`choose` is none: there is nothing to make; use scenes, auto, every:N, random:N or indices"
        raise ConfigError(msg)
    wanted = output_size((int(frames.shape[-2]), int(frames.shape[-1])), scale=scale)
    maker = make_reference_maker(references, resolve_device(device))
    shots, record = _look(frames, find_cuts=find_cuts, judge=choice.follows_shots, follow=choice.kind == "auto")
    selection = choice.select(shots, list, seed, bad=record.bad_frames)
    if choice.kind == "auto":
        from sparkvsr.keyframes.coverage import with_own_keyframes

        selection, _ = with_own_keyframes(selection, shots, record.wanted or (), record.bad_frames)
    images = []
    try:
        _check_images(maker, selection.indices, frames)
        for index in selection.indices:
            with torch.inference_mode():
                images.append(maker.make(frames[index], (wanted.height, wanted.width), index).cpu())
            if progress is not None:
                progress(len(images), len(selection.indices))
    finally:
        maker.close()
    return MadeKeyframes(torch.stack(images).clone(), selection.indices)


def _checked(frames: Tensor) -> Tensor:
    if frames.ndim != 4 or frames.shape[1] != 3 or not frames.is_floating_point() or min(frames.shape) < 1:
        msg = f"`frames` must be float (F, 3, h, w) with F >= 1, got {frames.dtype} {tuple(frames.shape)}"
        raise ConfigError(msg)
    frames = frames.detach().to("cpu", torch.float32)
    if not bool(torch.isfinite(frames).all()):
        msg = "`frames` hold values that are no numbers (NaN or infinite); pixels are in [0, 1]"
        raise ConfigError(msg)
    return frames.clamp(0, 1)


def _choice(
    choose: KeyframeChoice | str | Sequence[int], keyframes: Tensor | None, indices: Sequence[int], num_frames: int
) -> KeyframeChoice:
    if keyframes is None:
        if len(indices):
            msg = f"`keyframe_indices` {list(indices)} come without `keyframes`; give the images, or use `choose`"
            raise KeyframeError(msg)
        choice = KeyframeChoice.parse(choose)
        if choice.kind in ("iframes", "default"):
            msg = (
                f"`choose` {choice.kind!r} needs a file: frames in memory have no I-frames; use auto, scenes or every:N"
            )
            raise ConfigError(msg)
    else:
        if keyframes.ndim != 4 or keyframes.shape[1] != 3 or not keyframes.is_floating_point():
            msg = f"`keyframes` must be float (K, 3, H, W), got {keyframes.dtype} {tuple(keyframes.shape)}"
            raise KeyframeError(msg)
        if len(keyframes) != len(indices):
            msg = f"`keyframes` has {len(keyframes)} images but `keyframe_indices` has {len(indices)}; give one each"
            raise KeyframeError(msg)
        choice = KeyframeChoice("manual", indices=tuple(int(index) for index in indices))
        if not indices:
            choice = KeyframeChoice("none")
    choice.check_early(0, num_frames)
    return choice


def _iterate(frames: Tensor, start: int = 0) -> Iterator[Frame]:
    return (Frame(index, None, None, frames[index]) for index in range(start, len(frames)))


def _look(frames: Tensor, *, find_cuts: bool, judge: bool, follow: bool) -> tuple[list[Shot], ClipRecord]:
    shots, record = look_through(_iterate(frames), judge=judge, follow=follow)
    return shots if find_cuts else [Shot(0, len(frames))], record


def _keyframes(
    choice: KeyframeChoice,
    frames: Tensor,
    shots: Sequence[Shot],
    record: ClipRecord,
    maker: ReferenceMaker,
    model: RestorationModel,
    seed: int,
    *,
    places_own: bool,
) -> tuple[Selection, ReferenceMaker, tuple[int, ...]]:
    """The keyframes, who makes their images, and which are of the model's own kind; as for a file.

    Raises:
        KeyframeError: an image is missing, unreadable or of another aspect ratio.
    """
    selection = choice.select(shots, list, seed, multiple=model.keyframe_multiple, bad=record.bad_frames)
    _check_images(maker, selection.indices, frames)
    if not places_own:
        return selection, maker, ()
    selection, own = add_own_keyframes(selection, shots, record.wanted or (), maker, model, record.bad_frames)
    return selection, completed_maker(maker, own, model), own


def _check_images(maker: ReferenceMaker, indices: Sequence[int], frames: Tensor) -> None:
    maker.check(indices, (int(frames.shape[-2]), int(frames.shape[-1])))
    for note in maker.settle(lambda wanted: {index: frames[index] for index in wanted}, indices):
        _log.warning(note)


def _restore(
    model: RestorationModel,
    frames: Tensor,
    shots: Sequence[Shot],
    keyframes: Sequence[int],
    maker: ReferenceMaker,
    settings: RestoreSettings,
    progress: Progress | None,
) -> Tensor:
    loader = KeyframeLoader(lambda start: _iterate(frames, start), maker, settings.working_size)
    result = torch.empty(len(frames), 3, *settings.size)
    try:
        with closing(restore_shots(model, _iterate(frames), shots, keyframes, loader, settings)) as restoring:
            for frame, pixels in restoring:
                result[frame.index] = pixels
                if progress is not None:
                    progress(frame.index + 1, len(frames))
        return result
    finally:
        loader.close()
        maker.close()
