"""Every metric sparkvsr knows: what it needs, what it costs, which protocol its number follows.

Plain data. Imports neither torch nor numpy, so that ``sparkvsr metrics`` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sparkvsr.errors import ConfigError

Kind = Literal["frame", "pair", "clip"]
Group = Literal["default", "offline", "weights", "extra"]

GROUPS: dict[str, tuple[Group, ...]] = {
    "default": ("default",),
    "offline": ("default", "offline"),
    "all": ("default", "offline", "weights"),
}
"""What ``--metrics default|offline|all`` stands for; ``extra`` metrics are computed only when named."""


@dataclass(frozen=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: what the user types and what records are keyed by.
        group: the smallest set that contains it.
        kind: ``frame`` one value a frame, ``pair`` one per two neighbouring frames, ``clip`` one a clip.
        summary: what it measures, one line.
        protocol: everything that changes the number; ``{crop}`` is replaced by the border that was cropped.
        higher_is_better: None where neither is (compare with the ground truth's own value).
        needs_gt: cannot be computed without ground truth.
        unit: of the value, empty for a plain number.
        decimals: digits worth printing.
        packages: ``(import name, what to install)``.
        weights: names in ``weights.WEIGHTS``.
        seconds: measured time of one 1280x720 frame on one CPU core, of a whole clip with ``once_a_clip``.
        once_a_clip: the time does not depend on the clip's size and length.
        slow: honours ``--every N``.
        gt_value: the ground truth's own value is reported beside it.
        licence: of the code or weights where it restricts use.
    """

    name: str
    group: Group
    kind: Kind
    summary: str
    protocol: str
    higher_is_better: bool | None
    needs_gt: bool = True
    unit: str = ""
    decimals: int = 4
    packages: tuple[tuple[str, str], ...] = ()
    weights: tuple[str, ...] = ()
    seconds: float = 0.01
    once_a_clip: bool = False
    slow: bool = False
    gt_value: bool = False
    licence: str = ""


_METRICS_EXTRA = "pip install 'sparkvsr[metrics]'"
_PYIQA = (("pyiqa", "pip install 'sparkvsr[iqa]'"),)
_PYIQA_LICENCE = "pyiqa: PolyForm-Noncommercial-1.0.0"
# Of vsreval only the networks are used, which run on any torch; its other requirements pin an old one.
_VSREVAL = (("vsreval", "pip install --no-deps vsreval (Python 3.10 to 3.12)"), ("timm", "pip install timm"),
            ("einops", "pip install einops"))  # fmt: skip
_S_LAB = "networks and weights: S-Lab 1.0, non-commercial"

