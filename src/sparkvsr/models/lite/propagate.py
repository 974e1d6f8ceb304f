"""Restores the frames of one shot in order: the step shared by ``restore`` and by sessions.

One object carries everything that goes from a frame to the next, so the result does not depend on how frames are
grouped. Where nobody gave a keyframe, the model makes one of its own every now and then with the keyframe upscaler:
a heavier network costs little on one frame in 24, and its detail is carried like that of any keyframe.

Frames are looked at on the grid of one pixel for 4x4 HR pixels. At x4 that is the LR frame; at x2 it is half of it a
side, and what only the true LR frame shows goes into the network and into the flow that is matched on doubled frames.

With guidance other than 1 there are two passes with states of their own, one that sees keyframes and one that does not;
the motion between frames is estimated once for both.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sparkvsr.models.interface import Keyframe
from sparkvsr.models.lite.cpu_kernels import CPU_KERNELS, to_tensor
from sparkvsr.models.lite.execution import NetworkRunner
from sparkvsr.models.lite.lost import (
    GIVEN_RANGE,
    KEYFRAME_LOST,
    OWN_RANGE,
    PREVIOUS_LOST,
    found_again,
    lost_share,
    mean_trust,
    missed,
)
from sparkvsr.models.lite.lr_frame import LrFrame, grey_levels
from sparkvsr.models.lite.motion import (
    Flow,
    Grey,
    KeyframeMotion,
    flow_between,
    roughness,
    round_trip_error,
    sample,
    track_keyframe,
)
from sparkvsr.models.lite.network import (
    ROUND_TRIP_LR_PX,
    Previous,
    Reference,
    StepResult,
    agreement_of,
    propagate_step,
)
from sparkvsr.models.lite.resampling import trust
from sparkvsr.models.lite.resemblance import is_cut, keyframe_weight, scene_weight

REACH = 32
"""How many frames ahead a coming keyframe is already used."""

OWN_EVERY = 24
"""Frames between two keyframes of the model's own making."""

_FLOWS = 3
"""Flows that are matched side by side: to the frame before, ahead of time, and to and from a keyframe."""

_FLASH_FRAMES = 8
_POOR_TRUST = 0.05
_MOTION_PARTS = ("to_key", "to_key_plain", "from_key")
_OWN_PREFERENCE = 0.08


@dataclass(frozen=True)
class Sight:
    """A frame, the grey ``(h, w)`` of the one before it, and the flow to that; None at the start of a shot."""

    frame: LrFrame
    before: Grey | None
    step_flow: Flow | None


@dataclass
class ActiveKeyframe:
    """A keyframe in use, ready for ``Reference``.

    Attributes:
        weight: how far it is believed to show this clip, 0 to 1.
        influence: how far it is to count, 0 to 1, as somebody wished.
    """

    frame: LrFrame
    hr: Tensor
    agreement: Tensor
    weight: float
    influence: float = 1.0
    motion: KeyframeMotion | None = None
    guidance: float | None = None


@dataclass
class PassState:
    """What one pass carries from frame to frame: ``(1, 3, 4h, 4w)`` and ``(1, hidden, h, w)``.

    In the vivid look ``hidden`` is ``(1, 1, h, w)``: how far the output is trusted.
    """

    output: Tensor
    hidden: Tensor


@dataclass
class Observation:
    """All that is known of a frame before the network sees it.

    Attributes:
        frame: itself.
        before: LR frame before it ``(1, 3, h, w)``, None at the start, after a cut, and where too little of it is found
            again.
        step_flow: flow to that frame.
        references: keyframes brought to this frame, by pass.
        carried: how far the frame before is found again, by place, ``(1, 1, h, w)``; None is everywhere.
    """

    frame: LrFrame
    before: Tensor | None
    step_flow: Flow | None
    references: dict[str, list[Reference]]
    carried: Tensor | None


