"""Keyframes that are decided while frames pass are those of the whole clip, and never far behind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count, pairwise

import pytest
import torch

from sparkvsr.errors import ConfigError
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.coverage import with_own_keyframes
from sparkvsr.keyframes.cuts import detect_cuts
from sparkvsr.keyframes.look_ahead import LookAhead, check_passing
from sparkvsr.keyframes.passing import SEARCH, Horizon, ShotPlacement
from sparkvsr.keyframes.shots import shots_from_cuts


class Case:
    """A clip by what detectors would say of it."""

    def __init__(self, seed: int) -> None:
        r = self.random = random.Random(seed)
        self.frames = r.randint(1, 300)
        cuts = sorted({r.randint(4, max(4, self.frames - 1)) for _ in range(r.randint(0, 6))})
        kept = [cut for cut, after in pairwise([*cuts, 10**9]) if after - cut >= 4]
        self.shots = shots_from_cuts(kept, 0, self.frames)
        self.wanted = [0]
        while self.wanted[-1] < self.frames:
            self.wanted.append(self.wanted[-1] + r.choice([8, 9, 10, 12, 16, 16, 16, r.randint(1, 16)]))
        self.wanted.pop()
        rare = r.choice([0, 0.02, 0.1])
        self.odd = {k for k in range(self.frames) if r.random() < rare}
        for _ in range(r.randint(0, 3)):
            start = r.randint(0, self.frames - 1)
            self.odd |= set(range(start, min(self.frames, start + r.randint(1, 15))))
        kind = r.choice(["scenes", "every", "manual", "auto"])
        steps = [r.randint(0, 30)]
        while steps[-1] < self.frames:
            steps.append(steps[-1] + r.randint(4, 80))
        self.choice = KeyframeChoice(kind, number=r.randint(4, 60), indices=tuple(steps[:-1]))
        self.fills = kind == "auto" or r.random() < 0.7
        self.weak = {k for k in range(self.frames) if r.random() < r.choice([0, 0.3, 1])} if r.random() < 0.4 else set()

    def candidates(self, start: int) -> Iterator[int]:
        kind, step = self.choice.kind, self.choice.number
        if kind == "every":
            return count(-(-start // step) * step, step)
        return iter({"scenes": [start], "manual": [i for i in self.choice.indices if i >= start]}.get(kind, []))

    def expected(self) -> list[int] | None:
        """What the whole clip gives; None where the rules are known to differ."""
        if any(all(k in self.odd for k in range(shot.start, shot.stop)) for shot in self.shots):
            return None
        bad = self.odd if self.choice.follows_shots else set()
        if self.choice.kind == "manual" and not self.choice.indices:
            return None
        chosen = self.choice.select(self.shots, list, 0, bad=bad)
        if any(abs(old - new) > SEARCH for old, new in chosen.moved):
            return None
        if self.fills:
            chosen, _ = with_own_keyframes(chosen, self.shots, self.wanted, bad, self.weak)
        return list(chosen.indices)

    def passing(self) -> tuple[list[int], int]:
        """What comes out while frames pass, and how far it was behind at most."""
        places: dict[int, ShotPlacement] = {}
        frontier, behind = 0, 0
        moves = self.choice.follows_shots
        for seen in range(1, self.frames + 2):
            at_end = seen > self.frames
            frontier = self.frames if at_end else max(frontier, seen - self.random.choice([28, 3]))
            for shot in self.shots:
                if shot.start < frontier and shot.start not in places:
                    places[shot.start] = ShotPlacement(
                        shot.start, self.candidates(shot.start), moves=moves, fills=self.fills, weak=self.weak
                    )
                if shot.start in places and (at_end or shot.stop < frontier):
                    places[shot.start].stop = shot.stop
            horizon = Horizon(
                frontier,
                min(seen, self.frames),
                (self.frames if at_end else max(0, seen - 6)) if moves else None,
                [index for index in self.wanted if index < seen],
                lambda index, _: index in self.odd,
            )
            for place in places.values():
                if place.is_complete:
                    continue
                until, before = place.until, list(place.keyframes)
                place.advance(horizon)
                assert place.keyframes[: len(before)] == before
                assert all(index >= until for index in place.keyframes[len(before) :])
                behind = max(behind, 0 if place.is_complete else frontier - place.until)
        assert all(place.is_complete for place in places.values())
        return [index for place in places.values() for index in place.keyframes], behind


def test_passing_frames_get_the_keyframes_of_the_whole_clip() -> None:
    compared, behind = 0, 0
    for seed in range(400):
        case = Case(seed)
        expected = case.expected()
        if expected is None:
            continue
        got, late = case.passing()
        assert got == expected, (seed, case.choice, case.shots)
        compared, behind = compared + 1, max(behind, late)
    assert compared > 150
    assert behind < 90


def noise(index: int, cut: int) -> torch.Tensor:
    coarse = torch.rand(1, 3, 6, 10, generator=torch.Generator().manual_seed(index // cut))
    texture = torch.nn.functional.interpolate(coarse, size=(24, 64), mode="bilinear")[0]
    return torch.roll(texture, (index % cut) // 4, 2)[:, :, :32].contiguous()


def test_shots_are_those_of_the_whole_clip_and_little_is_held_back() -> None:
    frames = [noise(index, 37) for index in range(150)]
    cuts, _ = detect_cuts(frames)
    look = LookAhead(check_passing(KeyframeChoice()), fills=True, reach=32)
    ready, held = 0, 0
    starts = []
    for pixels in [*frames, None]:
        if pixels is None:
            look.finish()
        else:
            look.push(pixels)
        while look.is_ready(ready):
            if look.shot_start(ready) == ready:
                starts.append(ready)
            ready += 1
            look.forget(ready - 1)
        held = max(held, look.count - ready)
    assert ready == 150
    assert starts == [0, *cuts]
    assert len(cuts) > 2
    assert held <= 110


def test_what_needs_the_whole_clip_is_refused() -> None:
    for kind, what in (("iframes", "--iframes needs a file"), ("random", "--random needs to know")):
        with pytest.raises(ConfigError, match=what):
            check_passing(KeyframeChoice(kind, number=3))
    assert check_passing(KeyframeChoice()).kind == "scenes"
