"""Restores one shot in the vivid look: like ``ShotPropagator``, but with the pictures of keyframes on both sides.

Keyframes that somebody gave and keyframes of the model's own kind are used side by side: of each kind the last one and
the next one within reach, so that no frame is far from one. Where a picture that somebody gave is trusted it wins.
Where there are no keyframes at all the session makes its own as it goes, which then lie only behind.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from sparkvsr.models.interface import Keyframe
from sparkvsr.models.lite.cpu_kernels import CPU_KERNELS
from sparkvsr.models.lite.execution import NetworkRunner
from sparkvsr.models.lite.lr_frame import LrFrame
from sparkvsr.models.lite.motion import Flow
from sparkvsr.models.lite.network import Reference, propagate_step
from sparkvsr.models.lite.propagate import (
    REACH,
    ActiveKeyframe,
    Observation,
    PassState,
    ShotPropagator,
    ready,
    tracked,
)
from sparkvsr.models.lite.vivid import agreement, carry, compose, judge

OWN_EVERY = 12
"""Frames between two keyframes that a session makes by itself."""

RENEW_AFTER = 8
"""Frames after which one of these that does not fit any more is made again."""

_OWN_PREFERENCE = 0.08
_POOR_TRUST = 0.05
_MUCH_FURTHER = 1.5


class VividPropagator(ShotPropagator):
    """Restores one shot, frame by frame.

    Args:
        runner, upscale, keyframes, guidance_scale: see ``ShotPropagator``.
        own: indices of ``keyframes`` that are of the model's own kind.
    """

    own_every = OWN_EVERY
    renew_after = RENEW_AFTER

    def __init__(
        self,
        runner: NetworkRunner,
        upscale: Callable[[Tensor], Tensor] | None,
        keyframes: Mapping[int, Keyframe],
        guidance_scale: float = 1.0,
        own: frozenset[int] = frozenset(),
    ) -> None:
        super().__init__(runner, upscale, keyframes, guidance_scale)
        self._kinds = [
            [index for index in self._indices if index not in own],
            [index for index in self._indices if index in own],
        ]
        self._made_here = own

    def _neighbours(self, indices: Sequence[int]) -> list[int]:
        """The last keyframe since the start or the last cut, and the next one within reach."""
        place = bisect_right(indices, self.next_index)
        behind = [index for index in indices[max(0, place - 1) : place] if index >= self._first_usable]
        ahead = [index for index in indices[place : place + 1] if index <= self.next_index + REACH]
        # On a keyframe itself, or without anything behind, one is enough.
        return behind if behind == [self.next_index] else behind + ahead

    def _references(self, frame: LrFrame, step_flow: Flow | None) -> tuple[list[Reference], float, bool]:
        wanted = [index for kind in self._kinds for index in self._neighbours(kind)]
        for index in [index for index in self._active if index not in wanted]:
            del self._active[index]
        nearest = {
            index: min(abs(other - self.next_index) for other in kind)
            for kind in (set(self._neighbours(kind)) for kind in self._kinds)
            for index in kind
        }
        references, best = [], 0.0
        for index in wanted:
            if index not in self._active:
                self._active[index] = self._load(index)
            key = self._active[index]
            if key.weight <= 0:
                continue
            distance = abs(index - self.next_index)
            # One that lies clearly further only fills what the nearer one cannot show.
            doubled = distance <= _MUCH_FURTHER * nearest[index]
            reference = tracked(key, frame, step_flow, distance, doubled=doubled, flows=self._flows)
            if reference is not None:
                if index in self._made_here:
                    reference.preference = _OWN_PREFERENCE
                self._keyframe_fits(index)
                reference.closeness = self._closeness(key.guidance)
                reference.share = judge(frame.lr, reference)
                references.append(reference)
                best = max(best, float(reference.share.mean()))
        return references, best, best < _POOR_TRUST

    def _load(self, index: int) -> ActiveKeyframe:
        if index not in self._made_here:
            key = super()._load(index)
            key.agreement = agreement(key.hr, key.frame.lr)
            return key
        # Made from this very frame: it need not prove that it shows it.
        keyframe = self._keyframes[index]
        return ready(LrFrame.of(keyframe.lr.float()[None], self._unshuffle), keyframe.hr.float()[None], 1.0)

    def _render(self, seen: Observation) -> Tensor:
        outputs = {}
        for name, references in seen.references.items():
            base = propagate_step(
                self._runner.net,
                seen.frame.lr,
                self._previous(name, seen),
                None,
                fine=seen.frame.fine,
                kernels=CPU_KERNELS,
                fuse=self._runner.fuse,
            )
            carried = [carry(seen.frame.lr, one) for one in references]
            outputs[name] = compose(seen.frame.lr, base.output, carried)
            self._states[name] = PassState(outputs[name], base.hidden)
        if len(outputs) == 2:
            return torch.lerp(outputs["blind"], outputs["keyed"], self._guidance)[0].contiguous()
        (output,) = outputs.values()
        return output[0].contiguous()
