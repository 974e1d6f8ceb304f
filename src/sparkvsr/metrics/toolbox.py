"""The heavy parts of metrics (networks, fitted parameters), built once a run and only when a metric needs them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sparkvsr.errors import MetricError
from sparkvsr.pretrained.weights import WeightStore

if TYPE_CHECKING:
    from torch import Tensor

    from sparkvsr.metrics.niqe import Niqe
    from sparkvsr.metrics.perceptual import PerceptualMetric
    from sparkvsr.metrics.raft import RaftFlow


class Toolbox:
    """Builds networks on first use.

    Args:
        store: where their weights are found.
        device: where networks run: ``cpu``, ``cuda``, or ``auto`` for a CUDA device if there is one.
    """

    def __init__(self, store: WeightStore, device: str = "cpu") -> None:
        self.store = store
        self._asked_device = device
        self._pyiqa: dict[str, Callable[[Tensor], Tensor]] = {}
        self._video: dict[str, Any] = {}

    @cached_property
    def device(self) -> str:
        """The device's name; torch is imported only when a network is needed."""
        if self._asked_device != "auto":
            return self._asked_device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def lpips_alex(self) -> PerceptualMetric:
        """LPIPS over AlexNet, of ``(1, 3, H, W)`` in [0, 1]."""
        return self._lpips("alex")

    @cached_property
    def lpips_vgg(self) -> PerceptualMetric:
        """LPIPS over VGG16, of ``(1, 3, H, W)`` in [0, 1]."""
        return self._lpips("vgg")

    @cached_property
    def dists(self) -> PerceptualMetric:
        """DISTS, of ``(1, 3, H, W)`` in [0, 1]."""
        from sparkvsr.metrics.perceptual import PerceptualMetric
        from sparkvsr.pretrained.perceptual import load_dists

        return PerceptualMetric(load_dists(self.store.require), self.device)

    @cached_property
    def niqe(self) -> Niqe:
        """NIQE, on a luma plane of 0 to 255.

        Raises:
            MetricError: its parameters are nowhere.
        """
        from sparkvsr.metrics.niqe import Niqe

        return Niqe(self.store.require("niqe").path)

    @cached_property
    def raft(self) -> RaftFlow:
        """RAFT-large, pixels of flow.

        Raises:
            MetricError: its weights are nowhere.
            MetricError: they belong to another network.
        """
        from sparkvsr.metrics.raft import RaftFlow
        from sparkvsr.pretrained.loading import state_dict

        return RaftFlow(state_dict(self.store.require("raft")), self.device)

    @cached_property
    def cvvdp(self) -> Any:
        """ColorVideoVDP (the class of ``pycvvdp``) for a full-HD display; JOD, at most 10.

        Raises:
            MetricError: the package cannot be imported.
        """
        try:
            import pycvvdp
        except ImportError as exc:
            msg = f"cvvdp cannot be imported ({exc}); install what it misses, or drop it from --metrics"
            raise MetricError(msg) from exc

        return pycvvdp.cvvdp(display_name="standard_fhd", quiet=True, device=self._torch_device())

    def pyiqa(self, name: str) -> Callable[[Tensor], Tensor]:
        """A no-reference metric of pyiqa: ``(1, 3, H, W)`` in [0, 1] to a score.

        Raises:
            MetricError: see ``pyiqa_bridge.load_pyiqa``.
        """
        if name not in self._pyiqa:
            from sparkvsr.metrics.pyiqa_bridge import load_pyiqa

            self._pyiqa[name] = load_pyiqa(name, self.store, self.device)
        return self._pyiqa[name]

    def video_network(self, name: str) -> Any:
        """The network of ``dover`` or ``fastervqa``.

        Raises:
            MetricError: see ``video_quality.load_network``.
        """
        if name not in self._video:
            from sparkvsr.metrics.video_quality import load_network
            from sparkvsr.pretrained.loading import state_dict

            self._video[name] = load_network(name, state_dict(self.store.require(name)), self.device)
        return self._video[name]

    def _lpips(self, name: str) -> PerceptualMetric:
        from sparkvsr.metrics.perceptual import PerceptualMetric
        from sparkvsr.pretrained.perceptual import load_lpips

        return PerceptualMetric(load_lpips(name, self.store.require), self.device)

    def _torch_device(self) -> Any:
        import torch

        return torch.device(self.device)
