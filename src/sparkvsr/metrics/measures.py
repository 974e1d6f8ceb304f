"""How each frame and pair metric of the catalogue is computed, by name."""

from __future__ import annotations

import math
from collections.abc import Callable

from sparkvsr.errors import MetricError
from sparkvsr.metrics import fidelity, temporal
from sparkvsr.metrics.frame_pair import FramePair, FrameView
from sparkvsr.metrics.toolbox import Toolbox

# A measure gives (value, the ground truth's own value); None where the frame cannot be scored.
Scored = tuple[float | None, float | None]
FrameMeasure = Callable[[FramePair, Toolbox], Scored]
PairMeasure = Callable[[FramePair, FramePair, Toolbox], Scored]


def _psnr(pair: FramePair, _: Toolbox) -> Scored:
    return fidelity.psnr(pair.sr.inner, pair.gt.inner)[0], None


def _psnr_y(pair: FramePair, _: Toolbox) -> Scored:
    return fidelity.psnr(pair.sr.luma, pair.gt.luma)[0], None


def _ssim(pair: FramePair, _: Toolbox) -> Scored:
    return fidelity.ssim(pair.sr.inner, pair.gt.inner), None


def _ssim_y(pair: FramePair, _: Toolbox) -> Scored:
    return fidelity.ssim(pair.sr.luma, pair.gt.luma), None


def _ssim_yiq(pair: FramePair, _: Toolbox) -> Scored:
    return fidelity.ssim(pair.sr.luma_yiq, pair.gt.luma_yiq, clamp_structure=True), None


def _ms_ssim(pair: FramePair, _: Toolbox) -> Scored:
    return fidelity.ms_ssim(pair.sr.frame, pair.gt.frame), None


def _alex_features(view: FrameView, tools: Toolbox) -> list:
    if "alex" not in view.features:
        view.features["alex"] = tools.lpips_alex.features(view.tensor)
    features: list = view.features["alex"]
    return features


def _lpips_alex(pair: FramePair, tools: Toolbox) -> Scored:
    return tools.lpips_alex.between(_alex_features(pair.sr, tools), _alex_features(pair.gt, tools)), None


def _lpips_vgg(pair: FramePair, tools: Toolbox) -> Scored:
    return tools.lpips_vgg(pair.sr.tensor, pair.gt.tensor), None


def _dists(pair: FramePair, tools: Toolbox) -> Scored:
    return tools.dists(pair.sr.tensor, pair.gt.tensor), None


def _niqe(pair: FramePair, tools: Toolbox) -> Scored:
    return tools.niqe(pair.sr.full_luma_yiq), tools.niqe(pair.gt.full_luma_yiq) if pair.has_gt else None


def _niqe_y(pair: FramePair, tools: Toolbox) -> Scored:
    return tools.niqe(pair.sr.full_luma), tools.niqe(pair.gt.full_luma) if pair.has_gt else None


def _pyiqa(name: str) -> FrameMeasure:
    def measure(pair: FramePair, tools: Toolbox) -> Scored:
        network = tools.pyiqa(name)
        try:
            value = float(network(pair.sr.tensor))
        except (RuntimeError, ValueError, AssertionError) as exc:
            if "out of memory" in str(exc):
                raise
            # What a frame that is too small raises differs from network to network.
            reason = (str(exc).splitlines() or [type(exc).__name__])[0]
            msg = f"{name} cannot score a {pair.sr.frame.shape[1]}x{pair.sr.frame.shape[0]} frame ({reason})"
            raise MetricError(msg) from exc
        return (value if math.isfinite(value) else None), None

    return measure


def _ewarp_dis(before: FramePair, pair: FramePair, _: Toolbox) -> Scored:
    source_before, source = (before.gt, pair.gt) if pair.has_gt else (before.sr, pair.sr)
    forward = temporal.dis_flow(source_before.half_gray, source.half_gray)
    backward = temporal.dis_flow(source.half_gray, source_before.half_gray)
    mask = temporal.visible(forward, backward)
    value = temporal.masked_warping_error(before.sr.half, pair.sr.half, forward, mask)
    if not pair.has_gt:
        return value, None
    return value, temporal.masked_warping_error(before.gt.half, pair.gt.half, forward, mask)


def _tof(before: FramePair, pair: FramePair, _: Toolbox) -> Scored:
    sr_flow = temporal.dis_flow(before.sr.gray, pair.sr.gray)
    return temporal.flow_difference(sr_flow, temporal.dis_flow(before.gt.gray, pair.gt.gray)), None


def _tof_farneback(before: FramePair, pair: FramePair, _: Toolbox) -> Scored:
    sr_flow = temporal.farneback_flow(before.sr.gray, pair.sr.gray)
    return temporal.flow_difference(sr_flow, temporal.farneback_flow(before.gt.gray, pair.gt.gray)), None


def _flicker(before: FramePair, pair: FramePair, _: Toolbox) -> Scored:
    own = temporal.flicker(before.gt.frame, pair.gt.frame) if pair.has_gt else None
    return temporal.flicker(before.sr.frame, pair.sr.frame), own


def _tlp(before: FramePair, pair: FramePair, tools: Toolbox) -> Scored:
    steps = [
        tools.lpips_alex.between(_alex_features(a, tools), _alex_features(b, tools))
        for a, b in ((before.sr, pair.sr), (before.gt, pair.gt))
    ]
    return abs(steps[0] - steps[1]) * 100, None


def _ewarp_raft(before: FramePair, pair: FramePair, tools: Toolbox) -> Scored:
    own = tools.raft.warping_error(before.gt.tensor, pair.gt.tensor) if pair.has_gt else None
    return tools.raft.warping_error(before.sr.tensor, pair.sr.tensor), own


FRAME_MEASURES: dict[str, FrameMeasure] = {
    "psnr": _psnr,
    "psnr_y": _psnr_y,
    "ssim": _ssim,
    "ssim_y": _ssim_y,
    "ssim_yiq": _ssim_yiq,
    "ms_ssim": _ms_ssim,
    "lpips_alex": _lpips_alex,
    "lpips_vgg": _lpips_vgg,
    "dists": _dists,
    "niqe": _niqe,
    "niqe_y": _niqe_y,
    "musiq": _pyiqa("musiq"),
    "clipiqa": _pyiqa("clipiqa"),
    "maniqa": _pyiqa("maniqa"),
}

PAIR_MEASURES: dict[str, PairMeasure] = {
    "ewarp_dis": _ewarp_dis,
    "tof": _tof,
    "tof_farneback": _tof_farneback,
    "flicker": _flicker,
    "tlp": _tlp,
    "ewarp_raft": _ewarp_raft,
}
