"""Weights of ncnn model files (`.param` and `.bin`) as tensors, in file order. Only what Real-ESRGAN's files hold.

A ``.param`` is a text list of layers; a ``.bin`` holds their numbers one after another. The weights of a convolution
begin with a tag of four bytes that says how they are stored; biases and slopes are plain float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from sparkvsr.errors import WeightsError

MAGIC = "7767517"
_FLOAT16_TAG, _FLOAT32_TAG = 0x01306B47, 0
_MAX_BYTES = 2**30


@dataclass(frozen=True)
class NcnnLayer:
    """One layer that has numbers.

    Attributes:
        kind: ``Convolution`` or ``PReLU``.
        weight: ``(out, in, k, k)`` of a convolution, ``(channels,)`` of a PReLU; float32.
        bias: ``(out,)`` or None.
    """

    kind: str
    weight: Tensor
    bias: Tensor | None = None


def read_ncnn(param: Path, binary: Path) -> list[NcnnLayer]:
    """Read the convolutions and PReLUs of a model.

    Raises:
        WeightsError: a file is missing, cut short, or holds something else.
    """
    try:
        lines = param.read_text().splitlines()
        size = binary.stat().st_size
        data = binary.read_bytes() if size <= _MAX_BYTES else _refuse(binary, f"has {size} bytes")
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"the ncnn model {param} cannot be read ({exc}); install its package again"
        raise WeightsError(msg) from exc
    if not lines or lines[0].strip() != MAGIC:
        _refuse(param, "is not an ncnn .param file")
    layers: list[NcnnLayer] = []
    position = 0
    for kind, settings in _layers(lines[2:], param):
        if kind == "PReLU":
            weight, position = _floats(data, position, settings.get(0, 0), binary)
            layers.append(NcnnLayer(kind, weight))
        elif kind == "Convolution":
            out, kernel, count = settings.get(0, 0), settings.get(1, 0), settings.get(6, 0)
            if out < 1 or kernel < 1 or count < 1 or count % (out * kernel * kernel):
                _refuse(
                    param, f"has a convolution of impossible size (outputs {out}, kernel {kernel}, {count} numbers)"
                )
            weight, position = _tagged(data, position, count, binary)
            bias = None
            if settings.get(5):
                bias, position = _floats(data, position, out, binary)
            layers.append(NcnnLayer(kind, weight.view(out, -1, kernel, kernel), bias))
    if position != len(data):
        _refuse(binary, f"has {len(data)} bytes where the .param asks for {position}")
    return layers


def _layers(lines: list[str], param: Path) -> Iterator[tuple[str, dict[int, int]]]:
    for line in lines:
        words = line.split()
        if not words:
            continue
        try:
            first_setting = 4 + int(words[2]) + int(words[3])
            settings: dict[int, int] = {}
            for word in words[first_setting:]:
                key, _, value = word.partition("=")
                # Arrays (negative keys) and fractions are settings of activation and resizing, known by architecture.
                if int(key) >= 0 and "." not in value and "," not in value:
                    settings[int(key)] = int(value)
        except (IndexError, ValueError):
            _refuse(param, f"has a line that is no layer: {line[:60]!r}")
        yield words[0], settings


def _tagged(data: bytes, position: int, count: int, path: Path) -> tuple[Tensor, int]:
    tag = int.from_bytes(data[position : position + 4], "little")
    position += 4
    if tag == _FLOAT32_TAG:
        return _floats(data, position, count, path)
    if tag != _FLOAT16_TAG:
        _refuse(path, f"stores weights in a way that is not read here (tag {tag:#x})")
    stop = position + 2 * count
    if stop > len(data):
        _refuse(path, "is cut short")
    values = np.frombuffer(data, "<f2", count, position).astype(np.float32)
    return torch.from_numpy(values), (stop + 3) // 4 * 4


def _floats(data: bytes, position: int, count: int, path: Path) -> tuple[Tensor, int]:
    stop = position + 4 * count
    if count < 1 or stop > len(data):
        _refuse(path, "is cut short")
    return torch.from_numpy(np.frombuffer(data, "<f4", count, position).astype(np.float32)), stop


def _refuse(path: Path, what: str) -> NoReturn:
    msg = f"{path} {what}; it is damaged or another model, install its package again"
    raise WeightsError(msg)
