"""The keyframe networks as the rest of the project sees them: one image in, a larger one out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.errors import WeightsError
from sparkvsr.models.lite.detail import DETAIL_FILE, DetailUpscalerNet, detail_file, load_detail_upscaler
from sparkvsr.models.lite.network import SCALE, KeyframeUpscalerNet, to_pixels
from sparkvsr.models.lite.weights import embedded_folder, load_upscaler
from sparkvsr.models.whole_weights import read_and_named


class KeyframeUpscaler:
    """Upscales single images by the factor of its network, 4 or 2.

    Args:
        net: float32 network, taken over.
        device: where it runs.
        dtype: precision of the convolutions; None takes bf16 on CPUs that have it, else float32.
    """

    def __init__(
        self, net: KeyframeUpscalerNet, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype or default_dtype(self.device)
        self._net = net.to(self.device, self.dtype).to(memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def upscale(self, image: Tensor, tile: int | None = 256) -> Tensor:
        """Upscale one image.

        Args:
            image: ``(3, h, w)`` float in [0, 1].
            tile: side of a tile in LR pixels, None for the whole image at once; tiles leave no seams.

        Returns:
            ``(3, scale * h, scale * w)`` float32 in [0, 1] on the CPU.
        """
        if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
            msg = f"`image` must be float (3, h, w), got {image.dtype} {tuple(image.shape)}"
            raise ValueError(msg)
        lr = image.float().cpu()[None]
        h, w = lr.shape[-2:]
        scale, margin = self._net.config.scale, self._net.margin
        # The bicubic part and the sum stay float32: bf16 has fewer grey levels than the 8 bit of the input.
        out = F.interpolate(lr, scale_factor=scale, mode="bicubic", align_corners=False)
        side = tile or max(h, w)
        for y in range(0, h, side):
            for x in range(0, w, side):
                y0, x0, y1, x1 = max(0, y - margin), max(0, x - margin), min(h, y + side), min(w, x + side)
                part = lr[:, :, y0 : min(h, y1 + margin), x0 : min(w, x1 + margin)].to(self.device, self.dtype)
                residual = self._net.residual(part.contiguous(memory_format=torch.channels_last))
                inner = residual[:, :, y - y0 : y1 - y0, x - x0 : x1 - x0].float().cpu()
                out[:, :, scale * y : scale * y1, scale * x : scale * x1] += to_pixels(inner, scale)
        return out[0].clamp_(0, 1)


EDGE = 4
"""LR pixels by which a picture is continued for the detail network, whose convolutions see zeros behind its edge:
without, the outermost pixels of a plain colour are up to 21 of 255 off, with 4 as little as in the middle."""


class DetailUpscaler:
    """Upscales single images by 4 or 2 for the eye: it removes noise and blocking, and invents detail.

    By 2 it is its picture of 4 times the size made smaller, piece by piece, so that the large one never exists.

    Args:
        net: float32 network, taken over.
        device: where it runs.
        dtype: precision; None takes bf16 on CPUs that have it, else float32.
        fingerprint: of the weights.
    """

    def __init__(
        self,
        net: DetailUpscalerNet,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        fingerprint: str = "",
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype or default_dtype(self.device)
        self.fingerprint = fingerprint
        self._net = net.to(self.device, self.dtype).to(memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def upscale(self, image: Tensor, tile: int | None = 256, scale: int = SCALE) -> Tensor:
        """See ``KeyframeUpscaler.upscale``; tiles agree within rounding.

        Args:
            image: ``(3, h, w)`` float in [0, 1].
            tile: side of a tile in LR pixels, None for the whole image at once.
            scale: 4 or 2.

        Returns:
            ``(3, scale * h, scale * w)`` float32 in [0, 1] on the CPU.
        """
        if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
            msg = f"`image` must be float (3, h, w), got {image.dtype} {tuple(image.shape)}"
            raise ValueError(msg)
        lr = F.pad(image.float().cpu()[None], (EDGE,) * 4, mode="replicate")
        h, w = lr.shape[-2:]
        out = torch.empty(1, 3, scale * h, scale * w).contiguous(memory_format=torch.channels_last)
        margin = self._net.margin
        # A frame that is hardly larger than a tile stays whole: the surroundings of two tiles would cost more.
        side = max(h, w) if tile is None or h * w <= 1.25 * tile * tile else tile
        for y in range(0, h, side):
            for x in range(0, w, side):
                y0, x0, y1, x1 = max(0, y - margin), max(0, x - margin), min(h, y + side), min(w, x + side)
                part = lr[:, :, y0 : min(h, y1 + margin), x0 : min(w, x1 + margin)].to(self.device, self.dtype)
                made = self._net(part.contiguous(memory_format=torch.channels_last)).float().cpu()
                if scale != SCALE:
                    size = (scale * part.shape[-2], scale * part.shape[-1])
                    made = F.interpolate(made, size=size, mode="bicubic", antialias=True, align_corners=False)
                inner = made[:, :, scale * (y - y0) : scale * (y1 - y0), scale * (x - x0) : scale * (x1 - x0)]
                out[:, :, scale * y : scale * y1, scale * x : scale * x1] = inner
        edge = scale * EDGE
        return out[0, :, edge:-edge, edge:-edge].clamp(0, 1)


def load_detail(
    folder: Path | None = None, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> DetailUpscaler:
    """The detail network of a lite folder, or the embedded one.

    Raises:
        WeightsError: the weight file is missing or damaged.
    """
    path = detail_file(folder)
    if path is None:
        msg = (
            f"{folder or embedded_folder()} has no {DETAIL_FILE}, the network of the vivid look; export the model "
            f"again, or take --look faithful"
        )
        raise WeightsError(msg)
    net, fingerprint = read_and_named(
        lambda: load_detail_upscaler(folder), lambda: hashlib.sha256(path.read_bytes()).hexdigest(), path
    )
    assert net is not None
    return DetailUpscaler(net, device, dtype, fingerprint)


def load_keyframe_upscaler(
    path: str | Path | None = None, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> KeyframeUpscaler:
    """The keyframe upscaler of a lite folder, or the embedded one.

    Raises:
        WeightsError: the weight file is missing or damaged.
    """
    return KeyframeUpscaler(load_upscaler(None if path is None else Path(path)), device, dtype)


def default_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the CPU multiplies it natively, else float32; float16 on Apple GPUs is not worth its risks."""
    if device.type == "cpu":
        return torch.bfloat16 if cpu_has_fast_bf16() else torch.float32
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def cpu_has_fast_bf16() -> bool:
    """Whether the CPU has bf16 dot products (AVX512-BF16 or AMX); emulated bf16 is slower than float32."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        check = getattr(torch.cpu, name, None)
        if check is not None and check():
            return True
    return False