_SPECS = (
    MetricSpec("psnr", "default", "frame", "peak signal-to-noise ratio, RGB", "psnr[rgb,u8,crop{crop}]", True,
               unit="dB", decimals=3, seconds=0.001),
    MetricSpec("psnr_y", "default", "frame", "peak signal-to-noise ratio, luma",
               "psnr_y[bt601-limited,unrounded,u8,crop{crop}]", True, unit="dB", decimals=3, seconds=0.003),
    MetricSpec("ssim", "default", "frame", "structural similarity, RGB",
               "ssim[rgb,gauss11-1.5,valid,u8,crop{crop}]", True, seconds=0.055),
    MetricSpec("ssim_y", "default", "frame", "structural similarity, luma",
               "ssim_y[bt601-limited,unrounded,gauss11-1.5,valid,u8,crop{crop}]", True, seconds=0.02),
    MetricSpec("ewarp_dis", "default", "pair", "warping error x1000 with OpenCV DIS flow of the ground truth",
               "ewarp_dis[half,dis-medium,gt-flow,fb-mask,x1000]", None, needs_gt=False, decimals=3, seconds=0.07,
               gt_value=True),
    MetricSpec("tof", "default", "pair", "optical-flow difference to the ground truth",
               "tof[dis-medium,full,mean-epe]", False, unit="px", decimals=3, seconds=0.17),
    MetricSpec("flicker", "default", "pair", "VBench temporal flickering (1 = still picture)",
               "flicker[vbench,mae]", None, needs_gt=False, decimals=5, seconds=0.001, gt_value=True),
    MetricSpec("lpips_alex", "offline", "frame", "learned perceptual distance, AlexNet",
               "lpips_alex[v0.1,-1..1,full]", False, weights=("alexnet", "lpips_lin_alex"), seconds=0.6, slow=True),
    MetricSpec("lpips_vgg", "offline", "frame", "learned perceptual distance, VGG16",
               "lpips_vgg[v0.1,-1..1,full]", False, weights=("vgg16", "lpips_lin_vgg"), seconds=13, slow=True),
    MetricSpec("dists", "offline", "frame", "structure and texture distance", "dists[rgb,full]", False,
               weights=("vgg16", "dists"), seconds=10, slow=True),
    MetricSpec("niqe", "offline", "frame", "NIQE on full-range luma", "niqe[yiq-full,rounded,block96]", False,
               needs_gt=False, weights=("niqe",), seconds=0.5, slow=True, gt_value=True),
    MetricSpec("vmaf", "offline", "clip", "VMAF", "vmaf[v0.6.1,bt709-limited,mean]", True, decimals=2,
               packages=(("imageio_ffmpeg", _METRICS_EXTRA),), seconds=0.05,
               licence="its ffmpeg is a GPLv3 binary, run as a subprocess"),
    MetricSpec("tlp", "offline", "pair", "difference of frame-to-frame LPIPS, x100", "tlp[lpips-alex-v0.1,x100]", False,
               decimals=3, weights=("alexnet", "lpips_lin_alex"), seconds=1.2, slow=True),
    MetricSpec("cvvdp", "offline", "clip", "ColorVideoVDP, just-objectionable differences",
               "cvvdp[standard_fhd]", True, unit="JOD", decimals=3,
               packages=tuple((name, _METRICS_EXTRA)
                              for name in ("pycvvdp", "ffmpeg", "past", "imageio", "scipy", "einops")), seconds=1.4,
               licence="MIT"),
    MetricSpec("ms_ssim", "offline", "frame", "multi-scale SSIM, RGB", "ms_ssim[rgb,5-scales,valid,u8]", True,
               seconds=0.1),
    MetricSpec("musiq", "weights", "frame", "MUSIQ (KonIQ)", "musiq[pyiqa,koniq]", True,
               needs_gt=False, decimals=2, packages=_PYIQA, weights=("musiq",), seconds=2.6, slow=True,
               licence=_PYIQA_LICENCE),
    MetricSpec("clipiqa", "weights", "frame", "CLIP-IQA", "clipiqa[pyiqa,RN50]", True,
               needs_gt=False, packages=(*_PYIQA, ("clip", "pip install 'sparkvsr[iqa]'")), weights=("clip_rn50",),
               seconds=3.7, slow=True, licence=_PYIQA_LICENCE),
    MetricSpec("maniqa", "weights", "frame", "MANIQA (KonIQ)", "maniqa[pyiqa,koniq,20-crops]",
               True, needs_gt=False, packages=(*_PYIQA, ("timm", "pip install 'sparkvsr[iqa]'")),
               weights=("maniqa",), seconds=75, slow=True, licence=_PYIQA_LICENCE),
    MetricSpec("dover", "weights", "clip", "DOVER video quality",
               "dover[val-l1080p,technical-3x32/2,aesthetic-32,no-antialias,fragments-seed0,fused]", True,
               needs_gt=False, packages=_VSREVAL, weights=("dover",), seconds=27, once_a_clip=True,
               licence=_S_LAB),
    MetricSpec("fastervqa", "weights", "clip", "FasterVQA video quality",
               "fastervqa[f3dvqa-b,middle-32,fragments-seed0,rescaled]", True, needs_gt=False, packages=_VSREVAL,
               weights=("fastervqa",), seconds=7, once_a_clip=True, licence=_S_LAB),
    MetricSpec("ewarp_raft", "weights", "pair", "warping error x1000 with RAFT flow of the clip itself, no mask",
               "ewarp_raft[raft_large-C_T_V1,full,20-iterations,own-flow,no-mask,mse,x1000]", None, needs_gt=False,
               decimals=3, packages=(("torchvision", "pip install torchvision"),), weights=("raft",), seconds=12,
               slow=True, gt_value=True),
    MetricSpec("ssim_yiq", "extra", "frame", "SSIM as diffusion-VSR tables give it (pyiqa's default)",
               "ssim_yiq[yiq-full,rounded,gauss11-1.5,valid,cs>=0,crop{crop}]", True, seconds=0.02),
    MetricSpec("niqe_y", "extra", "frame", "NIQE on limited-range luma, as BasicSR and mmagic give it",
               "niqe_y[bt601-limited,rounded,basicsr,block96]", False, needs_gt=False, weights=("niqe",), seconds=0.5,
               slow=True, gt_value=True),
    MetricSpec("tof_farneback", "extra", "pair", "optical-flow difference with TecoGAN's own flow",
               "tof_farneback[farneback,full,mean-epe]", False, unit="px", decimals=3, seconds=0.4),
)  # fmt: skip

METRICS: dict[str, MetricSpec] = {spec.name: spec for spec in _SPECS}


def select_metrics(text: str) -> list[tuple[MetricSpec, bool]]:
    """Read ``--metrics``.

    Args:
        text: group names and metric names, separated by commas.

    Returns:
        The metrics in catalogue order, each with whether it was asked for by its own name.

    Raises:
        ConfigError: a name is unknown.
    """
    named: set[str] = set()
    grouped: set[str] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        if part in GROUPS:
            grouped.update(spec.name for spec in _SPECS if spec.group in GROUPS[part])
        elif part in METRICS:
            named.add(part)
        else:
            msg = (
                f"--metrics {part!r} is unknown; use {', '.join(GROUPS)} or names out of {', '.join(METRICS)} "
                "(`sparkvsr metrics` describes them)"
            )
            raise ConfigError(msg)
    if not named and not grouped:
        msg = f"--metrics is empty; use {', '.join(GROUPS)} or names out of {', '.join(METRICS)}"
        raise ConfigError(msg)
    return [(spec, spec.name in named) for spec in _SPECS if spec.name in named | grouped]
