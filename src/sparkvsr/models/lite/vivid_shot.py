"""Restores one shot in the vivid look: pictures of keyframes on both sides, and of the frame itself where none fits.

Keyframes that somebody gave and keyframes of the model's own kind are used side by side: of each kind the last one and
the next one within reach, so that no frame is far from one. Where a picture that somebody gave is trusted it wins.
Where no keyframe is trusted the previous output may be, and where that is not either, that part of the frame is made
anew. Where there are no keyframes at all the session makes its own as it goes, which then lie only behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import compress

import torch
from torch import Tensor

from sparkvsr.models.interface import Keyframe
from sparkvsr.models.lite.cpu_kernels import CPU_KERNELS, to_tensor
from sparkvsr.models.lite.execution import NetworkRunner
from sparkvsr.models.lite.lr_frame import LrFrame
from sparkvsr.models.lite.motion import Flow
from sparkvsr.models.lite.network import SCALE, Reference
from sparkvsr.models.lite.propagate import (
    ActiveKeyframe,
    Observation,
    PassState,
    ShotPropagator,
    Sight,
    ready,
    tracked,
)
from sparkvsr.models.lite.refresh import Patch, refreshed
from sparkvsr.models.lite.vivid import (
    LIGHT_SIGMA,
    Layer,
    Mixture,
    agreement,
    blend,
    compose,
    judge,
    judge_previous,
    mix,
    needed_layers,
)

OWN_EVERY = 12
"""Frames between two keyframes that a session makes by itself."""

_OWN_PREFERENCE = 0.08
_POOR_TRUST = 0.05
_MUCH_FURTHER = 1.5
# The previous output is used below the first of these shares of the keyframes, not above the second: each time it is
# carried on it gets a little softer. It counts less than an own keyframe that is trusted half as much 12 frames away.
_KEYFRAMES_DO = (0.45, 0.7)
_PREVIOUS_IMPORTANCE = 0.003
# Below this share a picture is more likely wrong than right; what is not worth a patch there is upscaled plainly.
_SOME_TRUST = 0.3


@dataclass
class View:
    """How one pass shows a frame.

    Attributes:
        pictures: HR images and the LR flows that bring them to the frame; None stands for the previous output.
        mixture: of these, None if there are none.
        patches: parts made anew.
        covered: how far all of it is trusted, ``(1, 1, h, w)``.
    """

    pictures: list[tuple[Tensor | None, Tensor]]
    mixture: Mixture | None
    patches: list[Patch]
    covered: Tensor


@dataclass
class VividObservation(Observation):
    """With what each pass makes of it."""

    views: dict[str, View]


class VividPropagator(ShotPropagator):
    """Restores one shot, frame by frame.

    Args:
        runner, upscale, keyframes, guidance_scale: see ``ShotPropagator``.
        own: indices of ``keyframes`` that are of the model's own kind.
        unshuffle: true LR pixels a side in one pixel of the grid: 1 for x4, 2 for x2.
    """

    own_every = OWN_EVERY
    renew_after = OWN_EVERY
    forgets_lost = False
    follows_own_doubled = False

    def __init__(
        self,
        runner: NetworkRunner,
        upscale: Callable[[Tensor], Tensor] | None,
        keyframes: Mapping[int, Keyframe],
        guidance_scale: float = 1.0,
        own: frozenset[int] = frozenset(),
        unshuffle: int = 1,
    ) -> None:
        super().__init__(runner, upscale, keyframes, guidance_scale)
        self._unshuffle = unshuffle
        self._kinds = [
            [index for index in self._indices if index not in own],
            [index for index in self._indices if index in own],
        ]
        self._made_here = own
        self._covered: dict[str, Tensor] = {}

    def _references(self, frame: LrFrame, step_flow: Flow | None) -> tuple[list[Reference], float, bool]:
        sides = [self._neighbours(kind) for kind in self._kinds]
        wanted = [index for side in sides for index in side]
        for index in [index for index in self._active if index not in wanted]:
            del self._active[index]
        nearest = {index: min(abs(other - self.next_index) for other in side) for side in sides for index in side}
        references, best = [], 0.0
        for index in wanted:
            if index not in self._active:
                self._active[index] = self._load(index)
            key = self._active[index]
            if key.weight * key.influence <= 0:
                continue
            distance = abs(index - self.next_index)
            # What somebody drew is worth matching doubled frames, unless it lies clearly further. With pictures of our
            # own that gives neither a better nor a steadier picture (LPIPS, tOF).
            doubled = index not in self._made_here and distance <= _MUCH_FURTHER * nearest[index]
            reference = tracked(key, frame, step_flow, distance, doubled=doubled, flows=self._flows)
            if reference is not None:
                if index in self._made_here:
                    reference.preference = _OWN_PREFERENCE
                self._keyframe_fits(index)
                reference.closeness = self._closeness(key.guidance)
                reference.influence = key.influence
                reference.share = judge(frame.lr, reference)
                references.append(reference)
                best = max(best, float(reference.share.mean()))
        is_poor = best < _POOR_TRUST or any(one.influence < 1 for one in references)
        return references, best, is_poor and not self._made_here

    def _load(self, index: int) -> ActiveKeyframe:
        if index not in self._made_here:
            key = super()._load(index)
            key.agreement = agreement(key.hr, key.frame.lr)
            return key
        # Made from this very frame: it need not prove that it shows it.
        keyframe = self._keyframes[index]
        return ready(LrFrame.of(keyframe.lr.float()[None], self._unshuffle), keyframe.hr.float()[None], 1.0)

    def import_state(self, state: Mapping[str, Tensor], next_index: int) -> None:
        """See ``ShotPropagator.import_state``."""
        super().import_state(state, next_index)
        self._covered = {name: one.hidden for name, one in self._states.items()}

    def _start_anew(self) -> None:
        super()._start_anew()
        self._covered = {}

    @torch.inference_mode()
    def _observe(self, sight: Future[Sight]) -> VividObservation:
        seen = super()._observe(sight)
        views = {name: self._view(name, seen) for name in seen.references}
        return VividObservation(seen.frame, seen.before, seen.step_flow, seen.references, None, views)

    def _view(self, name: str, seen: Observation) -> View:
        layers: list[Layer] = []
        pictures: list[tuple[Tensor | None, Tensor]] = []
        # What counts less than fully lies over what it leaves the rest to.
        for one in sorted(seen.references[name], key=lambda one: one.influence < 1):
            share = judge(seen.frame.lr, one) if one.share is None else one.share
            near = 1 / (1 + float(one.distance))
            unsure = None if one.preference == _OWN_PREFERENCE else near * _OWN_PREFERENCE
            layers.append(Layer(share, near * one.preference, one.closeness, one.influence, unsure))
            pictures.append((one.hr, one.flow))
        mixture = mix(layers)
        before = self._before(name, seen, mixture)
        if before is not None and seen.step_flow is not None:
            layers.append(before)
            pictures.append((None, to_tensor(seen.step_flow)))
            mixture = mix(layers)
        if mixture is not None:
            shown = needed_layers(mixture)
            if not all(shown):
                pictures, mixture = list(compress(pictures, shown)), mix(list(compress(layers, shown)))
        covered = torch.zeros_like(seen.frame.lr[:, :1]) if mixture is None else mixture.covered
        patches: list[Patch] = []
        if self._upscale is not None:
            patches, covered = refreshed(seen.frame.fine, covered, self._upscale)
        self._covered[name] = covered
        return View(pictures, mixture, patches, covered)

    def _before(self, name: str, seen: Observation, keyframes: Mixture | None) -> Layer | None:
        """The previous output, as far as it shows what the keyframes do not."""
        if seen.before is None or seen.step_flow is None or name not in self._covered:
            return None
        share = judge_previous(seen.frame.lr, seen.before, to_tensor(seen.step_flow), self._covered[name])
        low, high = _KEYFRAMES_DO
        if keyframes is not None:
            share = share * ((high - keyframes.covered) / (high - low)).clamp(0, 1)
        closeness = self._closeness(None) if keyframes is None else keyframes.closeness
        return Layer(share, _PREVIOUS_IMPORTANCE, closeness) if float(share.max()) > low else None

    def _render(self, seen: Observation) -> Tensor:
        assert isinstance(seen, VividObservation)
        outputs = {}
        for name, view in seen.views.items():
            outputs[name] = self._shown(name, view, seen.frame)
            self._states[name] = PassState(outputs[name], view.covered)
        if len(outputs) == 2:
            return torch.lerp(outputs["blind"], outputs["keyed"], self._guidance)[0].contiguous()
        (output,) = outputs.values()
        return output[0].contiguous()

    def _shown(self, name: str, view: View, frame: LrFrame) -> Tensor:
        scale = SCALE // self._unshuffle
        if view.mixture is None:
            whole = CPU_KERNELS.upscale(frame.fine, scale)
        else:
            pictures = [
                CPU_KERNELS.warp_by_lr_flow(self._states[name].output if image is None else image, flow)
                for image, flow in view.pictures
            ]
            # Light is what is smoother than so many pixels of the true LR frame, whatever the grid.
            whole = compose(frame.lr, pictures, view.mixture, LIGHT_SIGMA / self._unshuffle)
            share = (view.mixture.covered / _SOME_TRUST).clamp(max=1)
            if float(share.min()) < 1:
                whole = blend(CPU_KERNELS.upscale(frame.fine, scale), whole, share)
        for patch in view.patches:
            patch.put_on(whole)
        return whole.clamp_(0, 1)
