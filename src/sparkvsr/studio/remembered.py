"""Images of the model's own keyframes, made once: every preview and every render after an edit asks for the same."""

from __future__ import annotations

import threading
from collections import OrderedDict

from torch import Tensor

from sparkvsr.keyframes.makers.interface import ReferenceMaker

LIMIT_BYTES = 160 * 2**20
"""Of float images: 15 at 1280x720."""


class RememberingMaker(ReferenceMaker):
    """Another maker, which is asked once for each frame of one clip.

    Args:
        maker: gives the same image for the same frame every time.
    """

    def __init__(self, maker: ReferenceMaker) -> None:
        self._maker = maker
        self.name, self.jobs = maker.name, maker.jobs
        self.may_colour, self.holds_images = maker.may_colour, maker.holds_images
        self._images: OrderedDict[tuple[int, tuple[int, int]], Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:
        """See ``ReferenceMaker.make``."""
        key = (index, size)
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
                return self._images[key]
        image = self._maker.make(lr, size, index)
        with self._lock:
            self._images[key] = image
            while len(self._images) > 1 and sum(one.nbytes for one in self._images.values()) > LIMIT_BYTES:
                self._images.popitem(last=False)
        return image

    def identity(self, index: int) -> str:
        """See ``ReferenceMaker.identity``."""
        return self._maker.identity(index)

    def close(self) -> None:
        """Nothing: the next job asks again."""
