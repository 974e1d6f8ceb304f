"""Restored frames by number, for programs that hold the clip and ask for what they need (VapourSynth).

In order, each frame is restored once. Going back costs the way from the last place that is remembered (the shot's
start, or a state of the model that was kept); going far ahead costs looking through the frames between, and restoring
those of the shot that lie before.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from fractions import Fraction

from torch import Tensor

from sparkvsr.errors import ConfigError, DecodeError
from sparkvsr.inference.options import UpscaleOptions, check_options
from sparkvsr.inference.stream.planning import plan_passing
from sparkvsr.models.interface import RestorationModel

WINDOW = 16
"""Finished frames that are kept: programs with several threads ask a little out of order."""

STATE_EVERY = 48
STATE_BYTES = 256 << 20
LR_BYTES = 256 << 20
"""What is spent on states of the model to go back to, and on LR frames that were looked at already."""


class FramesOnRequest:
    """A clip that is restored frame by frame as somebody asks.

    Args:
        read: gives an LR frame ``(3, h, w)`` float32 in [0, 1] by its number; called again for one that was let go.
        num_frames: of the clip.
        lr_size: ``(h, w)``.
        fps: of the clip; only for references from another video.
        options: as for ``sparkvsr.upscale``; what needs a file is refused.
        model: loaded.
        on_note: called with a line about something that does not seem to fit.
        window: finished frames that are kept.

    Attributes:
        size: ``(H, W)`` of the result.

    Raises:
        SparkVSRError: an option, the model or the references cannot be used here.
    """

    def __init__(
        self,
        read: Callable[[int], Tensor],
        num_frames: int,
        lr_size: tuple[int, int],
        fps: Fraction,
        options: UpscaleOptions,
        model: RestorationModel,
        on_note: Callable[[str], None],
        window: int = WINDOW,
    ) -> None:
        check_options(options)
        if window < 1:
            msg = f"window {window} keeps no frame; give at least 1"
            raise ConfigError(msg)
        self._read, self._num_frames, self._window = read, num_frames, window
        plan = plan_passing(options, model, lr_size, fps, stop=num_frames, num_frames=num_frames)
        self.size = (plan.size.height, plan.size.width)
        self._look, self._restorer = plan.begin(model, self._pixels_of, on_note)
        self._chunk = plan.run.settings.chunk_frames
        self._done: OrderedDict[int, Tensor] = OrderedDict()
        self._lr: OrderedDict[int, Tensor] = OrderedDict()
        self._most_lr = max(8, LR_BYTES // (12 * lr_size[0] * lr_size[1]))
        self._states: OrderedDict[int, Mapping[str, Tensor]] = OrderedDict()
        self._most_states = min(8, STATE_BYTES // max(1, plan.run.state_bytes)) if plan.run.state_bytes else 0
        self._lock = threading.Lock()

    def frame(self, index: int) -> Tensor:
        """The restored frame ``(3, H, W)`` float32 in [0, 1].

        Raises:
            SparkVSRError: a frame cannot be read or restored.
        """
        if not 0 <= index < self._num_frames:
            msg = f"frame {index} was asked for; the clip has {self._num_frames}, 0 to {self._num_frames - 1}"
            raise DecodeError(msg)
        with self._lock:
            if index not in self._done:
                self._restore_until(index)
            return self._done[index]

    def close(self) -> None:
        """Stop what makers still run."""
        self._restorer.close()

    def _restore_until(self, index: int) -> None:
        self._look_until(index)
        place = self._place_before(index)
        while place <= index:
            stop = self._chunk_stop(place, index)
            for number, pixels in enumerate(self._restorer.restore(place, stop), start=place):
                self._done[number] = pixels
                self._done.move_to_end(number)
            while len(self._done) > max(self._window, self._chunk):
                self._done.popitem(last=False)
            self._remember(stop)
            place = stop

    def _chunk_stop(self, place: int, index: int) -> int:
        """Behind the last frame of the next step: a chunk within the shot, not much further than was asked for."""
        stop = place
        while stop - place < self._chunk and stop < min(self._num_frames, index + self._chunk):
            self._look_until(stop)
            if self._look.shot_start(stop) > place and stop > place:
                break
            stop += 1
        return stop

    def _place_before(self, index: int) -> int:
        """The frame to begin with: the next one if that is on the way, a state that was kept, or the shot's start."""
        start = self._look.shot_start(index)
        stored = [place for place in self._states if start < place <= index]
        best = max(stored, default=start)
        if best <= self._restorer.next_index <= index and self._restorer.next_index > start:
            return self._restorer.next_index
        if best > start:
            self._restorer.go_on(best, self._states[best])
        return best

    def _remember(self, place: int) -> None:
        start = self._look.shot_start(place - 1)
        if not self._most_states or (place - start) % STATE_EVERY >= self._chunk or place - start < STATE_EVERY:
            return
        if self._look.shot_stop(place - 1) == place:
            return
        self._states[place] = self._restorer.state()
        while len(self._states) > self._most_states:
            self._states.popitem(last=False)

    def _look_until(self, index: int) -> None:
        """Look at frames until everything that decides one is known."""
        while not self._look.is_finished and not self._look.is_ready(index):
            if self._look.count < self._num_frames:
                self._look.push(self._pixels_of(self._look.count))
            else:
                self._look.finish()

    def _pixels_of(self, index: int) -> Tensor:
        if index in self._lr:
            self._lr.move_to_end(index)
            return self._lr[index]
        pixels = self._read(index)
        self._lr[index] = pixels
        while len(self._lr) > self._most_lr:
            self._lr.popitem(last=False)
        return pixels
