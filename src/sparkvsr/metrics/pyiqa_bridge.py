"""No-reference metrics of pyiqa (PolyForm-Noncommercial, optional), fed with weight files that we found ourselves.

pyiqa would look only into its own cache, download without asking, and unpickle checkpoints; here networks are built
empty and filled from files read with ``weights_only=True``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shutil
import sys
import tempfile
import types
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.hub
from torch import Tensor

from sparkvsr.errors import MetricError
from sparkvsr.pretrained.loading import state_dict
from sparkvsr.pretrained.weights import WeightStore


def load_pyiqa(name: str, store: WeightStore, device: str) -> Callable[[Tensor], Tensor]:
    """Build ``musiq``, ``clipiqa`` or ``maniqa``: ``(1, 3, H, W)`` in [0, 1] to a score.

    Raises:
        MetricError: weights are missing or do not fit, or pyiqa cannot be imported.
    """
    build = {"musiq": _with_state, "maniqa": _with_state, "clipiqa": _clipiqa}[name]
    try:
        # pyiqa prints where it loads from.
        with _offline(), contextlib.redirect_stdout(io.StringIO()):
            metric: Callable[[Tensor], Tensor] = build(name, store, device)
    except (OSError, RuntimeError, ImportError, KeyError, ValueError, EOFError) as exc:
        msg = f"{name}: pyiqa cannot build it ({type(exc).__name__}: {(str(exc).splitlines() or [''])[0]})"
        raise MetricError(msg) from exc
    return metric


def _with_state(name: str, store: WeightStore, device: str) -> Any:
    import pyiqa

    state = state_dict(store.require(name))
    metric = pyiqa.create_metric(name, device=torch.device(device), pretrained=False)
    metric.net.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    return metric


def _clipiqa(name: str, store: WeightStore, device: str) -> Any:
    import pyiqa

    before = torch.hub.get_dir()
    with tempfile.TemporaryDirectory(prefix="sparkvsr-clip-") as folder:
        (Path(folder) / "clip").mkdir()
        weights, place = store.require("clip_rn50").path.resolve(), Path(folder) / "clip" / "RN50.pt"
        try:
            place.symlink_to(weights)
        except OSError:  # Windows lets not everybody make links
            shutil.copyfile(weights, place)
        torch.hub.set_dir(folder)
        try:
            with _pkg_resources():
                return pyiqa.create_metric(name, device=torch.device(device))
        finally:
            torch.hub.set_dir(before)


@contextlib.contextmanager
def _pkg_resources() -> Iterator[None]:
    """openai-clip takes ``packaging`` out of ``pkg_resources``, which setuptools 82 dropped."""
    if importlib.util.find_spec("pkg_resources") is not None:
        yield
        return
    import packaging.version

    stand_in = types.ModuleType("pkg_resources")
    stand_in.packaging = packaging  # type: ignore[attr-defined]
    sys.modules["pkg_resources"] = stand_in
    try:
        yield
    finally:
        del sys.modules["pkg_resources"]


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Libraries that download behind one's back fail at once instead (their hubs retry for 47 seconds)."""

    def refuse(url: str, *_args: object, **_kwargs: object) -> None:
        raise MetricError(f"a download of {url} was refused; place the file yourself (`sparkvsr metrics`)")  # noqa: EM102

    before, download = os.environ.get("HF_HUB_OFFLINE"), torch.hub.download_url_to_file
    open_url = urllib.request.urlopen
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.hub.download_url_to_file = refuse
    urllib.request.urlopen = refuse  # type: ignore[assignment]
    try:
        with _empty_timm_backbones():
            yield
    finally:
        torch.hub.download_url_to_file = download
        urllib.request.urlopen = open_url
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


@contextlib.contextmanager
def _empty_timm_backbones() -> Iterator[None]:
    """MANIQA's checkpoint holds its backbone too; fetching that from the hub first would be for nothing."""
    try:
        import timm
    except ImportError:
        yield
        return
    create = timm.create_model

    def create_empty(*args: Any, **options: Any) -> Any:
        return create(*args, **{**options, "pretrained": False})

    timm.create_model = create_empty
    try:
        yield
    finally:
        timm.create_model = create
