"""The keyframe network made for the eye, for training: single frames, no keyframes, no codec.

Latents are the pixels themselves: LR frames before the network, restored HR frames behind it.

Shapes: B batch, F frames (each by itself), h w LR pixels, H = 4h, W = 4w.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sparkvsr.data.samples import TrainBatch
from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.home import expanded
from sparkvsr.models.lite.detail import (
    DETAIL_FILE,
    DetailConfig,
    DetailUpscalerNet,
    load_detail_upscaler,
    save_detail_upscaler,
    take_over,
)
from sparkvsr.models.lite.resampling import SCALE
from sparkvsr.models.lite.weights import load_networks, save_lite
from sparkvsr.training.adapters.interface import LatentBatch, TrainingAdapter
from sparkvsr.training.teacher import teacher_state

LICENCE_FILE = "DETAIL_LICENCE.txt"
LICENCE = """\
The keyframe network of this folder was started from weights of Real-ESRGAN x4plus and trained on its outputs.
Real-ESRGAN is published under this licence:

BSD 3-Clause License

Copyright (c) 2021, Xintao Wang
All rights reserved.

Redistribution and use in source and binary forms, with or without
modification, are permitted provided that the following conditions are met:

1. Redistributions of source code must retain the above copyright notice, this
   list of conditions and the following disclaimer.

2. Redistributions in binary form must reproduce the above copyright notice,
   this list of conditions and the following disclaimer in the documentation
   and/or other materials provided with the distribution.

3. Neither the name of the copyright holder nor the names of its
   contributors may be used to endorse or promote products derived from
   this software without specific prior written permission.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS"
AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE
FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL
DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER
CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY,
OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE
OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""


class DetailAdapter(TrainingAdapter):
    """Trains ``DetailUpscalerNet`` on single frames.

    Args:
        network: taken over.
        from_teacher: whether it started from a teacher's weights, whose licence then goes along.
    """

    family = "lite-detail"

    def __init__(self, network: DetailUpscalerNet, *, from_teacher: bool = False) -> None:
        super().__init__()
        self.network: DetailUpscalerNet = network.train().requires_grad_(True)
        self.network.to(memory_format=torch.channels_last)
        self._from_teacher = from_teacher
        self.licence_notice = LICENCE if from_teacher else ""

    def check_data(self, num_frames: int, crop: tuple[int, int], *, framewise: bool) -> None:
        """See ``TrainingAdapter``: any length, sides multiples of 4."""
        del num_frames, framewise
        if any(side % SCALE for side in crop):
            msg = f"data.crop={list(crop)} must be multiples of {SCALE} for model=detail"
            raise ConfigError(msg)

    def encode(self, batch: TrainBatch, *, framewise: bool, with_hr: bool) -> LatentBatch:
        """See ``TrainingAdapter``: pixels as they are."""
        del framewise
        return LatentBatch(batch.lr, batch.lr.new_zeros(()).expand_as(batch.lr), batch.hr if with_hr else None)

    def restore(self, latents: LatentBatch) -> Tensor:
        """``(B, F, 3, H, W)``, not clamped."""
        lr = latents.lr.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        restored: Tensor = self.network(lr)
        return restored.unflatten(0, latents.lr.shape[:2])

    def decode(self, latents: Tensor, *, framewise: bool) -> Tensor:
        """See ``TrainingAdapter``: what ``restore`` gives are pixels already."""
        del framewise
        return latents

    def save_folder(self, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
        """See ``TrainingAdapter``: a whole lite folder, with the embedded networks beside this one, and its licence."""
        network = DetailUpscalerNet(self.network.config)
        network.load_state_dict(dict(state) if state is not None else self.network.state_dict())
        save_lite(folder, *load_networks())
        save_detail_upscaler(folder, network)
        if self._from_teacher:
            (folder / LICENCE_FILE).write_text(LICENCE, encoding="utf-8")

    def read_folder(self, folder: Path) -> dict[str, Tensor]:
        """See ``TrainingAdapter``."""
        return _loaded(folder).state_dict()


def build_detail_adapter(
    *,
    path: str | Path | None = None,
    start_from: str | Path | None = None,
    seed: int = 0,
    features: int = 64,
    growth: int = 32,
    blocks: int = 6,
) -> DetailAdapter:
    """A fresh network, one started from a teacher, or that of a folder.

    Args:
        path: folder as ``sparkvsr export`` writes it.
        start_from: teacher whose blocks are taken over, see ``teacher_state``; None starts from ``seed``.
        seed: of fresh weights.
        features, growth, blocks: see ``DetailConfig``; not for ``path``.

    Raises:
        WeightsError: the folder or the teacher cannot be read, or does not fit.
    """
    if path is not None:
        folder = expanded(path)
        return DetailAdapter(_loaded(folder), from_teacher=(folder / LICENCE_FILE).is_file())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DetailUpscalerNet(DetailConfig(features, growth, blocks))
    if start_from is not None:
        take_over(network, teacher_state(start_from))
    return DetailAdapter(network, from_teacher=start_from is not None)


def _loaded(folder: Path) -> DetailUpscalerNet:
    network = load_detail_upscaler(folder)
    if network is None:
        msg = f"{folder / DETAIL_FILE} is missing; give a folder written by sparkvsr export of a model=detail run"
        raise WeightsError(msg)
    return network
