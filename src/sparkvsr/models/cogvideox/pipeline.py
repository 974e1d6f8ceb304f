"""One chunk through the three stages: encode, transformer, decode (docs/method.md 3.1 to 3.3).

Shapes: B regions (tiles) of one chunk, L frames of the chunk, h w LR pixels, H W output pixels. Regions are
``(top, bottom, left, right)`` in pixels of the padded output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from sparkvsr.models.cogvideox.networks.conditioning import SlotRule, place_keyframes
from sparkvsr.models.cogvideox.networks.kernels import attention_by
from sparkvsr.models.cogvideox.networks.schedule import VelocityCoefficients
from sparkvsr.models.cogvideox.networks.transformer import restore_latents
from sparkvsr.models.cogvideox.networks.vae import VaeTiling, VideoVAE
from sparkvsr.models.cogvideox.plan.geometry import pad_to_network, upsample
from sparkvsr.models.cogvideox.plan.settings import RunSettings

Region = tuple[int, int, int, int]
StageHook = Callable[[str], AbstractContextManager[object]]


def no_stage(name: str) -> AbstractContextManager[object]:
    """Stage hook that measures nothing."""
    del name
    return nullcontext()


class ChunkPipeline:
    """The three networks' work on one chunk, without chunk or tile planning.

    Args:
        transformer: ``CogVideoXTransformer3DModel``.
        vae: wrapped autoencoder.
        prompt: ``(tokens, dim)`` empty-prompt embedding.
        coefficients: of the scheduler.
        device: where it computes.
        slot: keyframe slot rule.
        residency: gives a context in which a network ("transformer", "vae") is on the device.
        attention: of the transformer, see ``networks.kernels``.
    """

    def __init__(
        self,
        transformer: nn.Module,
        vae: VideoVAE,
        prompt: Tensor,
        coefficients: VelocityCoefficients,
        device: torch.device,
        slot: SlotRule,
        residency: Callable[[str, bool], AbstractContextManager[object]],
        attention: str = "auto",
    ) -> None:
        self.transformer, self.vae, self.prompt = transformer, vae, prompt
        self.coefficients, self.device, self.slot = coefficients, device, slot
        self.residency, self.attention = residency, attention
        self.stage: StageHook = no_stage

    @torch.inference_mode()
    def encode(
        self,
        lr: Tensor,
        size: tuple[int, int],
        regions: Sequence[Region],
        settings: RunSettings,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Upsample, pad and encode the same frames of several regions of equal size.

        Args:
            lr: ``(L, 3, h, w)`` in [0, 1] on the CPU; L is 8n + 1.
            size: ``(H, W)`` before padding.
            regions: tiles to cut.
            settings: only the VAE tiling is used.
            generator: for posterior sampling.

        Returns:
            ``(B, f, 16, th, tw)`` scaled latents on the device.
        """

        def frames(start: int, stop: int) -> Tensor:
            whole = pad_to_network(upsample(lr[start:stop].to(self.device), size))
            return torch.stack([whole[..., top:bottom, left:right] for top, bottom, left, right in regions])

        with self.stage("encode"), self.residency("vae", settings.swap):
            return self.vae.encode_from(frames, lr.shape[0], generator, settings.vae)

    @torch.inference_mode()
    def encode_keyframes(
        self,
        keyframes: Mapping[int, tuple[Tensor, float]],
        regions: Sequence[Region],
        settings: RunSettings,
        generator: torch.Generator | None = None,
    ) -> dict[int, Tensor]:
        """Encode keyframes one by one as single frames.

        Args:
            keyframes: ``(3, H, W)`` in [0, 1] and its weight, by frame index within the chunk.
            regions: tiles to cut.
            settings: only the VAE tiling is used.
            generator: for posterior sampling.

        Returns:
            ``(B, 1, 16, th, tw)`` by the same index, multiplied by the weight.
        """
        if not keyframes:
            return {}
        encoded: dict[int, Tensor] = {}
        with self.stage("encode"), self.residency("vae", settings.swap):
            for index, (image, weight) in keyframes.items():
                whole = pad_to_network(image[None].to(self.device).float())
                parts = torch.stack([whole[..., top:bottom, left:right] for top, bottom, left, right in regions])
                encoded[index] = self.vae.encode(parts, generator, settings.vae) * weight
        return encoded

    @torch.inference_mode()
    def restore(
        self, lr_latents: Tensor, keyframe_latents: Mapping[int, Tensor], guidance_scale: float, settings: RunSettings
    ) -> Tensor:
        """Run the transformer: ``(B, f, 16, th, tw)`` LR latents to restored latents of the same shape."""
        placed = place_keyframes(lr_latents, keyframe_latents, self.slot) if keyframe_latents else None
        with self.stage("transformer"), self.residency("transformer", settings.swap), attention_by(self.attention):
            return restore_latents(
                self.transformer,
                lr_latents,
                placed,
                self.prompt,
                self.coefficients,
                guidance_scale=guidance_scale,
                batch_guidance=settings.batch_guidance,
            )

    @torch.inference_mode()
    def decode(self, latents: Tensor, tiling: VaeTiling, swap: bool = False) -> Iterator[Tensor]:
        """Yield ``(B, n, 3, TH, TW)`` float32 frames in [0, 1] on the CPU, group by group."""
        with self.residency("vae", swap):
            pieces = self.vae.decode_pieces(latents, tiling)
            while True:
                with self.stage("decode"):
                    piece = next(pieces, None)
                    if piece is None:
                        return
                    piece = piece.cpu()
                yield piece
