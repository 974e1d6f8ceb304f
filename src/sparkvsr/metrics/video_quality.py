"""DOVER (Wu et al. 2023a) and FasterVQA (Wu et al. 2023b): one score a video, without ground truth.

Their networks and weights are under the S-Lab licence (non-commercial), so nothing of them is part of this package: the
networks are those of the optional package ``vsreval``, which holds the authors' own, and the weights are placed by the
user. Written here is what goes into them: which frames, which fragments of a frame, and how raw scores become the
published one. The official protocols (DOVER's ``val-l1080p``, FasterVQA's ``vqa.py``) draw fragments at random even in
tests; here the draw has a fixed seed, so every model and every run is judged on the same ones.

Frames arrive one by one and only what the networks see is kept (about 80 MB, whatever the clip's size and length).
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.errors import MetricError
from sparkvsr.metrics.colour import Image8

if TYPE_CHECKING:
    from torch import nn

SEED = 0
FRAGMENTS, FRAGMENT_SIZE = 7, 32
VIEW_SIZE = FRAGMENTS * FRAGMENT_SIZE
CLIP_FRAMES = 32
_MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1, 1)
_STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1, 1)

Indices = npt.NDArray[np.int64]


def dover_indices(num_frames: int, seed: int = SEED) -> tuple[Indices, Indices]:
    """Frames of DOVER's two views: technical, 3 x 32 every second frame; aesthetic, 32 single ones.

    Args:
        num_frames: of the clip; shorter clips wrap around, as in the official sampler.
        seed: of the offsets that longer clips get within their parts.
    """
    random = np.random.RandomState(seed)  # the official sampler's generator

    def parts(count: int, length: int, interval: int) -> Indices:
        part = num_frames // count
        spare = part - length * interval
        offsets = random.randint(0, spare, size=count) if spare > 0 else np.zeros(count, dtype=np.int64)
        starts = np.arange(count) * part + offsets
        return np.asarray(np.mod(starts[:, None] + np.arange(length) * interval, num_frames).ravel(), dtype=np.int64)

    return parts(3, CLIP_FRAMES, 2), parts(CLIP_FRAMES, 1, 2)


def fastervqa_indices(num_frames: int) -> Indices:
    """The 32 neighbouring frames in the middle of a clip; shorter clips wrap around."""
    start = max(0, int((num_frames - CLIP_FRAMES + 1) / 2))
    return np.mod(start + np.arange(CLIP_FRAMES), num_frames)


class FragmentView:
    """7 x 7 fragments of 32 x 32 pixels, at the same places for ``aligned`` frames, joined to a 224 x 224 picture.

    Args:
        size: ``(H, W)`` of the clip.
        length: frames of the view.
        aligned: frames that share the places.
        seed: of the places within their grid cells.
    """

    def __init__(self, size: tuple[int, int], length: int, aligned: int, seed: int = SEED) -> None:
        self._aligned = aligned
        ratio = min(size) / VIEW_SIZE
        self._upscale = 1 / ratio if ratio < 1 else 1.0
        generator = torch.Generator().manual_seed(seed)
        blocks = length // aligned
        self._places = []
        for side in size:
            cell = side // FRAGMENTS
            shape = (FRAGMENTS, FRAGMENTS, blocks)
            if cell > FRAGMENT_SIZE:
                drawn = torch.randint(cell - FRAGMENT_SIZE, shape, generator=generator)
            else:
                drawn = torch.zeros(shape, dtype=torch.int64)
            # The official code takes the grid of the clip's own size even where it enlarges the clip.
            corner = torch.tensor([min(cell * n, side - FRAGMENT_SIZE) for n in range(FRAGMENTS)])
            self._places.append((corner, drawn))

    def cut(self, frame: Tensor, position: int) -> Tensor:
        """The fragments of one frame.

        Args:
            frame: ``(3, H, W)`` uint8.
            position: of the frame in the view.

        Returns:
            ``(3, 224, 224)`` float32, 0 to 255.
        """
        if self._upscale > 1:
            larger = F.interpolate(frame[None] / 255.0, scale_factor=self._upscale, mode="bilinear")[0]
            frame = (larger * 255.0).type(torch.uint8)
        block = position // self._aligned
        (rows, row_offsets), (columns, column_offsets) = self._places
        view = torch.zeros(3, VIEW_SIZE, VIEW_SIZE)
        for i in range(FRAGMENTS):
            for j in range(FRAGMENTS):
                top = int(rows[i] + row_offsets[i, j, block])
                left = int(columns[j] + column_offsets[i, j, block])
                y, x = i * FRAGMENT_SIZE, j * FRAGMENT_SIZE
                fragment = frame[:, top : top + FRAGMENT_SIZE, left : left + FRAGMENT_SIZE]
                view[:, y : y + FRAGMENT_SIZE, x : x + FRAGMENT_SIZE] = fragment
        return view


def whole_view(frame: Tensor) -> Tensor:
    """The frame as 224 x 224 pixels, bilinear without antialiasing, as torchvision did it when DOVER was trained.

    Args:
        frame: ``(3, H, W)`` uint8.

    Returns:
        ``(3, 224, 224)`` float32, whole numbers from 0 to 255.
    """
    small = F.interpolate(frame[None].float(), size=(VIEW_SIZE, VIEW_SIZE), mode="bilinear", align_corners=False)
    return small[0].round_().clamp_(0, 255)


class VideoMeter:
    """Collects the views of one clip and scores them.

    Args:
        name: ``dover`` or ``fastervqa``.
        network: see ``load_network``.
        num_frames: of the clip, known beforehand, because frames are drawn over its whole length.
        size: ``(H, W)``.
        device: where the network runs.
    """

    def __init__(self, name: str, network: nn.Module, num_frames: int, size: tuple[int, int], device: str) -> None:
        if min(size) < FRAGMENT_SIZE:
            msg = f"{name} needs at least {FRAGMENT_SIZE} pixels a side, got {size[1]}x{size[0]}"
            raise MetricError(msg)
        self._name, self._network, self._device = name, network, device
        self._num_frames, self._index = num_frames, 0
        self._views: dict[str, tuple[Indices, Tensor, Callable[[Tensor, int], Tensor]]] = {}
        if name == "dover":
            technical, aesthetic = dover_indices(num_frames)
            self._add("technical", technical, FragmentView(size, len(technical), aligned=32).cut)
            self._add("aesthetic", aesthetic, lambda frame, _: whole_view(frame))
        else:
            indices = fastervqa_indices(num_frames)
            self._add("fragments", indices, FragmentView(size, len(indices), aligned=8).cut)

    def _add(self, view: str, indices: Indices, cut: Callable[[Tensor, int], Tensor]) -> None:
        self._views[view] = (indices, torch.zeros(3, len(indices), VIEW_SIZE, VIEW_SIZE), cut)

    def update(self, frame: Image8) -> None:
        """Take the next frame, ``(H, W, 3)`` uint8 RGB."""
        pixels: Tensor | None = None
        for indices, pictures, cut in self._views.values():
            for position in np.flatnonzero(indices == self._index):
                if pixels is None:
                    pixels = torch.from_numpy(frame.transpose(2, 0, 1).copy())
                pictures[:, position] = cut(pixels, int(position))
        self._index += 1

    @torch.inference_mode()
    def finish(self) -> float:
        """The published score, 0 to 1.

        Raises:
            MetricError: another number of frames came than was announced.
        """
        if self._index != self._num_frames:
            msg = f"{self._name}: the clip has {self._index} frames, {self._num_frames} were expected"
            raise MetricError(msg)
        raw = {
            view: float(self._network(view, clips(pictures).to(self._device)).mean())
            for view, (_, pictures, _) in self._views.items()
        }
        self._views.clear()
        return fuse(raw["aesthetic"], raw["technical"]) if self._name == "dover" else scale(raw["fragments"])


def clips(pictures: Tensor) -> Tensor:
    """``(3, 32 N, 224, 224)``, 0 to 255, to normalised clips ``(N, 3, 32, 224, 224)``."""
    normal = (pictures - _MEAN) / _STD
    return normal.unflatten(1, (-1, CLIP_FRAMES)).transpose(0, 1).contiguous()


def fuse(aesthetic: float, technical: float) -> float:
    """DOVER's overall score of its two raw ones, 0 to 1."""
    overall = 0.6104 * (technical - 0.1107) / 0.07355 + 0.3896 * (aesthetic + 0.08285) / 0.03774
    return 1 / (1 + math.exp(-overall))


