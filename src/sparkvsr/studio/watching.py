"""A model that tells what it restores, frame by frame, and can be stopped between two chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from sparkvsr.models.interface import ModelPlan, RestorationModel, Session, ShotRequest

Watcher = Callable[[Tensor, list[float] | None], None]
"""Gets restored frames ``(n, 3, H, W)`` in order, and of each how much keyframes cover it, if the model knows."""


class Cancelled(Exception):  # noqa: N818  (nothing is wrong)
    """The user does not want it any more."""


class WatchedModel(RestorationModel):
    """Another model, the same in everything that decides pixels and keys.

    Args:
        model: the one that works.
        before: called before each chunk; may raise ``Cancelled``.
        watcher: gets what was restored.
    """

    def __init__(self, model: RestorationModel, before: Callable[[], None], watcher: Watcher) -> None:
        self._model = model
        self._before = before
        self._watcher = watcher
        self.name, self.device, self.dtype = model.name, model.device, model.dtype
        self.keyframe_lookahead = model.keyframe_lookahead
        self.keyframe_multiple = model.keyframe_multiple
        self.is_resumable = model.is_resumable
        self.is_thread_invariant = model.is_thread_invariant
        self.look, self.own_references = model.look, model.own_references
        self.wants_own_keyframes = model.wants_own_keyframes

    def working_size(self, lr_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
        """See ``RestorationModel.working_size``."""
        return self._model.working_size(lr_size, size)

    def restore(
        self,
        lr: Tensor,
        keyframes: Tensor | None = None,
        keyframe_indices: Sequence[int] = (),
        *,
        scale: float = 4.0,
        guidance_scale: float = 1.0,
    ) -> Tensor:
        """See ``RestorationModel.restore``."""
        return self._model.restore(lr, keyframes, keyframe_indices, scale=scale, guidance_scale=guidance_scale)

    def open_session(self, request: ShotRequest) -> Session:
        """See ``RestorationModel.open_session``."""
        return _WatchedSession(self._model.open_session(request), self._before, self._watcher)

    def plan(
        self, lr_size: tuple[int, int], size: tuple[int, int], num_frames: int, *, guided_passes: int, memory_bytes: int
    ) -> ModelPlan:
        """See ``RestorationModel.plan``."""
        return self._model.plan(lr_size, size, num_frames, guided_passes=guided_passes, memory_bytes=memory_bytes)

    def state_bytes(self, lr_size: tuple[int, int]) -> int:
        """See ``RestorationModel.state_bytes``."""
        return self._model.state_bytes(lr_size)

    def fingerprint(self) -> str:
        """See ``RestorationModel.fingerprint``."""
        return self._model.fingerprint()


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

    def export_state(self) -> dict[str, Tensor] | None:
        return self._session.export_state()

    def import_state(self, state: Mapping[str, Tensor], next_index: int) -> None:
        self._session.import_state(state, next_index)
