"""Strategies that share one model out over several processes: FSDP and DeepSpeed's ZeRO.

Lightning's own, with what they lack for this use: the places where a network is cut, checkpoints as one file or in
shards by one switch, batches that stay float32, and a CPU as the device, so that all of it is tested without a GPU.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.plugins.precision import DeepSpeedPrecision, Precision
from lightning.pytorch.strategies import DeepSpeedStrategy, ModelParallelStrategy, ParallelStrategy, Strategy
from torch import nn

from sparkvsr.errors import ConfigError
from sparkvsr.training.adapters.interface import TrainingAdapter
from sparkvsr.training.shard_writer import ShardWriter, load_average, put_average, take_average
from sparkvsr.training.sharded_files import data_only, list_deepspeed_classes, read_metadata

FULL, SHARDED = "full", "sharded"


class ShardedStrategy(ModelParallelStrategy):
    """Fully sharded data parallel training (torch's ``fully_shard``): weights, gradients, optimiser state are cut up.

    Each repeated block of the network is gathered when its turn comes and given back after it. Frozen parts, such as
    the VAE, stay whole on every process.

    Args:
        checkpoints: ``full``: one file, gathered on the first process; ``sharded``: a folder to which every process
            writes its part, faster and in less memory. ``sparkvsr export`` and ``ckpt=`` take both.
        asynchronous: sharded checkpoints are written while the training goes on; each process first copies its part
            to main memory. The folder gets its name when it is whole.
        shard_over: processes that share one model; the others hold copies of it (hybrid sharding), so that the
            weights travel within a node only. None shares it over all.
        process_group_backend: of torch.distributed; None chooses by device.

    Raises:
        ConfigError: ``checkpoints`` is neither, or ``shard_over`` is below 1.
    """

    def __init__(
        self,
        checkpoints: str = FULL,
        process_group_backend: str | None = None,
        *,
        asynchronous: bool = True,
        shard_over: int | None = None,
    ) -> None:
        if shard_over is not None and shard_over < 1:
            msg = f"trainer.strategy.shard_over={shard_over} must be at least 1, or null for all processes"
            raise ConfigError(msg)
        if checkpoints not in (FULL, SHARDED):
            msg = (
                f"trainer.strategy.checkpoints={checkpoints} is unknown; use {FULL} (one file) or {SHARDED} (a folder)"
            )
            raise ConfigError(msg)
        super().__init__(
            save_distributed_checkpoint=checkpoints == SHARDED, process_group_backend=process_group_backend
        )
        self._shard_over = shard_over
        self._writer = ShardWriter() if checkpoints == SHARDED and asynchronous else None

    def setup_environment(self) -> None:
        """All processes hold parts of one model and work on different samples.

        Raises:
            ConfigError: ``shard_over`` does not divide the processes.
        """
        self._data_parallel_size = processes = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        if self._shard_over is not None and processes % self._shard_over:
            msg = (
                f"trainer.strategy.shard_over={self._shard_over} must divide the {processes} processes of this run; "
                f"use the number of GPUs of a node, or null"
            )
            raise ConfigError(msg)
        super().setup_environment()

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Lightning's, with the checkpoint read as data.

        Raises:
            WeightsError: it holds anything else.
        """
        folder = Path(checkpoint_path)
        if folder.is_dir():
            read_metadata(folder)
        with data_only(folder):
            loaded = super().load_checkpoint(checkpoint_path, weights_only)
            if folder.is_dir():
                put_average(loaded, load_average(folder, self._network()))
            return loaded

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None) -> None:
        """Lightning's; sharded ones take the moving average along in shards, and may be written in the background."""
        if not self.save_shards:
            super().save_checkpoint(checkpoint, filepath, storage_options)
            return
        path = Path(self.broadcast(filepath))
        state = {"state_dict": checkpoint.pop("state_dict"), **take_average(checkpoint)}
        for index, optimizer in enumerate(checkpoint.pop("optimizer_states", [])):
            state[f"optimizer_{index}"] = optimizer
        writer = self._writer or ShardWriter()
        writer.write(state, checkpoint, path, is_first=self.global_rank == 0)
        # After the fit nobody waits for it any more: it has to be there when this returns.
        if self._writer is None or self._is_over:
            writer.finish()

    @property
    def save_shards(self) -> bool:
        """Whether checkpoints are folders of shards."""
        return bool(self._save_distributed_checkpoint)

    _is_over = False

    def remove_checkpoint(self, filepath: str | Path) -> None:
        """Lightning's; the last whole checkpoint is not removed before the next one is whole."""
        if self._writer is not None and not self._writer.has_whole_beside(Path(filepath)):
            self._writer.finish()
        super().remove_checkpoint(filepath)

    def teardown(self) -> None:
        """Lightning's hook at the end of a fit, whatever ended it."""
        self._is_over = True
        if self._writer is not None:
            self._writer.finish()
        super().teardown()

    def _network(self) -> nn.Module:
        module: Any = self.lightning_module
        network: nn.Module = module.adapter.network
        return network

    def shard(self, adapter: TrainingAdapter) -> None:
        """Cut the adapter's network up over the processes, in place."""
        try:
            from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
        except ImportError:  # torch before 2.6
            from torch.distributed._composable.fsdp import (
                MixedPrecisionPolicy,
                fully_shard,
            )

        # Gathered in bf16 where the arithmetic is bf16, summed in float32. Inputs are left to autocast: the rotary
        # embedding's tables must stay float32.
        lean = self.precision_plugin.precision == "bf16-mixed"
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if lean else None,
            reduce_dtype=torch.float32 if lean else None,
            cast_forward_inputs=False,
        )
        mesh = self._mesh()
        blocks = adapter.sharded_blocks()
        for module in adapter.network.modules():
            if isinstance(module, blocks):
                fully_shard(module, mesh=mesh, mp_policy=policy)
        # Given back after the forward pass as well: validation has no backward pass that would do it, and a checkpoint
        # or a moving average taken then would meet whole parameters.
        fully_shard(adapter.network, mesh=mesh, mp_policy=policy, reshard_after_forward=True)

    def _mesh(self) -> Any:
        """One dimension of processes, or copies x shards."""
        if self._shard_over is None:
            return self.device_mesh["data_parallel"]
        from torch.distributed.device_mesh import init_device_mesh

        shape = (self.num_nodes * self.num_processes // self._shard_over, self._shard_over)
        return init_device_mesh(self.root_device.type, shape, mesh_dim_names=("copies", "shards"))


class ZeroStrategy(DeepSpeedStrategy):
    """DeepSpeed's ZeRO. The paper trains with stage 2: gradients and optimiser state are cut up, weights are whole.

    Args:
        stage: 1, 2 or 3.
        offload_optimizer: keep optimiser state in the main memory.

    Raises:
        ConfigError: the package is missing, or there is no such stage.
    """

    def __init__(self, stage: int = 2, *, offload_optimizer: bool = False) -> None:
        if importlib.util.find_spec("deepspeed") is None:
            msg = (
                "trainer=deepspeed needs the package deepspeed: pip install 'sparkvsr[deepspeed]', or use trainer=fsdp"
            )
            raise ConfigError(msg)
        if stage not in (1, 2, 3):
            msg = f"trainer.strategy.stage={stage} is unknown; ZeRO has the stages 1, 2 and 3"
            raise ConfigError(msg)
        super().__init__(stage=stage, offload_optimizer=offload_optimizer)
        self.stage = stage
        # The optimizer is that of the configuration, also where DeepSpeed has a faster one for the main memory.
        config: Any = self.config
        config["zero_force_ds_cpu_optimizer"] = False

    def setup_environment(self) -> None:
        """Lightning lets DeepSpeed run on CUDA only; DeepSpeed itself runs on CPUs too."""
        if isinstance(self.accelerator, CPUAccelerator):
            ParallelStrategy.setup_environment(self)
            self.setup_distributed()
        else:
            super().setup_environment()

    def setup_distributed(self) -> None:
        """See ``DeepSpeedStrategy``; CPUs have no numbers that could be in disorder."""
        if isinstance(self.accelerator, CPUAccelerator):
            self.set_world_ranks()
            self._init_deepspeed_distributed()
        else:
            super().setup_distributed()

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Lightning's, with the checkpoint read as data.

        Raises:
            WeightsError: it holds anything else.
        """
        list_deepspeed_classes()
        with data_only(Path(checkpoint_path)):
            return super().load_checkpoint(checkpoint_path, weights_only)

    @property
    def root_device(self) -> torch.device:
        """The device of this process; DeepSpeed wants a numbered one."""
        device = super().root_device
        return torch.device("cpu", 0) if device.type == "cpu" else device

    @property
    def precision_plugin(self) -> Precision:
        """Batches are left in float32: in bf16 the pixels would lose their last bits before the VAE sees them."""
        return super().precision_plugin

    @precision_plugin.setter
    def precision_plugin(self, plugin: Precision | None) -> None:
        if isinstance(plugin, DeepSpeedPrecision):
            plugin = _KeptInputs(plugin.precision)  # type: ignore[arg-type]
        self._precision_plugin = plugin


class _KeptInputs(DeepSpeedPrecision):
    def convert_input(self, data: Any) -> Any:
        return data


def strategy_kind(strategy: Strategy) -> str:
    """Who can read a checkpoint's optimiser state again: ``replicated`` (one process, DDP), ``fsdp``, ``deepspeed``."""
    if isinstance(strategy, ModelParallelStrategy):
        return "fsdp"
    return "deepspeed" if isinstance(strategy, DeepSpeedStrategy) else "replicated"


def check_strategy(strategy: Strategy, adapter: TrainingAdapter, *, averages: bool) -> None:
    """Refuse what cannot work before any process is started.

    Args:
        strategy: of the trainer.
        adapter: the model.
        averages: whether a moving average is kept.

    Raises:
        ConfigError: the model has no blocks to share out, or its float32 weights cannot be averaged where they are.
    """
    if averages and isinstance(strategy, ZeroStrategy) and strategy.stage == 3:
        msg = "optimizer.ema_decay works with ZeRO's stages 1 and 2: set trainer.strategy.stage=2, or the decay to 0"
        raise ConfigError(msg)
    kind = strategy_kind(strategy)
    if kind != "replicated" and not adapter.sharded_blocks():
        msg = (
            f"trainer={kind} shares a large model out over processes; model={adapter.family} is small: use trainer=ddp"
        )
        raise ConfigError(msg)


def has_shards(network: nn.Module) -> bool:
    """Whether the network's weights are cut up already."""
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in network.parameters())
