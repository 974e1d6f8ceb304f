"""What a bench is: clips, how LR frames come about, how results are measured, and what others published."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from sparkvsr.errors import ConfigError
from sparkvsr.evaluation.plain_values import misfit
from sparkvsr.metrics.catalogue import METRICS, select_metrics
from sparkvsr.models.looks import LOOKS

KINDS = ("paired", "no-reference", "generated")
DEGRADATIONS = {
    "given": "the set's own LR frames",
    "bicubic": "MATLAB bicubic with antialiasing, 8 bit",
    "bd": "Gaussian blur sigma 1.6 (13 x 13), every 4th pixel, 8 bit",
}
_REQUIRED = {"title", "kind", "scale", "degradation", "metrics", "primary", "gt_folders", "lr_folders", "get"}
_OPTIONAL = {
    "folder", "clips", "num_clips", "frames", "gt_size", "gt_sizes", "fps", "lr_required", "channel",
    "border", "published", "look",
}  # fmt: skip


PUBLISHED_SHAPE: Any = [
    {"title": str, "source": str, "warning?": (str, None), "same_as?": {"*": str}, "rows": {"*": {"*": (float, None)}}}
]
"""Of tables of published values, in a bench and in ``results.json``."""

_SIZE = ([int], None)
_SHAPE: dict[str, Any] = {
    **dict.fromkeys(("title", "kind", "degradation", "metrics", "primary", "get"), str),
    "scale": int,
    "gt_folders": [str],
    "lr_folders": [str],
    "folder?": str,
    "clips?": ([(str, int)], None),
    "num_clips?": (int, None),
    "frames?": ({"*": int}, int, None),
    "gt_size?": _SIZE,
    "gt_sizes?": ({"*": [int]}, None),
    "fps?": float,
    "lr_required?": bool,
    "channel?": str,
    "border?": int,
    "look?": str,
    "published?": (PUBLISHED_SHAPE, None),
}


@dataclass(frozen=True)
class Bench:
    """One bench, as its YAML file says.

    Attributes:
        name: what the user types and the file is called.
        title: one line.
        kind: ``paired`` has ground truth, ``no-reference`` has none, ``generated`` computes its clips.
        scale: output size over LR size.
        clips: names, empty when only their number is fixed.
        num_clips: how many.
        frames: frames of a clip by name, or ``""`` for all alike; empty where the protocol does not say.
        gt_sizes: ``(H, W)`` by clip name, or ``""`` for all alike; empty where clips differ.
        fps: nominal frame rate of image folders.
        degradation: key of ``DEGRADATIONS``.
        lr_required: LR frames must be there; otherwise they are made when they are not.
        channel: ``rgb`` or ``y``, what the headline PSNR and SSIM are taken on.
        border: pixels that PSNR and SSIM leave out.
        metrics: default of ``--metrics``.
        primary: the metric that ranks frames.
        look: default of ``--look`` for models that know several; ``faithful`` where fidelity is the headline.
        folder: of the set below the data root.
        gt_folders, lr_folders: accepted subfolders.
        get: where the data come from.
        published: tables with title, source, warning, same_as and rows.
    """

    name: str
    title: str
    kind: str
    scale: int
    clips: tuple[str, ...]
    num_clips: int
    frames: dict[str, int]
    gt_sizes: dict[str, tuple[int, int]]
    fps: float
    degradation: str
    lr_required: bool
    channel: str
    border: int
    metrics: str
    primary: str
    look: str
    folder: str
    gt_folders: tuple[str, ...]
    lr_folders: tuple[str, ...]
    get: str
    published: tuple[dict[str, Any], ...]

    @property
    def has_gt(self) -> bool:
        """Whether there is ground truth to compare with."""
        return self.kind != "no-reference"

    @property
    def degradation_text(self) -> str:
        """How LR frames are made from ground truth, for people."""
        return DEGRADATIONS[self.degradation]

    def frames_of(self, clip: str) -> int | None:
        """Frames that the protocol wants of a clip, None where it does not say."""
        return self.frames.get(clip, self.frames.get(""))

    def gt_size_of(self, clip: str) -> tuple[int, int] | None:
        """``(H, W)`` that the ground truth of a clip should have, None where it may vary."""
        return self.gt_sizes.get(clip, self.gt_sizes.get(""))


def bench_names() -> list[str]:
    """The shipped benches, in alphabetical order."""
    folder = resources.files("sparkvsr.conf") / "bench"
    files = [entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    return sorted((name.removesuffix(".yaml") for name in files), key=str.lower)


def load_bench(name: str) -> Bench:
    """Read a bench.

    Args:
        name: of a shipped bench (case does not matter) or the path of a YAML file of the same form.

    Raises:
        ConfigError: unknown, or the file is not of that form.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
            msg = f"--bench {name} cannot be read ({reason}); give a YAML file like those of `--bench list`"
            raise ConfigError(msg) from exc
        return parse_bench(path.stem, text)
    names = bench_names()
    found = next((known for known in names if known.lower() == name.lower()), None)
    if found is None:
        near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        msg = f"--bench {name!r} is unknown; {hint}there is {', '.join(names)}, or give a YAML file"
        raise ConfigError(msg)
    return parse_bench(found, (resources.files("sparkvsr.conf") / "bench" / f"{found}.yaml").read_text("utf-8"))


