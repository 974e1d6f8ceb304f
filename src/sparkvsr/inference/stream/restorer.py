"""The model over frames that pass: sessions that go on although later keyframes were not known when they began.

A model says how far ahead of a frame a keyframe may change it (``RestorationModel.keyframe_lookahead``). All keyframes
up to there are known when a frame is restored; where one has come to be known since the session began, a session that
knows it takes over the state, as it does between two segments of a file. So the result is that of a file.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from sparkvsr.errors import ConfigError
from sparkvsr.inference.clip.analysis import GREY_SPREAD
from sparkvsr.inference.clip.engine import RestoreSettings, as_asked, open_session
from sparkvsr.inference.clip.own_keyframes import is_own_kind
from sparkvsr.keyframes.checks import check_content
from sparkvsr.keyframes.look_ahead import LookAhead
from sparkvsr.keyframes.references import ReferenceMaker, make_reference_maker
from sparkvsr.keyframes.shots import Shot
from sparkvsr.models.interface import Keyframe, RestorationModel, Session

OPEN_END = 2**40
"""Frames of a shot whose end is not known. Its last frame stands for the keyframes to come: no session asks for it, but
it knows that there may be some."""

KEPT_KEYFRAMES = 6


def check_model(model: RestorationModel) -> None:
    """Refuse a model that has to see a whole shot.

    Raises:
        ConfigError: it is one.
    """
    if not model.is_resumable or model.keyframe_lookahead is None or model.keyframe_multiple > 1:
        msg = (
            f"model {model.name} looks at a whole shot before it gives the first frame, so it cannot work in a pipe; "
            "write the clip to a file first, or take --model lite"
        )
        raise ConfigError(msg)


class PassingRestorer:
    """Restores frames in order.

    Args:
        model: one that ``check_model`` takes.
        look: knows shots and keyframes; it has to be ahead.
        settings: size, chunk, tile and guidance.
        pixels_of: gives an LR frame ``(3, h, w)`` in [0, 1] by its index: those being restored, and keyframes.
        maker: gives the images of chosen keyframes; None without keyframes.
        on_note: called with a line about an image that does not seem to fit.
    """

    def __init__(
        self,
        model: RestorationModel,
        look: LookAhead,
        settings: RestoreSettings,
        pixels_of: Callable[[int], Tensor],
        maker: ReferenceMaker | None,
        on_note: Callable[[str], None],
    ) -> None:
        self._model, self._look, self._settings = model, look, settings
        self._pixels_of, self._maker, self._on_note = pixels_of, maker, on_note
        self._own_maker: ReferenceMaker | None = None
        if maker is not None and model.wants_own_keyframes and not (maker.covers_clip or is_own_kind(maker)):
            self._own_maker = make_reference_maker(model.own_references, model.device)
        self._images: OrderedDict[int, Keyframe] = OrderedDict()
        self._session: Session | None = None
        self._known: list[int] = []
        self._has_more: dict[int, bool] = {}
        self._shot_start = -1
        self.next_index = -1

    @property
    def reach(self) -> int:
        """How far ahead of a frame keyframes are asked for."""
        return self._model.keyframe_lookahead or 0

    def restore(self, start: int, stop: int) -> Tensor:
        """Restore frames of one shot: its first ones, or those that follow the last call.

        Args:
            start, stop: the frames ``[start, stop)``; all are ready.

        Returns:
            ``(stop - start, 3, H, W)`` float32 in [0, 1]; grey as long as the clip is, unless images may colour it.
        """
        session = self._session_for(start, stop)
        pixels = torch.stack([self._pixels_of(index) for index in range(start, stop)]).float()
        with torch.inference_mode():
            restored = session.push(pixels)
            settings = replace(self._settings, is_grey=self._stays_grey())
            matched = torch.stack([as_asked(frame, settings) for frame in restored])
        if len(matched) != stop - start:
            msg = f"model {self._model.name} kept frames of the shot at {self._shot_start} back"
            raise RuntimeError(msg)
        self.next_index = stop
        return matched

    def state(self) -> Mapping[str, Tensor]:
        """What the model carries to ``next_index``; with it ``go_on`` gives the same frames again."""
        state = self._session.export_state() if self._session is not None else None
        assert state is not None
        return state

    def go_on(self, index: int, state: Mapping[str, Tensor]) -> None:
        """Take up the restoration before a frame in the middle of a shot."""
        self._shot_start = self._look.shot_start(index)
        self._session = self._open(index, self._look.keyframes(index))
        self._session.import_state(state, index - self._shot_start)
        self.next_index = index

    def close(self) -> None:
        """Stop what makers still run."""
        for maker in (self._maker, self._own_maker):
            if maker is not None:
                maker.close()

    def _stays_grey(self) -> bool:
        return self._look.colour <= GREY_SPREAD and not (self._maker is not None and self._maker.may_colour)

    def _session_for(self, start: int, stop: int) -> Session:
        shot_start, known = self._look.shot_start(start), self._look.keyframes(start)
        if self._session is None or shot_start != self._shot_start or start == shot_start:
            if start != shot_start:
                msg = f"frame {start} was asked for, but its shot begins at {shot_start}"
                raise IndexError(msg)
            for index in [index for index in self._images if index < shot_start]:
                del self._images[index]
            self._shot_start = shot_start
            self._session = self._open(start, known)
        elif start != self.next_index:
            msg = f"frame {start} was asked for where {self.next_index} comes next"
            raise IndexError(msg)
        elif any(index > self._known[-1] for index in known if index < stop + self.reach) if self._known else known:
            state = self._session.export_state()
            assert state is not None
            self._session = self._open(start, known)
            self._session.import_state(state, start - shot_start)
        return self._session

    def _open(self, index: int, known: list[int]) -> Session:
        self._known = list(known)
        given = self._look.given(index)
        is_all_own = self._maker is not None and is_own_kind(self._maker)
        has_own = self._model.wants_own_keyframes and not (self._maker is not None and self._maker.covers_clip)
        own = {k for k in known if is_all_own or k not in given} if has_own else set()
        shot = Shot(self._shot_start, self._shot_start + OPEN_END)
        # A shot that is known to its end when it begins needs no room for keyframes to come. It stays as it began: a
        # state is only for a session of the same kind.
        may_come = self._look.gives_keyframes and not self._look.is_complete(index)
        if self._has_more.setdefault(self._shot_start, may_come):
            known = [*known, shot.stop - 1]
        lr = self._pixels_of(index)
        settings = replace(self._settings, own_keyframes=frozenset(own))
        return open_session(self._model, (lr.shape[-2], lr.shape[-1]), shot, known, self._load, settings)

    def _load(self, index: int) -> Keyframe:
        if index in self._images:
            self._images.move_to_end(index)
            return self._images[index]
        assert self._maker is not None
        is_given = index in self._look.given(index) or self._maker.covers_clip
        maker = self._maker if is_given or self._own_maker is None else self._own_maker
        lr = self._pixels_of(index)
        image = maker.original(index, (lr.shape[-2], lr.shape[-1])) if maker.holds_images else None
        for note in [] if image is None else check_content(lr, image):
            self._on_note(f"{maker.label(index)} {note}")
        hr = maker.make(lr, self._settings.working_size, index)
        weight = self._maker.weights.get(index, 1.0) if is_given else 1.0
        guidance = self._maker.guidance.get(index) if is_given else None
        self._images[index] = Keyframe(lr=lr, hr=hr, weight=weight, guidance=guidance)
        while len(self._images) > KEPT_KEYFRAMES:
            self._images.popitem(last=False)
        return self._images[index]
