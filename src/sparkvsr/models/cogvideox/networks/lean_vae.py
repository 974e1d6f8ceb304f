"""The library's autoencoder blocks with less memory and traffic, same parameters and same arithmetic.

At 33x720x1280 in bf16 a decode of the library's blocks peaks at 39.4 GiB (traced, see ``tracing``), and whole frames of
1088x1920 fail in it outright: its convolution splits time into parts shorter than the kernel. Swapped in here, for
inference only (with gradients on, the library's own forward runs):

* 1x1x1 convolutions keep no cache (the library's slice ``[:, :, -0:]`` keeps their whole input);
* the decoder's conditional norm convolves the latents *before* it enlarges them, and scales in place;
* activations and the residual sum are in place, and a block lets go of each tensor as soon as it is used;
* large convolutions are split so that every part is longer than the kernel, into one output.

* on the CPU a 3-D convolution runs as three 2-D ones, for which there is a fast kernel.

Only the second and the last point can change a value, by rounding: the same products are summed in another order.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import (
    CogVideoXCausalConv3d,
    CogVideoXResnetBlock3D,
    CogVideoXSafeConv3d,
    CogVideoXSpatialNorm3D,
)
from torch import Tensor, nn

MAX_CONV_ELEMENTS = 1 << 30
"""Input elements of one convolution call; cuDNN gets slow, or fails, where 32-bit indices overflow."""


class BoundedConv3d(CogVideoXSafeConv3d):
    """Convolution that splits time for huge inputs."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``(B, C, F, H, W)``, padded in time by the caller."""
        plain = self.stride[0] == 1 and self.dilation == (1, 1, 1) and not torch.is_grad_enabled()
        if input.device.type == "cpu" and self.kernel_size[0] > 1 and plain:
            return self._by_frames(input)
        frames, kernel = input.shape[2], self.kernel_size[0]
        outputs = frames - kernel + 1
        parts = -(-input.numel() // MAX_CONV_ELEMENTS)
        if parts <= 1 or outputs <= 1 or self.stride[0] != 1:
            return nn.Conv3d.forward(self, input)
        step = -(-outputs // parts)
        joined: Tensor | None = None
        for start in range(0, outputs, step):
            part = nn.Conv3d.forward(self, input[:, :, start : min(start + step, outputs) + kernel - 1])
            if joined is None:
                joined = part.new_empty(*part.shape[:2], outputs, *part.shape[3:])
            joined[:, :, start : start + part.shape[2]] = part
        assert joined is not None
        return joined

    def _by_frames(self, input: Tensor) -> Tensor:
        """Sum one 2-D convolution per step in time: the CPU has a fast kernel for those and none for this one."""
        batch, kernel = input.shape[0], self.kernel_size[0]
        outputs = input.shape[2] - kernel + 1
        planes = input.transpose(1, 2).contiguous()
        total: Tensor | None = None
        for step in range(kernel):
            part = planes[:, step : step + outputs].flatten(0, 1)
            bias = self.bias if step == 0 else None
            product = F.conv2d(part, self.weight[:, :, step], bias, self.stride[1:], self.padding[1:])
            total = product if total is None else total.add_(product)
        assert total is not None
        return total.unflatten(0, (batch, outputs)).transpose(1, 2)


class PointwiseConv3d(CogVideoXCausalConv3d):
    """1x1x1 causal convolution: it needs no past and keeps none."""

    def forward(  # type: ignore[override]  # the library annotates the wrong type
        self, inputs: Tensor, conv_cache: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Convolve ``(B, C, F, H, W)``; the cache is ignored and None comes back for it."""
        del conv_cache
        return self.conv(inputs), None


class LeanSpatialNorm3D(CogVideoXSpatialNorm3D):
    """Group norm scaled and shifted by the latents, which stay small until they are used."""

    def forward(  # type: ignore[override]
        self, f: Tensor, zq: Tensor, conv_cache: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Norm features ``f`` ``(B, C, F, H, W)`` by latents ``zq`` ``(B, C, F', h, w)``; the cache stays empty."""
        if torch.is_grad_enabled():
            return super().forward(f, zq, conv_cache)  # type: ignore[return-value]
        scale, shift = self.conv_y.conv(zq), self.conv_b.conv(zq)
        result = self.norm_layer(f)
        for index, (start, stop) in enumerate(frames_of_latents(zq.shape[2], f.shape[2])):
            part = result[:, :, start:stop]
            part.mul_(_enlarge(scale[:, :, index], f.shape[-2:])[:, :, None])
            part.add_(_enlarge(shift[:, :, index], f.shape[-2:])[:, :, None])
        return result, {}


def frames_of_latents(num_latents: int, num_frames: int) -> list[tuple[int, int]]:
    """Frames ``[start, stop)`` that each latent frame conditions: the library's nearest-neighbour rule in time.

    An odd number of frames above one gives the first frame to the first latent frame alone.
    """
    lead = 1 if num_frames > 1 and num_frames % 2 == 1 else 0
    latents, frames = num_latents - lead, num_frames - lead
    if lead and not latents:
        # One latent frame cannot be split; the library would fail here as well.
        msg = f"{num_frames} frames cannot be conditioned by {num_latents} latent frame"
        raise ValueError(msg)
    ranges = [(lead + -(-i * frames // latents), lead + -(-(i + 1) * frames // latents)) for i in range(latents)]
    return [(0, 1), *ranges] if lead else ranges


def _enlarge(values: Tensor, size: torch.Size) -> Tensor:
    return values if values.shape[-2:] == size else F.interpolate(values, size=tuple(size))


class LeanResnetBlock3D(CogVideoXResnetBlock3D):
    """Residual block that works in place and lets go early."""

    def forward(  # type: ignore[override]
        self,
        inputs: Tensor,
        temb: Tensor | None = None,
        zq: Tensor | None = None,
        conv_cache: dict[str, Any] | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Run the block on ``(B, C, F, H, W)``; the cache that comes back holds what the next frames need."""
        if torch.is_grad_enabled() or temb is not None or self.use_conv_shortcut:
            return super().forward(inputs, temb, zq, conv_cache)  # type: ignore[return-value]
        past: dict[str, Any] = conv_cache or {}
        kept: dict[str, Any] = {}
        # Held in a list, so that the normed tensor is free while the convolution runs on its padded copy.
        held = [self._activate(self.norm1, inputs, zq)]
        held = [_causal(self.conv1, held, past.get("conv1"), kept, "conv1")]
        held = [self._activate(self.norm2, held.pop(), zq)]
        hidden = _causal(self.conv2, held, past.get("conv2"), kept, "conv2")
        residual = self.conv_shortcut(inputs) if self.in_channels != self.out_channels else inputs
        return hidden.add_(residual), kept

    def _activate(self, norm: nn.Module, values: Tensor, zq: Tensor | None) -> Tensor:
        normed = norm(values) if zq is None else norm(values, zq)[0]
        return F.silu(normed, inplace=True)


def _causal(
    layer: CogVideoXCausalConv3d, held: list[Tensor], cache: Tensor | None, kept: dict[str, Any], name: str
) -> Tensor:
    values = held.pop()
    lead = [values[:, :, :1]] * (layer.time_kernel_size - 1) if cache is None else [cache]
    padded = torch.cat([*lead, values], dim=2)
    del values, lead
    kept[name] = padded[:, :, -layer.time_kernel_size + 1 :].clone()
    return layer.conv(padded)


def make_lean(vae: nn.Module) -> nn.Module:
    """Swap the blocks of an ``AutoencoderKLCogVideoX`` in place; parameters and names stay."""
    swaps: dict[type, type] = {
        CogVideoXSafeConv3d: BoundedConv3d,
        CogVideoXSpatialNorm3D: LeanSpatialNorm3D,
        CogVideoXResnetBlock3D: LeanResnetBlock3D,
    }
    for module in vae.modules():
        swap = swaps.get(type(module))
        if type(module) is CogVideoXCausalConv3d and module.time_kernel_size == 1:
            swap = PointwiseConv3d
        if isinstance(module, CogVideoXResnetBlock3D) and not isinstance(module.nonlinearity, nn.SiLU):
            continue
        if swap is not None:
            module.__class__ = swap
    return vae
