"""Devices, number types and free memory: what a model may use."""

from __future__ import annotations

import sys

import psutil
import torch

from sparkvsr.errors import ConfigError

CPU_MEMORY_SHARE = 0.6
"""Of the memory that is free now: the model's own plan takes less where less is as fast."""


GPU_MEMORY_SHARE = 0.85

_OUT_OF_MEMORY = (
    "out of memory",  # CUDA, HIP and MPS, as plain RuntimeError or AcceleratorError
    "can't allocate memory",  # torch's CPU allocator
    "bad_alloc",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "cudaErrorMemoryAllocation",
    # A convolution for which no algorithm is left whose workspace fits: what a nearly full card gives.
    "unable to find an engine",
    "No available kernel. Aborting execution",
)


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated on a device now, what torch holds in reserve included."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    # Apple's GPUs share the main memory.
    free = int(psutil.virtual_memory().available)
    limit = _address_space_limit()
    # `ulimit -v`: what goes beyond ends the process, within libraries that cannot say why.
    return free if limit is None else min(free, max(0, limit - psutil.Process().memory_info().vms))


def _address_space_limit() -> int | None:
    """Bytes, None where there is no such limit."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on a device or on the CPU.

    Only the allocator of torch has a type of its own for it; cuDNN, cuBLAS and the driver say it in words.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(mark.lower() in text for mark in _OUT_OF_MEMORY)


def working_memory(device: torch.device) -> int:
    """Bytes the model may use on a device now: a share of what is free."""
    return int(free_memory(device) * (GPU_MEMORY_SHARE if device.type == "cuda" else CPU_MEMORY_SHARE))


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """``auto`` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        ConfigError: the device is unknown or not there.
    """
    if isinstance(device, torch.device):
        return device
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as exc:
        msg = f"--device {device!r} is unknown; use auto, cpu, cuda (or cuda:1) or mps"
        raise ConfigError(msg) from exc
    if resolved.type not in ("cpu", "cuda", "mps"):
        msg = f"--device {device!r} is not supported; use auto, cpu, cuda (or cuda:1) or mps"
        raise ConfigError(msg)
    if resolved.type == "cuda" and not torch.cuda.is_available():
        msg = f"--device {device!r}: this machine has no CUDA device that torch can use; use --device cpu"
        raise ConfigError(msg)
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        msg = f"--device {device!r}: there are {torch.cuda.device_count()} CUDA devices, counted from 0"
        raise ConfigError(msg)
    if resolved.type == "mps" and not torch.backends.mps.is_available():
        msg = f"--device {device!r}: torch finds no Apple GPU here; use --device cpu"
        raise ConfigError(msg)
    return resolved


def resolve_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """``auto`` or None leaves the choice to the model.

    Raises:
        ConfigError: unknown name.
    """
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return None
    if dtype not in DTYPES:
        msg = f"--dtype {dtype!r} is unknown; use auto, {', '.join(DTYPES)}"
        raise ConfigError(msg)
    return DTYPES[dtype]
