"""From a stream of LR frames to a stream of SR frames: shots, chunks, keyframes, any output size.

Knows nothing about files or the screen. One session of the model per shot, so that nothing crosses a cut;
keyframes are made or loaded only when the model asks for them, so that their number does not matter.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from sparkvsr.colour import grey
from sparkvsr.errors import DecodeError
from sparkvsr.keyframes.references import ReferenceMaker
from sparkvsr.keyframes.shots import Shot
from sparkvsr.models.interface import Keyframe, RestorationModel, Session, ShotRequest
from sparkvsr.video.pixels import resize_image

if TYPE_CHECKING:
    from sparkvsr.video import Frame


class KeyframeLoader:
    """LR frame and HR image of a keyframe on demand.

    Keyframes are asked for in rising order, a little ahead of the frames being restored, so a second reader
    follows at its own pace; a few are kept because neighbouring frames ask for the same ones.

    Args:
        open_frames: opens the clip at a frame index and iterates from there.
        maker: gives the HR image, and weight and guidance where a keyframe has its own.
        size: ``(H, W)`` the model wants.
        kept: how many keyframes stay in memory.
        check: called with each index when its image is made; raises when that is not the image that was planned.
    """

    def __init__(
        self,
        open_frames: Callable[[int], Iterator[Frame]],
        maker: ReferenceMaker,
        size: tuple[int, int],
        kept: int = 4,
        check: Callable[[int], None] | None = None,
    ) -> None:
        self._check = check
        self._open_frames = open_frames
        self._maker = maker
        self._size = size
        self._kept = kept
        self._cache: OrderedDict[int, Keyframe] = OrderedDict()
        self._frames: Iterator[Frame] | None = None
        self._next_index = -1

    def load(self, index: int) -> Keyframe:
        """The keyframe at frame ``index`` of the clip."""
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        lr = self._lr_frame(index)
        hr = self._maker.make(lr, self._size, index)
        if self._check is not None:
            self._check(index)
        weight, guidance = self._maker.weights.get(index, 1.0), self._maker.guidance.get(index)
        keyframe = Keyframe(lr=lr, hr=hr, weight=weight, guidance=guidance)
        self._cache[index] = keyframe
        while len(self._cache) > self._kept:
            self._cache.popitem(last=False)
        return keyframe

    def forget(self, stop: int) -> None:
        """Let go of the keyframes before frame ``stop``: nothing asks for them once their shot is done."""
        for index in [index for index in self._cache if index < stop]:
            del self._cache[index]

    def close(self) -> None:
        """Close the second reader."""
        close = getattr(self._frames, "close", None)
        if close is not None:
            close()
        self._frames = None

    def _lr_frame(self, index: int) -> Tensor:
        # Going back, or far ahead, a new reader that seeks is cheaper than decoding everything between.
        if self._frames is None or index < self._next_index or index > self._next_index + 300:
            self.close()
            self._frames = self._open_frames(index)
        for frame in self._frames:
            self._next_index = frame.index + 1
            if frame.index == index:
                return frame.pixels
        msg = f"keyframe {index} could not be read again from the clip; was the file changed meanwhile?"
        raise DecodeError(msg)


class ShotKeyframes(Mapping[int, Keyframe]):
    """The keyframes of one shot by index within the shot, loaded on access."""

    def __init__(self, shot: Shot, indices: Sequence[int], load: Callable[[int], Keyframe]) -> None:
        self._shot = shot
        self._places = dict.fromkeys(index - shot.start for index in indices if index in shot)
        self._load = load

    def __getitem__(self, index: int) -> Keyframe:
        if index not in self._places:
            raise KeyError(index)
        return self._load(index + self._shot.start)

    def __contains__(self, index: object) -> bool:
        return index in self._places

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@dataclass(frozen=True)
class RestoreSettings:
    """What decides the pixels, besides model and keyframes.

    Attributes:
        size: ``(H, W)`` of the frames given back.
        working_size: ``(H, W)`` at which the model works.
        guidance_scale: see ``ShotRequest``.
        chunk_frames, tile, seed: see ``ShotRequest``.
        own_keyframes: the same, as frame indices of the clip.
        is_grey: the result is made grey, as the clip is.
    """

    size: tuple[int, int]
    working_size: tuple[int, int]
    guidance_scale: float = 1.0
    chunk_frames: int = 8
    tile: int | None = None
    seed: int = 42
    own_keyframes: frozenset[int] = frozenset()
    is_grey: bool = False


class SegmentLike(Protocol):
    """A run of frames of one shot."""

    @property
    def start(self) -> int:
        """First frame of the clip."""

    @property
    def stop(self) -> int:
        """Frame after the last."""

    @property
    def shot(self) -> Shot:
        """The shot it belongs to."""


P = TypeVar("P", bound=SegmentLike)


@dataclass(frozen=True)
class SegmentEnd(Generic[P]):
    """All frames of a segment were given; with the model's state, if the shot goes on and the model can save it."""

    segment: P
    state: dict[str, Tensor] | None


