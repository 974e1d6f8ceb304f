"""Which metrics can be computed here and now, without importing anything heavy and without the network."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass, replace

from sparkvsr.errors import MetricError
from sparkvsr.metrics.catalogue import MetricSpec, select_metrics
from sparkvsr.pretrained.weights import WEIGHTS, WeightStore


@dataclass(frozen=True)
class Readiness:
    """Whether one metric can be computed.

    Attributes:
        status: ``ready``, ``package missing``, ``weights missing`` or ``no ground truth``.
        needs: one line per missing thing, saying how to provide it.
        missing_weights: names in ``weights.WEIGHTS``.
    """

    spec: MetricSpec
    status: str
    needs: tuple[str, ...] = ()
    missing_weights: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether nothing is missing."""
        return self.status == "ready"


class MissingMetricsError(MetricError):
    """Metrics asked for by name cannot be computed; ``missing`` says which and why."""

    def __init__(self, missing: list[Readiness]) -> None:
        self.missing = missing
        lines = [f"{len(missing)} metric(s) asked for cannot be computed:"]
        lines += [f"  {item.spec.name}: {item.status}; " + "; ".join(item.needs) for item in missing]
        lines.append("  drop them from --metrics, provide what is missing, or pass --allow-download where there is one")
        super().__init__("\n".join(lines))

    def __str__(self) -> str:
        return str(self.args[0])  # a list, one line for each metric


def probe(spec: MetricSpec, store: WeightStore) -> Readiness:
    """Look for the packages and weights of one metric."""
    absent = [(name, how) for name, how in spec.packages if importlib.util.find_spec(name) is None]
    if absent:
        needs = tuple(dict.fromkeys(f"package {name}: {how}" for name, how in absent))
        return Readiness(spec, "package missing", needs, tuple(n for n in spec.weights if store.find(n) is None))
    missing = tuple(name for name in spec.weights if store.find(name) is None)
    if missing:
        return Readiness(spec, "weights missing", tuple(store.needs(name) for name in missing), missing)
    return Readiness(spec, "ready")


def resolve_metrics(
    text: str, store: WeightStore, *, has_gt: bool = True, strict: bool = False, allow_download: bool = False
) -> tuple[list[MetricSpec], list[Readiness]]:
    """Turn ``--metrics`` into what will be computed and what is skipped.

    Args:
        text: group and metric names, separated by commas.
        has_gt: whether there is ground truth; metrics that need it are left out of groups otherwise.
        strict: a metric of a group that is not ready is an error too.
        allow_download: fetch weights that have a known address and checksum.

    Returns:
        Metrics to compute, and the skipped ones with their reason.

    Raises:
        ConfigError: an unknown name.
        MissingMetricsError: a metric asked for by name (or any, with ``strict``) is not ready; lists all of them.
    """
    chosen: list[MetricSpec] = []
    skipped: list[Readiness] = []
    refused: list[Readiness] = []
    for spec, named in select_metrics(text):
        if spec.needs_gt and not has_gt:
            reason = Readiness(spec, "no ground truth", ("this metric compares with ground truth, and there is none",))
            if named:
                refused.append(reason)
            continue
        state = probe(spec, store)
        if allow_download and state.status == "weights missing":
            failures = _download(state.missing_weights, store)
            state = probe(spec, store)
            if not state.ready:
                state = replace(state, needs=(*failures, *state.needs))
        if state.ready:
            chosen.append(spec)
        elif named or strict:
            refused.append(state)
        else:
            skipped.append(state)
    if refused:
        raise MissingMetricsError(refused)
    return chosen, skipped


def _download(names: tuple[str, ...], store: WeightStore) -> list[str]:
    """Fetch what has an address; what failed, one line each."""
    failures = []
    for name in names:
        if any(file.url for file in WEIGHTS[name].files):
            try:
                store.download(name)
            except MetricError as exc:
                failures.append(str(exc))
    return failures


def package_versions(specs: list[MetricSpec]) -> dict[str, str]:
    """Versions of everything that can change the numbers of these metrics."""
    names = ["sparkvsr", "numpy", "opencv-python-headless", "torch"]
    distributions = {"imageio_ffmpeg": "imageio-ffmpeg", "pycvvdp": "cvvdp", "ffmpeg": "ffmpeg-python",
                     "past": "future", "clip": "openai-clip"}  # fmt: skip
    names += [distributions.get(name, name) for spec in specs for name, _ in spec.packages]
    versions = {}
    for name in dict.fromkeys(names):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return versions
