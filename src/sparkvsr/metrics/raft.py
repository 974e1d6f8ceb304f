"""Warping error with RAFT flow, as the SparkVSR authors' script computes it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.errors import MetricError

_ITERATIONS = 20


class RaftFlow:
    """torchvision's RAFT-large (``C_T_V1`` is "RAFT-things" of the original paper).

    Args:
        state: its named tensors.
        device: where it computes.

    Raises:
        MetricError: the tensors belong to another network.
    """

    def __init__(self, state: dict[str, Tensor], device: str = "cpu") -> None:
        from torchvision.models.optical_flow import raft_large

        self._network = raft_large(weights=None).to(device).eval()
        try:
            self._network.load_state_dict(state)
        except RuntimeError as exc:
            msg = "the RAFT weight file does not fit torchvision's raft_large; use raft_large_C_T_V1-22a6c225.pth"
            raise MetricError(msg) from exc
        self._device = device

    @torch.inference_mode()
    def warping_error(self, first: Tensor, second: Tensor) -> float:
        """Mean squared error between ``first`` and ``second`` warped back to it, x1000.

        Args:
            first, second: ``(1, 3, H, W)`` float in [0, 1], neighbouring frames, at least 128 pixels a side.
        """
        first, second = first.to(self._device), second.to(self._device)
        height, width = first.shape[-2:]
        # RAFT needs multiples of 8 and values in -1..1 (torchvision's form of the original's 0..255).
        padding = (0, -width % 8, 0, -height % 8)
        a, b = (F.pad(x, padding, mode="replicate") * 2 - 1 for x in (first, second))
        flow = self._network(a, b, num_flow_updates=_ITERATIONS)[-1][..., :height, :width]
        rows, columns = torch.meshgrid(
            torch.arange(height, device=flow.device), torch.arange(width, device=flow.device), indexing="ij"
        )
        grid = torch.stack(
            [(columns + flow[0, 0]) * 2 / (width - 1) - 1, (rows + flow[0, 1]) * 2 / (height - 1) - 1], dim=-1
        )
        warped = F.grid_sample(second, grid[None], align_corners=True)
        return float(((warped - first) ** 2).mean() * 1000)
