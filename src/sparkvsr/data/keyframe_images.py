"""What a keyframe's image looks like in training: augmented ground truth, or the work of an image upscaler.

Shapes: K keyframes, h w LR pixels, H W HR pixels.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
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

from sparkvsr.errors import ConfigError

ImageUpscaler = Callable[[Tensor, tuple[int, int]], Tensor]


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
        return torch.stack([self._one(image, rng) for image in keyframes]) if len(keyframes) else keyframes

    def _one(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        if self._wrong_probability and rng.random() < self._wrong_probability:
            return _wrong(image, rng)
        if rng.random() < self._jitter_probability:
            image = self._jittered(image, rng)
        if rng.random() < self._blur_probability:
            image = gaussian_blur(image, [3, 3], [float(rng.uniform(*self._blur_sigma))])
        image = image.clamp(0, 1)
        if self._noise_sigma:
            noise = rng.standard_normal(tuple(image.shape), dtype=np.float32)
            image = image + torch.from_numpy(noise) * (self._noise_sigma / 2)
        return image

    def _jittered(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        brightness, contrast, saturation = rng.uniform(1 - self._jitter, 1 + self._jitter, 3)
        for step in rng.permutation(3):
            if step == 0:
                image = adjust_brightness(image, brightness)
            elif step == 1:
                image = adjust_contrast(image, contrast)
            else:
                image = adjust_saturation(image, saturation)
        return image


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
        self._folder = Path(folder).expanduser()
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


def _wrong(image: Tensor, rng: np.random.Generator) -> Tensor:
    kind = int(rng.integers(4))
    if kind == 0:
        return torch.zeros_like(image)
    if kind == 1:
        height, width = image.shape[-2:]
        shift = (int(rng.integers(8, max(9, height // 2))), int(rng.integers(8, max(9, width // 2))))
        return torch.roll(image, shift, dims=(-2, -1))
    if kind == 2:
        return image.flip(-1).flip(-2).roll(1, dims=0)
    return torch.from_numpy(rng.random(tuple(image.shape), dtype=np.float32))
