"""The keyframe network that is made for the eye: Real-ESRGAN x4plus in small, and its weight file.

The structure is the RRDB network of ESRGAN (Wang et al. 2018) as Real-ESRGAN (Wang et al. 2021) uses it, with fewer
blocks, so that blocks of the published x4plus weights can be taken over to start from. Everything but the tail runs on
the LR grid. Pure torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sparkvsr.errors import WeightsError
from sparkvsr.plain_json import parse_object

DETAIL_FILE = "detail_upscaler.safetensors"
DETAIL_FORMAT = "sparkvsr-lite-detail-1"
TILE_MARGIN = 32
"""LR pixels further away change the trained network's result by 0.1 grey levels on average, 2.5 at most (measured)."""
MOST = 4096
"""Of blocks and channels that a header may ask for; real ones have 64."""
_SLOPE = 0.2
_RESIDUAL = 0.2


@dataclass(frozen=True)
class DetailConfig:
    """Sizes of the network.

    Attributes:
        features: channels between the blocks.
        growth: channels that each convolution of a dense block adds.
        blocks: residual-in-residual dense blocks; x4plus has 23.
    """

    features: int = 64
    growth: int = 32
    blocks: int = 6


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each of which sees all results before it."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(features + growth, growth, 3, padding=1)
        self.conv3 = nn.Conv2d(features + 2 * growth, growth, 3, padding=1)
        self.conv4 = nn.Conv2d(features + 3 * growth, growth, 3, padding=1)
        self.conv5 = nn.Conv2d(features + 4 * growth, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, h, w)`` to the same shape."""
        maps = [x]
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            maps.append(F.leaky_relu(layer(torch.cat(maps, 1)), _SLOPE, inplace=True))
        return torch.add(x, self.conv5(torch.cat(maps, 1)), alpha=_RESIDUAL)


class ResidualDenseBlock(nn.Module):
    """Three dense blocks, added to the input."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(features, growth)
        self.rdb2 = DenseBlock(features, growth)
        self.rdb3 = DenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, h, w)`` to the same shape."""
        return torch.add(x, self.rdb3(self.rdb2(self.rdb1(x))), alpha=_RESIDUAL)


class DetailUpscalerNet(nn.Module):
    """Single image x4 that restores and invents detail; names of the weights are those of Real-ESRGAN."""

    def __init__(self, config: DetailConfig | None = None) -> None:
        super().__init__()
        self.config = config or DetailConfig()
        c = self.config.features
        self.conv_first = nn.Conv2d(3, c, 3, padding=1)
        self.body = nn.Sequential(*[ResidualDenseBlock(c, self.config.growth) for _ in range(self.config.blocks)])
        self.conv_body = nn.Conv2d(c, c, 3, padding=1)
        self.conv_up1 = nn.Conv2d(c, c, 3, padding=1)
        self.conv_up2 = nn.Conv2d(c, c, 3, padding=1)
        self.conv_hr = nn.Conv2d(c, c, 3, padding=1)
        self.conv_last = nn.Conv2d(c, 3, 3, padding=1)

    @property
    def margin(self) -> int:
        """LR pixels that a tile needs around it."""
        return TILE_MARGIN

    def forward(self, lr: Tensor) -> Tensor:
        """``(N, 3, h, w)`` in [0, 1] to ``(N, 3, 4h, 4w)``, not clamped, in the dtype of the weights."""
        start = self.conv_first(lr)
        x = start + self.conv_body(self.body(start))
        for layer in (self.conv_up1, self.conv_up2):
            x = F.leaky_relu(layer(F.interpolate(x, scale_factor=2, mode="nearest")), _SLOPE, inplace=True)
        result: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(x), _SLOPE, inplace=True))
        return result


def take_over(network: DetailUpscalerNet, teacher: Mapping[str, Tensor]) -> None:
    """Fill a network with evenly spaced blocks, head and tail of a larger one of the same width.

    Args:
        network: changed in place.
        teacher: weights by name, with at least as many blocks.

    Raises:
        WeightsError: the teacher has fewer blocks or other widths.
    """
    count = block_count(teacher)
    blocks = network.config.blocks
    if count < blocks:
        msg = f"the teacher has {count} blocks, fewer than the {blocks} of the network that shall start from it"
        raise WeightsError(msg)
    places = [round(i * (count - 1) / max(1, blocks - 1)) for i in range(blocks)]
    state = {key: value for key, value in teacher.items() if not key.startswith("body.")}
    for own, place in enumerate(places):
        prefix = f"body.{place}."
        state |= {f"body.{own}.{k.removeprefix(prefix)}": v for k, v in teacher.items() if k.startswith(prefix)}
    try:
        network.load_state_dict({key: value.float() for key, value in state.items()})
    except RuntimeError as exc:
        msg = f"the teacher does not fit the network that shall start from it: {str(exc).splitlines()[-1].strip()}"
        raise WeightsError(msg) from exc


def block_count(state: Mapping[str, Tensor]) -> int:
    """Residual-in-residual dense blocks that weights by Real-ESRGAN's names have."""
    return len({key.split(".")[1] for key in state if key.startswith("body.")})


def save_detail_upscaler(folder: Path, network: DetailUpscalerNet) -> None:
    """Write the weight file into a lite folder, which is made; weights are rounded to float16."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().half().cpu().contiguous() for key, value in network.state_dict().items()}
    about = {"format": DETAIL_FORMAT, "config": asdict(network.config)}
    # One key and not save_file: see sparkvsr.models.lite.weights.save_lite.
    (folder / DETAIL_FILE).write_bytes(save(tensors, {"lite": json.dumps(about, sort_keys=True)}))


def detail_file(folder: Path | None = None) -> Path | None:
    """The weight file of a lite folder (None: the embedded one), or None if it has none."""
    path = (folder or Path(__file__).parent / "weights") / DETAIL_FILE
    return path if path.is_file() else None


def load_detail_upscaler(folder: Path | None = None) -> DetailUpscalerNet | None:
    """The network of a lite folder in float32 on the CPU, in evaluation mode.

    Args:
        folder: None takes the embedded weights.

    Returns:
        None if the folder has no such file: folders exported before there was this network have none.

    Raises:
        WeightsError: the file is damaged or of another architecture.
    """
    path = detail_file(folder)
    if path is None:
        return None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            about = parse_object((file.metadata() or {}).get("lite", "{}"))
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  (not a dict)
    except OSError as exc:
        msg = f"{path} cannot be read ({exc.strerror or exc}); look at its permissions, or copy or export it again"
        raise WeightsError(msg) from exc
    except (SafetensorError, ValueError) as exc:
        msg = f"{path} is damaged or not a lite weight file ({type(exc).__name__}); copy or export it again"
        raise WeightsError(msg) from exc
    if about.get("format") != DETAIL_FORMAT:
        msg = (
            f"{path} has format {about.get('format')!r}, this version of lite reads {DETAIL_FORMAT!r}; export it again"
        )
        raise WeightsError(msg)
    try:
        config = DetailConfig(**about["config"])
        if max(value for value in vars(config).values() if isinstance(value, int)) > MOST:
            msg = "sizes of no real network"
            raise ValueError(msg)
        network = DetailUpscalerNet(config)
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as exc:
        msg = f"{path} does not fit the networks of this version of lite; export it again with this version"
        raise WeightsError(msg) from exc
    return network.eval().requires_grad_(False)