def restore_segments(
    model: RestorationModel,
    frames: Iterable[Frame],
    segments: Sequence[P],
    keyframe_indices: Sequence[int],
    loader: KeyframeLoader | None,
    settings: RestoreSettings,
    state: Mapping[str, Tensor] | None = None,
) -> Generator[tuple[Frame, Tensor] | SegmentEnd[P], None, None]:
    """Restore contiguous segments frame by frame, with memory bounded by the chunk, and say where each segment ends.

    Args:
        frames: the LR frames ``[segments[0].start, segments[-1].stop)``, in order.
        segments: contiguous; a shot begins with its first segment unless ``state`` is given for the first.
        keyframe_indices: frame indices of the clip, strictly increasing.
        loader: gives keyframes; may be None when there are none.
        state: of the model before the first segment, if that is not the first of its shot.

    Yields:
        The LR frame and its restored pixels ``(3, H, W)`` float32 in [0, 1] at ``settings.size``, or an end.

    Raises:
        DecodeError: the stream ended before the last segment did.
    """
    source = iter(frames)
    waiting: deque[Frame] = deque()
    session: Session | None = None
    for segment in segments:
        shot = segment.shot
        chunk: list[Frame] = []
        for index in range(segment.start, segment.stop):
            frame = next(source, None)
            if frame is None:
                msg = f"the clip ended inside the shot [{shot.start}, {shot.stop}); was the file changed meanwhile?"
                raise DecodeError(msg)
            if session is None:
                lr_size = (frame.pixels.shape[-2], frame.pixels.shape[-1])
                load = None if loader is None else loader.load
                session = open_session(model, lr_size, shot, keyframe_indices, load, settings)
                if state is not None and segment.start > shot.start:
                    session.import_state(state, segment.start - shot.start)
                state = None
            chunk.append(frame)
            waiting.append(frame)
            if len(chunk) == settings.chunk_frames or index == segment.stop - 1:
                # Nothing here keeps the restored chunk (100 MB at 720p) while the next one is made.
                pixels = torch.stack([item.pixels for item in chunk]).float()
                chunk = []
                yield from _matched(waiting, session.push(pixels), settings)
        assert session is not None
        after = None
        if segment.stop == shot.stop:
            yield from _matched(waiting, session.finish(), settings)
            session = None
            if loader is not None:
                loader.forget(shot.stop)
        else:
            after = session.export_state()
        if waiting:
            msg = f"model {model.name} kept {len(waiting)} frames of the shot at {shot.start} back"
            raise RuntimeError(msg)
        yield SegmentEnd(segment, after)


@dataclass(frozen=True)
class _WholeShot:
    """A shot as its own only segment."""

    shot: Shot

    @property
    def start(self) -> int:
        return self.shot.start

    @property
    def stop(self) -> int:
        return self.shot.stop


def restore_shots(
    model: RestorationModel,
    frames: Iterable[Frame],
    shots: Sequence[Shot],
    keyframe_indices: Sequence[int],
    loader: KeyframeLoader | None,
    settings: RestoreSettings,
) -> Generator[tuple[Frame, Tensor], None, None]:
    """``restore_segments`` for whole shots: frames and their results, ``(3, H, W)`` float in [0, 1]; no gradients."""
    segments = [_WholeShot(shot) for shot in shots]
    with closing(restore_segments(model, frames, segments, keyframe_indices, loader, settings)) as restoring:
        while True:
            # Not around the loop: what asks for the frames has a mode of its own.
            with torch.inference_mode():
                item = next(restoring, None)
            if item is None:
                return
            if not isinstance(item, SegmentEnd):
                yield item


def open_session(
    model: RestorationModel,
    lr_size: tuple[int, int],
    shot: Shot,
    keyframe_indices: Sequence[int],
    load: Callable[[int], Keyframe] | None,
    settings: RestoreSettings,
) -> Session:
    """The model's session for a shot.

    Args:
        lr_size: ``(h, w)`` of its frames.
        keyframe_indices: frame indices of the clip, strictly increasing; those in the shot are used.
        load: gives the keyframe at an index of the clip; None when there are none.
    """
    keyframes: Mapping[int, Keyframe] = {} if load is None else ShotKeyframes(shot, keyframe_indices, load)
    request = ShotRequest(
        num_frames=shot.num_frames,
        lr_size=lr_size,
        size=settings.working_size,
        keyframes=keyframes,
        own_keyframes=frozenset(index - shot.start for index in settings.own_keyframes if index in shot),
        guidance_scale=settings.guidance_scale,
        chunk_frames=settings.chunk_frames,
        tile=settings.tile,
        seed=settings.seed,
    )
    return model.open_session(request)


def _matched(waiting: deque[Frame], restored: Tensor, settings: RestoreSettings) -> Iterator[tuple[Frame, Tensor]]:
    for pixels in restored:
        yield waiting.popleft(), as_asked(pixels, settings)


def as_asked(pixels: Tensor, settings: RestoreSettings) -> Tensor:
    """What the model gave as ``(3, H, W)`` in [0, 1] at ``settings.size``, and grey where that was asked for."""
    matched = resize_image(pixels, settings.size).clamp(0, 1)
    return in_grey(matched) if settings.is_grey else matched


def in_grey(pixels: Tensor) -> Tensor:
    """``(3, H, W)`` RGB with all channels equal to the BT.601 luma."""
    return grey(pixels).clamp(0, 1).expand(3, -1, -1)
