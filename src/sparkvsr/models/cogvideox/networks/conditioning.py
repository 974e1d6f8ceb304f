"""Where keyframes enter: one latent per keyframe in the time slot it belongs to, zeros elsewhere (docs/method.md 3.2).

Shapes: B batch, f latent frames, C channels, h w latent cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor

from sparkvsr.errors import ConfigError, KeyframeError

SlotRule = Literal["floor", "exact"]
TEMPORAL_RATIO = 4


def keyframe_slot(index: int, rule: SlotRule = "floor") -> int:
    """Return the latent frame that takes the keyframe of pixel frame ``index`` of a chunk.

    ``floor`` is what the published weights were trained with. In a clip of 8n + 1 frames the frame itself lives in
    ``ceil(index / 4)``, so floor is one slot early unless the index is a multiple of 4 (docs/method.md 3.2);
    ``exact`` gives that slot.

    Raises:
        ConfigError: another rule.
    """
    if rule not in ("floor", "exact"):
        msg = f"slot={rule!r} is unknown; use 'floor' (as the published weights were trained) or 'exact'"
        raise ConfigError(msg)
    return index // TEMPORAL_RATIO if rule == "floor" else -(-index // TEMPORAL_RATIO)


def check_slots(indices: Iterable[int], rule: SlotRule = "floor") -> None:
    """Refuse two keyframes that would share a latent frame (the published code silently keeps the later one).

    Raises:
        KeyframeError: names both indices.
    """
    taken: dict[int, int] = {}
    for index in sorted(indices):
        slot = keyframe_slot(index, rule)
        if slot in taken:
            msg = (
                f"keyframes {taken[slot]} and {index} fall into one latent frame; this model needs keyframes at least "
                f"{TEMPORAL_RATIO} frames apart, best at multiples of {TEMPORAL_RATIO}: drop one of them"
            )
            raise KeyframeError(msg)
        taken[slot] = index


def one_per_slot(indices: Iterable[int], rule: SlotRule = "floor") -> list[int]:
    """Those of rising indices that ``check_slots`` accepts together: the first of each latent frame."""
    first: dict[int, int] = {}
    for index in indices:
        first.setdefault(keyframe_slot(index, rule), index)
    return list(first.values())


def place_keyframes(lr_latents: Tensor, keyframe_latents: Mapping[int, Tensor], rule: SlotRule = "floor") -> Tensor:
    """Build the keyframe half of the network's input.

    Args:
        lr_latents: ``(B, f, C, h, w)``; only shape, dtype and device are used.
        keyframe_latents: ``(B, 1, C, h, w)`` by pixel-frame index within the chunk, VAE-scaled.
        rule: see ``keyframe_slot``.

    Returns:
        ``(B, f, C, h, w)``: zeros but for the keyframe slots. There is no mask channel.

    Raises:
        KeyframeError: a keyframe lies outside the chunk.
    """
    placed = lr_latents.new_zeros(lr_latents.shape)
    for index, latents in keyframe_latents.items():
        slot = keyframe_slot(index, rule)
        if not 0 <= slot < lr_latents.shape[1]:
            msg = (
                f"keyframe {index} is outside the chunk ({lr_latents.shape[1]} latent frames); this is a planning error"
            )
            raise KeyframeError(msg)
        placed[:, slot] = latents[:, 0].to(placed)
    return placed