def parse_bench(name: str, text: str) -> Bench:
    """Read a bench from YAML text.

    Raises:
        ConfigError: a key is missing, unknown or has a value that is not allowed.
    """
    try:
        # The loader in C takes milliseconds for what keeps the one in Python busy for seconds.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        try:
            data = loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, RecursionError, ValueError) as exc:  # ValueError: a date that is none, say
        msg = f"bench {name}: not valid YAML ({str(exc).splitlines()[0]})"
        raise ConfigError(msg) from exc
    keys = set(data) if isinstance(data, dict) else set()
    wrong = sorted(map(str, keys - _REQUIRED - _OPTIONAL)) + sorted(_REQUIRED - keys)
    if wrong:
        msg = f"bench {name}: unknown or missing keys: {', '.join(wrong)}; see the shipped files in conf/bench"
        raise ConfigError(msg)
    if (line := misfit(data, _SHAPE)) or (line := _wrong_size(data)):
        msg = f"bench {name}: {line}; see the shipped files in conf/bench"
        raise ConfigError(msg)
    _check_choice(name, "kind", data["kind"], KINDS)
    _check_choice(name, "degradation", data["degradation"], tuple(DEGRADATIONS))
    _check_choice(name, "primary", data["primary"], tuple(METRICS))
    look = str(data.get("look", "faithful"))
    _check_choice(name, "look", look, LOOKS)
    select_metrics(str(data["metrics"]))
    clips = tuple(str(clip) for clip in data.get("clips") or ())
    frames, size = data.get("frames"), data.get("gt_size")
    sizes = {str(clip): (int(h), int(w)) for clip, (h, w) in (data.get("gt_sizes") or {}).items()}
    if size:
        sizes[""] = (int(size[0]), int(size[1]))
    return Bench(
        name=name,
        title=str(data["title"]),
        kind=data["kind"],
        scale=int(data["scale"]),
        clips=clips,
        num_clips=int(data.get("num_clips") or len(clips)),
        frames={str(k): int(v) for k, v in frames.items()}
        if isinstance(frames, dict)
        else {"": frames}
        if frames
        else {},
        gt_sizes=sizes,
        fps=float(data.get("fps", 24)),
        degradation=data["degradation"],
        lr_required=bool(data.get("lr_required", data["degradation"] == "given")),
        channel=str(data.get("channel", "rgb")),
        border=int(data.get("border", 0)),
        metrics=str(data["metrics"]),
        primary=data["primary"],
        look=look,
        folder=str(data.get("folder", name)),
        gt_folders=tuple(data["gt_folders"]),
        lr_folders=tuple(data["lr_folders"]),
        get=str(data["get"]),
        published=tuple(data.get("published") or ()),
    )


def _wrong_size(data: dict[str, Any]) -> str | None:
    sizes = {"gt_size": data.get("gt_size"), **(data.get("gt_sizes") or {})}
    wrong = next((name for name, size in sizes.items() if size and (len(size) != 2 or min(size) < 1)), None)
    return None if wrong is None else f"the size of {wrong} is {sizes[wrong]}, not [height, width]"


def _check_choice(bench: str, key: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        msg = f"bench {bench}: {key} is {value!r}; allowed is {', '.join(allowed)}"
        raise ConfigError(msg)
