"""The trained weights as one process of a run holds them, whichever strategy cuts them up.

A view gives float32 tensors that the optimiser changes in place: the parameters themselves, FSDP's shards of them, or
ZeRO's partitions of the float32 master copies. The moving average works on these: every process averages what it holds,
and nothing travels until a checkpoint is written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from sparkvsr.training.strategies import strategy_kind

Values = dict[str, Tensor]


class WeightView(ABC):
    """Trained weights of a network in this process."""

    @abstractmethod
    def tensors(self) -> Values:
        """What this process holds, by name; not copies."""

    @abstractmethod
    def whole(self, values: Values) -> Values:
        """Put together what the processes hold: all values on the CPU of the first process, nothing on the others.

        Every process has to call it.

        Args:
            values: same names and shapes as ``tensors``.
        """

    def sharded(self, values: Values) -> Values | None:
        """The same as distributed tensors, where nothing has to travel for it; None where there is no such form.

        Args:
            values: same names and shapes as ``tensors``.
        """
        del values
        return None

    @abstractmethod
    def parts(self, whole: Mapping[str, Tensor]) -> Values:
        """The inverse of ``whole``, with all values given on every process; new tensors beside those of the network."""

    @abstractmethod
    def publish(self) -> None:
        """Let the network compute with ``tensors`` after they were changed in place."""


def weight_view(trainer: Trainer, network: nn.Module) -> WeightView:
    """The view that fits the trainer's strategy, once the strategy is set up."""
    if strategy_kind(trainer.strategy) == "deepspeed":
        return ZeroWeights(trainer.strategy.model, network)
    return ParameterWeights(network, is_first=trainer.is_global_zero)


class ParameterWeights(WeightView):
    """Whole parameters (one process, DDP) or FSDP's shards of them.

    Args:
        network: the trained one.
        is_first: whether this is the process that writes checkpoints.
    """

    def __init__(self, network: nn.Module, *, is_first: bool) -> None:
        self._network, self._is_first = network, is_first

    def tensors(self) -> Values:
        """See ``WeightView``."""
        return {name: _local(p.detach()) for name, p in self._network.named_parameters() if p.requires_grad}

    def whole(self, values: Values) -> Values:
        """See ``WeightView``."""
        result = {}
        for name, parameter in self._parameters():
            value: Any = values[name]
            if _is_sharded(parameter):
                value = _like(value, parameter).full_tensor()
            if self._is_first:
                result[name] = value.detach().cpu().clone()
        return result

    def sharded(self, values: Values) -> Values | None:
        """See ``WeightView``."""
        parameters = self._parameters()
        if not any(_is_sharded(parameter) for _, parameter in parameters):
            return None
        return {name: _like(values[name], p) if _is_sharded(p) else values[name] for name, p in parameters}

    def parts(self, whole: Mapping[str, Tensor]) -> Values:
        """See ``WeightView``."""
        result = {}
        for name, parameter in self._parameters():
            if _is_sharded(whole[name]):
                result[name] = _local(whole[name]).to(parameter.device, parameter.dtype).clone()
                continue
            value = whole[name].to(parameter.device, parameter.dtype)
            if _is_sharded(parameter):
                from torch.distributed.tensor import distribute_tensor

                value = _local(distribute_tensor(value, parameter.device_mesh, parameter.placements))
            result[name] = value.clone()
        return result

    def publish(self) -> None:
        """See ``WeightView``: the network computes with them anyway."""

    def _parameters(self) -> list[tuple[str, Any]]:
        return [(name, p) for name, p in self._network.named_parameters() if p.requires_grad]


class ZeroWeights(WeightView):
    """The float32 partitions of DeepSpeed's ZeRO stages 1 and 2.

    Args:
        engine: of DeepSpeed.
        network: the trained one.
    """

    def __init__(self, engine: Any, network: nn.Module) -> None:
        self._optimizer, self._network = engine.optimizer, network
        self._is_first = engine.global_rank == 0

    def tensors(self) -> Values:
        """See ``WeightView``."""
        return {f"group{i}": flat.data for i, flat in enumerate(self._optimizer.single_partition_of_fp32_groups)}

    def whole(self, values: Values) -> Values:
        """See ``WeightView``."""
        from deepspeed.utils import safe_get_full_fp32_param

        result = {}
        kept = self._replace(values)
        for name, parameter in self._network.named_parameters():
            if not parameter.requires_grad:
                continue
            full = safe_get_full_fp32_param(parameter)
            if self._is_first:
                result[name] = full.detach().cpu().clone()
        self._replace(kept)
        return result

    def parts(self, whole: Mapping[str, Tensor]) -> Values:
        """See ``WeightView``."""
        from deepspeed.utils import safe_set_full_fp32_param

        kept = {name: value.clone() for name, value in self.tensors().items()}
        for name, parameter in self._network.named_parameters():
            if parameter.requires_grad:
                safe_set_full_fp32_param(parameter, whole[name].to(parameter.device, torch.float32))
        return self._replace(kept)

    def publish(self) -> None:
        """See ``WeightView``: the bf16 weights follow the float32 ones."""
        self._optimizer.update_lp_params()

    def _replace(self, values: Values) -> Values:
        """Write values into the partitions; the former ones come back."""
        before = {}
        for name, tensor in self.tensors().items():
            before[name] = tensor.clone()
            tensor.copy_(values[name])
        return before


def _is_sharded(parameter: Any) -> bool:
    return hasattr(parameter, "placements")


def _local(tensor: Any) -> Tensor:
    return tensor.to_local() if _is_sharded(tensor) else tensor


def _like(local: Tensor, parameter: Any) -> Any:
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        local, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
    )