def scale(raw: float) -> float:
    """FasterVQA's published score of its raw one, 0 to 1."""
    return 1 / (1 + math.exp(-(raw - 0.14759505) / 0.03613452))


def load_network(name: str, state: dict[str, Any], device: str) -> nn.Module:
    """The authors' network, filled; called as ``network(view, clips)`` it gives raw scores.

    Args:
        name: ``dover`` or ``fastervqa``.
        state: contents of ``DOVER.pth`` or ``FAST_VQA_3D_1_1.pth``.
        device: where it runs.

    Raises:
        MetricError: ``vsreval`` cannot be imported or the file is of another network.
    """
    try:
        from vsreval._vendor.dover.models import SwinTransformer3D, VQAHead, convnext_3d_tiny
    except ImportError as exc:
        msg = f"{name}: the networks of vsreval cannot be imported ({exc}); tried with vsreval 0.1.0 and timm 1.0"
        raise MetricError(msg) from exc

    def head() -> nn.Module:
        return VQAHead(in_channels=768, hidden_channels=64)

    # The constructor prints. Checkpointing saves memory in training only, and its call is deprecated in torch.
    with contextlib.redirect_stdout(io.StringIO()):
        swin = SwinTransformer3D(use_checkpoint=False)
    options: dict[str, Any] = {}
    if name == "dover":
        aesthetic = convnext_3d_tiny(pretrained=False)
        parts = {"technical_backbone": swin, "aesthetic_backbone": aesthetic,
                 "technical_head": head(), "aesthetic_head": head()}  # fmt: skip
    else:
        parts = {"fragments_backbone": swin, "vqa_head": head()}
        # FAST-VQA's backbone fits its window to the input, which DOVER's copy of it does not.
        options = {"adaptive_window_size": True}
        state = state.get("state_dict", state)
    network = _Network(parts, options)
    try:
        network.parts.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as exc:
        first = (str(exc).splitlines() or [""])[-1].strip()
        msg = f"{name}: the weight file is of another network ({first[:200]}); replace it (`sparkvsr metrics`)"
        raise MetricError(msg) from exc
    return network.to(device).eval()


class _Network(torch.nn.Module):
    """Backbones and heads under their official names."""

    def __init__(self, parts: dict[str, nn.Module], options: dict[str, Any]) -> None:
        super().__init__()
        self.parts = torch.nn.ModuleDict(parts)
        self._options = options

    def forward(self, view: str, batch: Tensor) -> Tensor:
        """``(N, 3, 32, 224, 224)`` of one view to raw scores of any shape; only their mean is used."""
        head = self.parts["vqa_head" if view == "fragments" else f"{view}_head"]
        options = self._options if view == "fragments" else {}
        scores: list[Tensor] = [
            head(self.parts[f"{view}_backbone"](clip[None], multi=False, layer=-1, **options)) for clip in batch
        ]
        return torch.cat(scores)
