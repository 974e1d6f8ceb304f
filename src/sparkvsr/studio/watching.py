"""A model that tells what it restores, frame by frame, and can be stopped between two chunks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

from torch import Tensor

from sparkvsr.models.interface import RestorationModel, Session, ShotRequest

Watcher = Callable[[Tensor, list[float] | None], None]
"""Gets restored frames ``(n, 3, H, W)`` in order, and of each how much keyframes cover it, if the model knows."""


class Cancelled(Exception):  # noqa: N818  (nothing is wrong)
    """The user does not want it any more."""


def watched(model: RestorationModel, before: Callable[[], None], watcher: Watcher) -> RestorationModel:
    """The model itself, the same in everything that decides pixels and keys, with sessions that are looked at.

    Args:
        model: the one that works.
        before: called before each chunk; may raise ``Cancelled``.
        watcher: gets what was restored.
    """
    seen = copy.copy(model)

    def open_session(request: ShotRequest) -> Session:
        return _WatchedSession(model.open_session(request), before, watcher)

    seen.open_session = open_session  # type: ignore[method-assign]
    return seen


class _WatchedSession(Session):
    def __init__(self, session: Session, before: Callable[[], None], watcher: Watcher) -> None:
        self._session = session
        self._before = before
        self._watcher = watcher

    def push(self, lr: Tensor) -> Tensor:
        self._before()
        restored = self._session.push(lr)
        shares = self._session.keyframe_shares
        self._watcher(restored, None if shares is None or not len(restored) else shares[-len(restored) :])
        return restored

    def finish(self) -> Tensor:
        restored = self._session.finish()
        if len(restored):
            self._watcher(restored, None)
        return restored

    @property
    def keyframe_shares(self) -> list[float] | None:
        return self._session.keyframe_shares

    def export_state(self) -> dict[str, Tensor] | None:
        return self._session.export_state()

    def import_state(self, state: Mapping[str, Tensor], next_index: int) -> None:
        self._session.import_state(state, next_index)