class ShotPropagator:
    """Restores one shot, frame by frame.

    Args:
        runner: runs the network.
        upscale: ``(3, uh, uw)`` to ``(3, 4h, 4w)``, makes keyframes where none was given; None leaves that out.
        keyframes: by frame index within the shot, true LR and HR images; read when first needed.
        guidance_scale: 0 blind, 1 keyframes, in between a mixture; above 1 further towards the keyframes themselves.
    """

    own_every = OWN_EVERY
    renew_after = 1
    """Frames after which a keyframe of our own that does not fit any more is made again."""
    forgets_lost = True
    """Whether what is not found again is left out by place, and the frame before altogether where that is too much."""
    follows_own_doubled = True
    """Whether keyframes of our own are matched on doubled frames where there are no others."""

    def __init__(
        self,
        runner: NetworkRunner,
        upscale: Callable[[Tensor], Tensor] | None,
        keyframes: Mapping[int, Keyframe],
        guidance_scale: float = 1.0,
    ) -> None:
        self._runner = runner
        self._unshuffle = runner.net.config.unshuffle
        self._upscale = upscale
        self._own: dict[str, tuple[int, ActiveKeyframe]] = {}
        self._keyframes = keyframes
        self._indices = sorted(keyframes) if guidance_scale > 0 else []
        self._guidance = guidance_scale
        self._active: dict[int, ActiveKeyframe] = {}
        self._cut_at = 0
        self._cut_before = 0
        self._flash_until = -1
        self.next_index = 0
        self._lr: Tensor | None = None
        self._grey: Grey | None = None
        self._flows: Executor | None = None
        self._states: dict[str, PassState] = {}
        self.keyframe_shares: list[float] = []
        """Of every frame since this object was made, how much trusted keyframes cover, 0 to 1."""
        self._pass_names = ["keyed"] if self._indices else ["blind"]
        if self._indices and 0 < guidance_scale < 1:
            self._pass_names.append("blind")

    def step(self, frame: Tensor) -> Tensor:
        """Restore the next frame: ``(3, uh, uw)`` float in [0, 1] to ``(3, 4h, 4w)`` float32 in [0, 1]."""
        return next(self.run([frame]))

    @torch.inference_mode()
    def run(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        """Restore frames in order, as ``step`` does each.

        What motion there is does not depend on what the network makes of it, so the next frame is looked at in a
        second thread while the network works on this one; flows that do not need each other are matched side by side.
        The order of what depends on each other, and so the result, is always the same.
        """
        with (
            ThreadPoolExecutor(1, "sparkvsr-motion") as pool,
            ThreadPoolExecutor(_FLOWS, "sparkvsr-flow") as self._flows,
        ):
            waiting: deque[Future[Observation]] = deque()
            sight: Future[Sight] | None = None
            for picture in frames:
                sight = self._flows.submit(self._look, picture, sight)
                waiting.append(pool.submit(self._observe, sight))
                if len(waiting) > 1:
                    yield self._render(waiting.popleft().result())
            while waiting:
                yield self._render(waiting.popleft().result())

    @torch.inference_mode()
    def _look(self, picture: Tensor, last: Future[Sight] | None) -> Sight:
        """A frame, and the motion to the one before it."""
        frame = LrFrame.of(picture.float()[None], self._unshuffle)
        before = self._grey if last is None else last.result().frame.grey
        return Sight(frame, before, None if before is None else flow_between(frame.grey, before, precise=False))

    @torch.inference_mode()
    def _observe(self, sight: Future[Sight]) -> Observation:
        """Motion of the next frame, and keyframes of our own where help is welcome."""
        seen = sight.result()
        frame, step_flow = seen.frame, seen.step_flow
        lr, grey = frame.lr, frame.grey
        if step_flow is not None and seen.before is not None and is_cut(grey, seen.before, step_flow):
            self._start_anew()
            step_flow = None
        previous = None if step_flow is None else self._lr
        carried: Tensor | None = None
        if self.forgets_lost and previous is not None and step_flow is not None:
            visible, error = frame.contrast, missed(lr, previous, to_tensor(step_flow))
            carried = found_again(visible, error, OWN_RANGE)
            previous = None if lost_share(visible, error) > PREVIOUS_LOST else previous
        given, share, is_poor = self._references(frame, step_flow)
        self.keyframe_shares.append(share)
        references = {}
        for name in self._pass_names:
            found, poor = (given, is_poor) if name == "keyed" else ([], True)
            if poor:
                found = found + self._own_reference(name, frame, step_flow, is_alone=not found)
            elif name in self._own:
                self._own[name][1].motion = None  # not followed meanwhile
            references[name] = found
        observation = Observation(frame, previous, step_flow, references, carried)
        self._lr, self._grey = lr, grey
        self.next_index += 1
        return observation

    def _render(self, seen: Observation) -> Tensor:
        results = {}
        for name, references in seen.references.items():
            results[name] = propagate_step(
                self._runner.net,
                seen.frame.lr,
                self._previous(name, seen),
                references[0] if references else None,
                fine=seen.frame.fine,
                others=references[1:],
                kernels=CPU_KERNELS,
                fuse=self._runner.fuse,
                with_picture=any(one.closeness > 0 for one in references),
            )
            self._states[name] = PassState(results[name].output, results[name].hidden)
            results[name] = _closer(results[name], references)
        return self._guided(results)[0].contiguous()

    def export_state(self) -> dict[str, Tensor]:
        """Everything carried to the next frame, as named tensors."""
        state = {"cuts": torch.tensor([self._cut_at, self._cut_before, self._flash_until])}
        if self._lr is not None:
            state["lr"] = self._lr.clone()
        for name, one in self._states.items():
            state[f"{name}.output"], state[f"{name}.hidden"] = one.output.clone(), one.hidden.clone()
        for index, active in self._active.items():
            state.update(_motion_tensors(f"key{index}", active.motion))
        for name, (index, active) in self._own.items():
            state[f"own.{name}.index"] = torch.tensor(index)
            state[f"own.{name}.lr"], state[f"own.{name}.hr"] = active.frame.fine.clone(), active.hr.clone()
            state.update(_motion_tensors(f"own.{name}", active.motion))
        return state

    def import_state(self, state: Mapping[str, Tensor], next_index: int) -> None:
        """Continue after ``export_state``."""
        self.next_index = next_index
        self._cut_at, self._cut_before, self._flash_until = (int(value) for value in state["cuts"])
        self._lr = state["lr"].contiguous(memory_format=torch.channels_last) if "lr" in state else None
        self._grey = None if self._lr is None else grey_levels(self._lr)
        self._states = {
            name: PassState(state[f"{name}.output"], state[f"{name}.hidden"])
            for name in self._pass_names
            if f"{name}.output" in state
        }
        self._active = {}
        for index in self._indices:
            motion = _motion_from(state, f"key{index}")
            if motion is not None:
                self._active[index] = self._load(index)
                self._active[index].motion = motion
        self._own = {}
        for name in self._pass_names:
            if f"own.{name}.index" in state:
                frame = LrFrame.of(state[f"own.{name}.lr"], self._unshuffle)
                active = ready(frame, state[f"own.{name}.hr"], 1.0)
                active.motion = _motion_from(state, f"own.{name}")
                self._own[name] = int(state[f"own.{name}.index"]), active

    def _start_anew(self) -> None:
        """Forget everything from before a cut, but for keyframes that prove within a moment that it was a flash."""
        if self.next_index > self._flash_until:
            self._cut_before = self._cut_at
            self._flash_until = self.next_index + _FLASH_FRAMES
        self._cut_at = self.next_index
        self._own = {}
        self._active = {index: one for index, one in self._active.items() if index >= self.next_index}

    def _previous(self, name: str, seen: Observation) -> Previous | None:
        state = self._states.get(name)
        if state is None or seen.before is None or seen.step_flow is None:
            return None
        valid = torch.ones(1, 1, 1, 1) if seen.carried is None else seen.carried
        return Previous(seen.before, state.output, state.hidden, to_tensor(seen.step_flow), valid)

    @property
    def _first_usable(self) -> int:
        """The first frame whose keyframe may still be used."""
        return self._cut_before if self.next_index <= self._flash_until else self._cut_at

    def _keyframe_fits(self, index: int) -> None:
        """A keyframe from before what looked like a cut shows the current frame: it was none."""
        if index < self._cut_at:
            self._cut_at = self._cut_before

    def _neighbours(self, indices: Sequence[int]) -> list[int]:
        """Of keyframes in order the last one since the start or the last cut, and the next one within reach."""
        place = bisect_right(indices, self.next_index)
        behind = [index for index in indices[max(0, place - 1) : place] if index >= self._first_usable]
        ahead = [index for index in indices[place : place + 1] if index <= self.next_index + REACH]
        # On a keyframe itself, or without anything behind, one is enough.
        return behind if behind == [self.next_index] else behind + ahead

    def _own_reference(self, name: str, frame: LrFrame, step_flow: Flow | None, *, is_alone: bool) -> list[Reference]:
        """The keyframe of the model's own making, made now if there is none or it is too old."""
        if self._upscale is None:
            return []
        index, key = self._own.get(name, (-self.own_every, None))
        if key is None or self.next_index - index >= self.own_every:
            key = ready(frame, self._upscale(frame.fine[0])[None], 1.0)
            self._own[name] = self.next_index, key
        age = self.next_index - self._own[name][0]
        # Beside keyframes that somebody gave ours only fill in: half the time is enough for it. Where all of those are
        # rejected the result is the blind one, to the bit.
        doubled = self.follows_own_doubled and is_alone
        reference = tracked(key, frame, step_flow, age, doubled=doubled, flows=self._flows)
        if reference is not None and age > 0:
            visible, error = frame.contrast, missed(frame.lr, reference.lr, reference.flow)
            is_lost = lost_share(visible, error) > KEYFRAME_LOST
            if self.forgets_lost:
                reference.geometric = reference.geometric * found_again(visible, error, OWN_RANGE)
        if age >= self.renew_after and (reference is None or is_lost):
            # Water, fire, a crowd: nothing that lies back can be carried, and a fresh one is as good as a single image.
            key = ready(frame, self._upscale(frame.fine[0])[None], 1.0)
            self._own[name] = self.next_index, key
            reference = tracked(key, frame, step_flow, 0)
        if reference is None:
            return []
        # A picture that somebody gave beats our own, unless it can hardly be trusted at a place.
        reference.preference = _OWN_PREFERENCE
        reference.decided = 0.0
        reference.closeness = self._closeness(None)
        return [reference]

    def _closeness(self, guidance: float | None) -> float:
        """Of a keyframe with a guidance of its own, or with that of all."""
        return min(max((self._guidance if guidance is None else guidance) - 1.0, 0.0), 1.0)

    def _references(self, frame: LrFrame, step_flow: Flow | None) -> tuple[list[Reference], float, bool]:
        """The given keyframes in use, the mean trust in the best of them, and whether help is welcome."""
        wanted = self._neighbours(self._indices)
        place = bisect_right(self._indices, self.next_index)
        for index in [i for i in self._active if i not in self._indices[max(0, place - 1) : place + 1]]:
            del self._active[index]
        references, best, fits, visible = [], 0.0, False, frame.contrast
        for index in wanted:
            if index not in self._active:
                self._active[index] = self._load(index)
            key = self._active[index]
            if key.weight * key.influence <= 0:
                continue
            distance = abs(index - self.next_index)
            reference = tracked(key, frame, step_flow, distance, flows=self._flows)
            if reference is not None:
                self._keyframe_fits(index)
                reference.closeness = self._closeness(key.guidance)
                reference.geometric = reference.geometric * key.influence
                references.append(reference)
                error = missed(frame.lr, reference.lr, reference.flow)
                best = max(best, mean_trust(reference.geometric, error))
                fits = fits or lost_share(visible, error) <= KEYFRAME_LOST
                reference.geometric = reference.geometric * found_again(visible, error, GIVEN_RANGE)
        return references, best, best < _POOR_TRUST or not fits

    def _load(self, index: int) -> ActiveKeyframe:
        keyframe = self._keyframes[index]
        frame, hr = LrFrame.of(keyframe.lr.float()[None], self._unshuffle), keyframe.hr.float()[None]
        key = ready(frame, hr, keyframe_weight(hr, frame.lr))
        key.influence, key.guidance = min(max(float(keyframe.weight), 0.0), 1.0), keyframe.guidance
        return key

    def _guided(self, results: Mapping[str, StepResult]) -> Tensor:
        if "blind" in results and "keyed" in results:
            return torch.lerp(results["blind"].output, results["keyed"].output, self._guidance)
        (result,) = results.values()
        return result.output


def _closer(result: StepResult, references: Sequence[Reference]) -> StepResult:
    """A frame moved onto the keyframes themselves, as far as their guidance wants it.

    A keyed result already has the keyframe's detail; what is left is its colours and brightness, so further guidance
    moves onto the keyframe itself where the motion is sure. Extrapolating would overshoot it.
    """
    if result.key_picture is None or result.key_geometric is None or result.key_closeness is None:
        return result
    wanted = {one.closeness for one in references}
    if len(wanted) == 1:
        share = CPU_KERNELS.upscale(result.key_geometric).clamp(0, 1) * wanted.pop()
    else:
        share = CPU_KERNELS.upscale(result.key_geometric * result.key_closeness).clamp(0, 1)
    return replace(result, output=torch.lerp(result.output, result.key_picture, share).clamp(0, 1))


def ready(frame: LrFrame, hr: Tensor, weight: float) -> ActiveKeyframe:
    """A keyframe, its picture ``(1, 3, 4h, 4w)``, with all that is known of it alone."""
    hr = hr.contiguous(memory_format=torch.channels_last)
    return ActiveKeyframe(frame, hr, agreement_of(hr, frame.lr), weight)


def tracked(
    key: ActiveKeyframe,
    frame: LrFrame,
    step_flow: Flow | None,
    distance: int,
    *,
    doubled: bool = True,
    flows: Executor | None = None,
) -> Reference | None:
    """Follow a keyframe to the current frame; None if the frame shows another scene.

    Args:
        key: changed in place.
        frame: the current one.
        step_flow: to the frame before.
        distance: in frames.
        doubled, flows: see ``track_keyframe``.
    """
    grey, key_grey = frame.grey, key.frame.grey
    if distance == 0:
        zero = np.zeros((*grey.shape, 2), np.float32)
        key.motion = KeyframeMotion(zero, zero, zero)
    else:
        twice = (frame.twice, key.frame.twice) if doubled else None
        key.motion = track_keyframe(grey, key_grey, key.motion, step_flow, doubled=doubled, twice=twice, flows=flows)
    weight = key.weight * scene_weight(grey, sample(key_grey.astype(np.float32), key.motion.to_key))
    if weight <= 0:
        return None
    geometric = trust(to_tensor(round_trip_error(key.motion)), ROUND_TRIP_LR_PX) * weight
    flow = to_tensor(key.motion.to_key)
    is_plain = key.motion.to_key is key.motion.to_key_plain
    return Reference(
        key.frame.lr,
        key.hr,
        key.agreement,
        flow,
        flow if is_plain else to_tensor(key.motion.to_key_plain),
        geometric,
        to_tensor(roughness(key.motion.to_key)),
        torch.full((1, 1, 1, 1), float(distance)),
        decided=1.0,
    )


def _motion_tensors(name: str, motion: KeyframeMotion | None) -> dict[str, Tensor]:
    if motion is None:
        return {}
    return {f"{name}.{part}": torch.from_numpy(getattr(motion, part).copy()) for part in _MOTION_PARTS}


def _motion_from(state: Mapping[str, Tensor], name: str) -> KeyframeMotion | None:
    if f"{name}.to_key" not in state:
        return None
    return KeyframeMotion(*(np.ascontiguousarray(state[f"{name}.{part}"].numpy()) for part in _MOTION_PARTS))
