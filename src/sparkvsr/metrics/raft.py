"""Warping error with RAFT flow, as the SparkVSR authors' script computes it."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.errors import MetricError

MIN_SIDE = 128
_ITERATIONS = 20

# Names of the original checkpoint (raft-things.pth) to torchvision's. Instance norms have no parameters, and the
# original's ``norm3`` is a second name of the batch norm in ``downsample``.
_RENAMED = (
    (r"^module\.", ""),
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^(\w+_encoder)\.conv1\.", r"\1.convnormrelu.0."),
    (r"^(\w+_encoder)\.norm1\.", r"\1.convnormrelu.1."),
    (r"^(\w+_encoder)\.conv2\.", r"\1.conv."),
    (r"(\.layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"(\.layer\d\.\d)\.norm(\d)\.", r"\1.convnormrelu\2.1."),
    (r"\.encoder\.convc(\d)\.", r".motion_encoder.convcorr\1.0."),
    (r"\.encoder\.convf(\d)\.", r".motion_encoder.convflow\1.0."),
    (r"\.encoder\.conv\.", ".motion_encoder.conv.0."),
    (r"\.gru\.conv([zrq])(\d)\.", r".recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)


class RaftFlow:
    """torchvision's RAFT-large (``C_T_V1`` is "RAFT-things" of the original paper).

    Args:
        state: its named tensors, or those of the original ``raft-things.pth``.
        device: where it computes.

    Raises:
        MetricError: the tensors belong to another network.
    """

    def __init__(self, state: dict[str, Tensor], device: str = "cpu") -> None:
        from torchvision.models.optical_flow import raft_large

        self._network = raft_large(weights=None).to(device).eval()
        try:
            self._network.load_state_dict(_torchvision_names(state))
        except RuntimeError as exc:
            msg = (
                "the RAFT weight file does not fit torchvision's raft_large; use raft_large_C_T_V1-22a6c225.pth or "
                "raft-things.pth"
            )
            raise MetricError(msg) from exc
        self._device = device

    @torch.inference_mode()
    def flow(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow from ``first`` to ``second``: ``(1, 2, H, W)`` pixels; images as in ``warping_error``."""
        height, width = first.shape[-2:]
        if min(height, width) < MIN_SIDE:
            msg = f"ewarp_raft needs at least {MIN_SIDE} pixels a side, got {width}x{height}; use ewarp_dis"
            raise MetricError(msg)
        # RAFT needs multiples of 8 and values in -1..1 (torchvision's form of the original's 0..255).
        padding = (0, -width % 8, 0, -height % 8)
        a, b = (F.pad(x.to(self._device), padding, mode="replicate") * 2 - 1 for x in (first, second))
        flow: Tensor = self._network(a, b, num_flow_updates=_ITERATIONS)[-1][..., :height, :width]
        return flow

    @torch.inference_mode()
    def warping_error(self, first: Tensor, second: Tensor) -> float:
        """Mean squared error between ``first`` and ``second`` warped back to it, x1000.

        Args:
            first, second: ``(1, 3, H, W)`` float in [0, 1], neighbouring frames, at least 128 pixels a side.
        """
        first, second = first.to(self._device), second.to(self._device)
        height, width = first.shape[-2:]
        flow = self.flow(first, second)
        rows, columns = torch.meshgrid(
            torch.arange(height, device=flow.device), torch.arange(width, device=flow.device), indexing="ij"
        )
        grid = torch.stack(
            [(columns + flow[0, 0]) * 2 / (width - 1) - 1, (rows + flow[0, 1]) * 2 / (height - 1) - 1], dim=-1
        )
        warped = F.grid_sample(second, grid[None], align_corners=True)
        return float(((warped - first) ** 2).mean() * 1000)


def _torchvision_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The original's tensors under torchvision's names; torchvision's own pass through."""
    if any(name.startswith("feature_encoder.") for name in state):
        return state
    renamed = {}
    for name, value in state.items():
        if ".norm3." in name:
            continue
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed
