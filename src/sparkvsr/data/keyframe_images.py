"""What a keyframe's image looks like in training: augmented ground truth, or the work of an image upscaler.

Shapes: K keyframes, h w LR pixels, H W HR pixels.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    gaussian_blur,
)

from sparkvsr.degradation.steps import draw_seed
from sparkvsr.errors import ConfigError
from sparkvsr.home import expanded

ImageUpscaler = Callable[[Tensor, tuple[int, int]], Tensor]


WRONG_KINDS = ("black", "shifted", "mirrored", "noise")


@dataclass(frozen=True)
class ReferenceChange:
    """What happens to one keyframe's image, drawn beforehand.

    Attributes:
        factors: of brightness, contrast, saturation; None leaves the colours.
        order: in which they are changed, indices into ``factors``.
        blur: sigma of a 3x3 Gaussian in pixels, 0 for none.
        noise: sigma in the [0, 1] range, 0 for none.
        wrong: one of ``WRONG_KINDS`` instead of all that; empty for none.
        shift: of kind ``shifted``, pixels down and right.
        seed: of the noise.
    """

    factors: tuple[float, ...] | None = None
    order: tuple[int, ...] = ()
    blur: float = 0.0
    noise: float = 0.0
    wrong: str = ""
    shift: tuple[int, int] = (0, 0)
    seed: int = 0


def augment_reference(image: Tensor, change: ReferenceChange) -> Tensor:
    """Change one image as drawn.

    Args:
        image: ``(3, H, W)`` float32 in [0, 1].
        change: what to do.

    Returns:
        ``(3, H, W)`` float32 in about [0, 1].
    """
    if change.wrong:
        noise = np.random.default_rng(change.seed).random(tuple(image.shape), dtype=np.float32)
        return wrong_reference(image, change, torch.from_numpy(noise))
    for step in change.order:
        assert change.factors is not None  # drawn together
        image = _ADJUST[step](image, change.factors[step])
    if change.blur:
        image = gaussian_blur(image, [3, 3], [change.blur])
    image = image.clamp(0, 1)
    if change.noise:
        noise = np.random.default_rng(change.seed).standard_normal(tuple(image.shape), dtype=np.float32)
        image = image + torch.from_numpy(noise) * change.noise
    return image


def wrong_reference(image: Tensor, change: ReferenceChange, noise: Tensor) -> Tensor:
    """An image that has nothing to do with the clip.

    Args:
        image: ``(3, H, W)``, the right one.
        change: names the kind.
        noise: same shape, uniform in [0, 1]; used by the kind of that name.
    """
    if change.wrong == "black":
        return torch.zeros_like(image)
    if change.wrong == "shifted":
        return torch.roll(image, change.shift, dims=(-2, -1))
    return image.flip(-1).flip(-2).roll(1, dims=0) if change.wrong == "mirrored" else noise


_ADJUST: tuple[Callable[[Tensor, float], Tensor], ...] = (adjust_brightness, adjust_contrast, adjust_saturation)


class ReferenceAugmentation:
    """docs/method.md 4.4, per keyframe and in its order: colour jitter, blur, clamp, noise after the clamp.

    Args:
        jitter_probability: of colour jitter.
        jitter: brightness, contrast and saturation factors are drawn from 1 -+ this.
        blur_probability: of a 3x3 Gaussian blur.
        blur_sigma: its range.
        noise_sigma: of Gaussian noise, in the [-1, 1] range as published.
        wrong_probability: of a keyframe that does not belong to the clip (black, shifted, mirrored or noise).

    Raises:
        ConfigError: a probability is outside 0 to 1.
    """

    def __init__(
        self,
        jitter_probability: float = 0.5,
        jitter: float = 0.1,
        blur_probability: float = 0.3,
        blur_sigma: Sequence[float] = (0.1, 1.0),
        noise_sigma: float = 0.05,
        wrong_probability: float = 0.0,
    ) -> None:
        for name, value in (
            ("jitter_probability", jitter_probability),
            ("blur_probability", blur_probability),
            ("wrong_probability", wrong_probability),
        ):
            if not 0 <= value <= 1:
                msg = f"keyframes.augmentation.{name}={value} must lie between 0 and 1"
                raise ConfigError(msg)
        self._jitter_probability, self._jitter = jitter_probability, jitter
        self._blur_probability, self._blur_sigma = blur_probability, (float(blur_sigma[0]), float(blur_sigma[1]))
        self._noise_sigma, self._wrong_probability = noise_sigma, wrong_probability

    def __call__(self, keyframes: Tensor, rng: np.random.Generator) -> Tensor:
        """Augment ``(K, 3, H, W)`` in [0, 1]; the noise may leave that range, as it does in the published code."""
        if not len(keyframes):
            return keyframes
        drawn = self.draw(len(keyframes), tuple(keyframes.shape[-2:]), rng)
        return torch.stack([augment_reference(image, one) for image, one in zip(keyframes, drawn, strict=True)])

    def draw(self, count: int, size: tuple[int, ...], rng: np.random.Generator) -> list[ReferenceChange]:
        """What to do to so many keyframes of ``(H, W)``; calling the object draws the same and does it."""
        return [self._draw_one(size, rng) for _ in range(count)]

    def _draw_one(self, size: tuple[int, ...], rng: np.random.Generator) -> ReferenceChange:
        if self._wrong_probability and rng.random() < self._wrong_probability:
            kind = WRONG_KINDS[int(rng.integers(len(WRONG_KINDS)))]
            shift = (int(rng.integers(8, max(9, size[0] // 2))), int(rng.integers(8, max(9, size[1] // 2))))
            return ReferenceChange(wrong=kind, shift=shift, seed=draw_seed(rng))
        factors: tuple[float, ...] | None = None
        order: tuple[int, ...] = ()
        if rng.random() < self._jitter_probability:
            factors = tuple(float(f) for f in rng.uniform(1 - self._jitter, 1 + self._jitter, 3))
            order = tuple(int(step) for step in rng.permutation(3))
        blur = float(rng.uniform(*self._blur_sigma)) if rng.random() < self._blur_probability else 0.0
        return ReferenceChange(factors, order, blur, self._noise_sigma / 2, seed=draw_seed(rng))


class IsrReferences:
    """Keyframes made from the LR frame by an image upscaler instead of taken from the ground truth.

    In use there is no ground truth; a model trained on it alone trusts its keyframes too much. Results are kept on disk
    under a checksum of the LR frame and of the upscaler with its weights, so a frame that comes again (precomputed
    samples, stills) costs nothing, and another upscaler makes its own.

    Args:
        ratio: share of samples whose keyframes are made, 0 to 1.
        upscaler: as ``sparkvsr upscale --references`` takes it (but no folder of images), or a function
            ``(lr, size) -> hr``.
        folder: cache.

    Raises:
        ConfigError: ``ratio`` is outside 0 to 1.
    """

    def __init__(self, ratio: float, upscaler: str | ImageUpscaler, folder: str | Path) -> None:
        if not 0 <= ratio <= 1:
            msg = f"keyframes.isr.ratio={ratio} must lie between 0 and 1"
            raise ConfigError(msg)
        self.ratio = ratio
        self._upscaler = upscaler
        self._folder = expanded(folder)
        self._loaded: ImageUpscaler | None = None if isinstance(upscaler, str) else upscaler
        self._identity = "function"

    def check(self) -> None:
        """Load the upscaler now rather than in hour nine.

        Raises:
            SparkVSRError: it is unknown or its weights are missing.
        """
        if self.ratio > 0:
            self._load()

    def make(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        """HR images of LR frames.

        Args:
            lr: ``(K, 3, h, w)`` float in [0, 1].
            size: ``(H, W)``.

        Returns:
            ``(K, 3, H, W)`` float32 in [0, 1], 8-bit values.
        """
        return torch.stack([self._cached(image, size) for image in lr])

    def _cached(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        digest = hashlib.sha256(lr.mul(255).round().to(torch.uint8).contiguous().numpy().tobytes())
        upscale = self._load()
        digest.update(f"{self._identity} {size}".encode())
        file = self._folder / digest.hexdigest()[:2] / f"{digest.hexdigest()[2:34]}.npy"
        if file.is_file():
            return torch.from_numpy(np.load(file, allow_pickle=False)).float().div(255)
        image = upscale(lr, size).clamp(0, 1).mul(255).round().to(torch.uint8)
        file.parent.mkdir(parents=True, exist_ok=True)
        # Several workers may make the same image at once: write aside, then rename.
        handle, aside = tempfile.mkstemp(dir=file.parent, suffix=".npy")
        with os.fdopen(handle, "wb") as stream:
            np.save(stream, image.numpy())
        Path(aside).replace(file)
        return image.float().div(255)

    def _load(self) -> ImageUpscaler:
        if self._loaded is None:
            from sparkvsr.keyframes.references import make_reference_maker

            maker = make_reference_maker(str(self._upscaler))
            if maker.holds_images:
                msg = (
                    f"keyframes.isr.upscaler={self._upscaler} is a folder of images; training needs an upscaler: lite, "
                    "bicubic, realesrgan or a weight file"
                )
                raise ConfigError(msg)
            self._identity = maker.identity(0)
            self._loaded = lambda lr, size: maker.make(lr, size)
        return self._loaded
