"""What every reference maker is and gets. Knows nothing about files, networks or the way a maker was named.

Shapes: h w LR pixels, H W output pixels. Pixels are float in [0, 1].
"""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from sparkvsr.errors import KeyframeError
from sparkvsr.shapes import ASPECT_TOLERANCE
from sparkvsr.video.pixels import resize_image

DEFAULT_TIMEOUT_SECONDS = 600.0
DEFAULT_KEY_VARIABLE = "SPARKVSR_API_KEY"


@dataclass(frozen=True)
class MakerOptions:
    """What a maker may need besides its name.

    Attributes:
        device: where networks run.
        prompt: for makers that take words, for every keyframe.
        prompts: by frame index; wins over ``prompt``.
        timeout_seconds: for one image of a program or an endpoint.
        jobs: images made at once by programs and endpoints; None for the maker's own choice.
        key_variable: environment variable that holds an endpoint's key.
        cache_dir: where paid results are kept; None for the user's cache folder.
        seed: for makers that sample.
    """

    device: str | torch.device = "cpu"
    prompt: str = ""
    prompts: Mapping[int, str] = field(default_factory=dict)
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    jobs: int | None = None
    key_variable: str = DEFAULT_KEY_VARIABLE
    cache_dir: Path | None = None
    seed: int = 42

    def prompt_for(self, index: int) -> str:
        """The words for one keyframe."""
        return self.prompts.get(index, self.prompt)


class ReferenceMaker(ABC):
    """Makes the HR image of a keyframe.

    Attributes:
        name: what the plan shows; never holds a secret.
        jobs: how many ``make`` calls may run at the same time (in threads).
        may_colour: whether an image may have colours that its frame has not. Plain upscalers do not; with the others a
            grey clip may become coloured.
        holds_images: whether it only gives images that somebody made before, which invites another edit.
        covers_clip: whether it holds an image of every frame already, so that more keyframes cost nothing.
        weights: influence of single keyframes by frame index, above 0 to 1; 1 where it says nothing.
        guidance: guidance of single keyframes by frame index, from 1; that of all where it says nothing.
    """

    name: str
    jobs: int = 1
    may_colour: bool = True
    holds_images: bool = False
    covers_clip: bool = False
    weights: Mapping[int, float] = MappingProxyType({})
    guidance: Mapping[int, float] = MappingProxyType({})

    @abstractmethod
    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:
        """HR image of one frame.

        Args:
            lr: ``(3, h, w)`` float in [0, 1], the clip's frame.
            size: ``(H, W)`` wanted.
            index: frame index, for makers that look images or prompts up.

        Returns:
            ``(3, H, W)`` float32 in [0, 1].

        Raises:
            KeyframeError: the image cannot be made or used.
        """

    @property
    def spec(self) -> str | None:
        """What ``make_reference_maker`` makes the same maker of, where that is more than what the user wrote."""
        return None

    def settle(
        self,
        read_lr: Callable[[Sequence[int]], Mapping[int, Tensor]],  # noqa: ARG002
        indices: Sequence[int],  # noqa: ARG002
    ) -> list[str]:
        """Find out from the clip's frames what else has to be known before images are made.

        Args:
            read_lr: gives some LR frames, ``(3, h, w)`` in [0, 1].
            indices: keyframes that will be used.

        Returns:
            What the user should know, one line each.

        Raises:
            KeyframeError: it has no image for a keyframe.
        """
        return []

    def set_times(self, times: Callable[[int], Fraction | None]) -> None:  # noqa: B027  (most do not look at times)
        """When frames of a clip that is no file are shown, in seconds after its first one."""

    def original(self, index: int, lr_size: tuple[int, int]) -> Tensor | None:  # noqa: ARG002
        """The image as somebody made it, to be held against its frame; None for makers that start from the frame.

        Args:
            index: frame of the clip.
            lr_size: ``(h, w)`` of its frames.

        Returns:
            ``(3, a, b)`` float32 in [0, 1], at its own size.

        Raises:
            KeyframeError: missing, unreadable or of another aspect ratio.
        """
        return None

    def label(self, index: int) -> str:
        """What a message calls the image of a frame."""
        return f"the reference of frame {index}"

    def identity(self, index: int) -> str:  # noqa: ARG002
        """Text that changes whenever the image of a keyframe may change, for stores; makes nothing.

        Makers with settings or weights of their own say more than their name.
        """
        return self.name

    def given(self, start: int, stop: int, *, is_part: bool = False) -> tuple[int, ...] | None:  # noqa: ARG002
        """The frames in ``[start, stop)`` that it has images for, or None when it makes an image of any frame.

        Args:
            start, stop: the part of the clip that is restored.
            is_part: images of frames outside of it are no mistake.

        Raises:
            KeyframeError: an image is for a frame that the clip has not, or none is for a frame of the part.
        """
        return None

    def check_clip(self, path: Path) -> None:  # noqa: B027  (most makers start from the frame itself)
        """Refuse images that were made for another clip.

        Raises:
            KeyframeError: they were.
        """

    def check(self, indices: Iterable[int], lr_size: tuple[int, int]) -> None:  # noqa: B027  (as above)
        """Look at every image that will be used, before any work starts.

        Args:
            indices: frames of the clip.
            lr_size: ``(h, w)`` of its frames.

        Raises:
            KeyframeError: an image is missing, unreadable or of another aspect ratio.
        """

    def close(self) -> None:  # noqa: B027  (most makers have nothing to stop)
        """Stop what is still running in other threads; ``make`` is not called again."""


class Interruptible(ReferenceMaker):
    """A maker that waits for something outside; ``close`` ends the waiting."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        """See ``ReferenceMaker.close``."""
        self.closed.set()


def file_identity(path: Path) -> str:
    """SHA-256 of a file; remembered until it is another one, see ``file_state``."""
    return _digest(str(path), file_state(path))


def file_state(path: Path) -> tuple[int, ...]:
    """Numbers of a file that change whenever it is written: tools put its time back, but never that of the change."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@lru_cache(maxsize=256)
def _digest(path: str, state: tuple[int, ...]) -> str:  # noqa: ARG001
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fit_answer(image: Tensor, lr: Tensor, size: tuple[int, int], source: str) -> Tensor:
    """Bring what a foreign program answered to the wanted size, or refuse it.

    Args:
        image: ``(3, a, b)`` in [0, 1].
        lr: ``(3, h, w)``, the frame that was sent.
        size: ``(H, W)`` wanted.
        source: who answered, for the message.

    Raises:
        KeyframeError: smaller than the LR frame, or another aspect ratio.
    """
    (h, w), (a, b) = lr.shape[-2:], image.shape[-2:]
    if a < h or b < w:
        msg = f"{source} gave {b}x{a}, smaller than the frame of {w}x{h}; about {size[1]}x{size[0]} is wanted"
        raise KeyframeError(msg)
    # One pixel of rounding is more than the tolerance for tiny frames.
    slack = max(ASPECT_TOLERANCE, 1.0 / min(h, w))
    if abs((b / a) / (w / h) - 1) > slack:
        msg = (
            f"{source} gave {b}x{a} (aspect {b / a:.3f}), the frame is {w}x{h} ({w / h:.3f}); "
            f"an upscaler has to keep the aspect ratio"
        )
        raise KeyframeError(msg)
    return resize_image(image, size)
