"""Walk every way of installing that docs/install.md names, each in an environment of its own, up to an upscaled clip.

    python tools/walk_install.py                    # pip, uv and pipx, one after the other
    python tools/walk_install.py --ways uv          # one of them
    python tools/walk_install.py --metrics          # also fetch LPIPS's weights (64 MB) and measure with them

Nothing is taken from the environment that runs this but pip, uv and pipx themselves, which must be installed. Each way
downloads torch (docs/install.md says how much) unless its cache has it. Exit code 1 when a way does not arrive.
"""

from __future__ import annotations

import argparse
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SIZE = (48, 32)
FRAMES = 8


class Failed(Exception):  # noqa: N818
    """A step did not do what the documentation says."""


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", default="pip,uv,pipx", help="of pip, uv, pipx; default all")
    parser.add_argument("--metrics", action="store_true", help="install the extra metrics, fetch weights, measure")
    parser.add_argument("--folder", type=Path, help="where environments are made (default: a temporary folder)")
    parser.add_argument("--log", type=Path, help="what the installers say (default: nowhere)")
    arguments = parser.parse_args()
    ways = arguments.ways.split(",")
    if unknown := set(ways) - set(WAYS):
        parser.error(f"--ways {','.join(unknown)} is unknown; use {','.join(WAYS)}")
    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="walk_install_") as name:
        folder = Path(name)
        try:
            wheel = build_wheel(folder / "dist")
        except Failed as failure:
            print(f"the wheel cannot be built: {failure}", file=sys.stderr)
            return 1
        for way in ways:
            home = folder / way
            home.mkdir()
            started = time.monotonic()
            try:
                walk(way, wheel, home, with_metrics=arguments.metrics, log=arguments.log)
                said = ""
            except (Failed, subprocess.TimeoutExpired) as failure:
                said = str(failure)
            rows.append((way, said, time.monotonic() - started, used_bytes(home)))
            print(f"{way}: {said or 'arrived'}", flush=True)
            shutil.rmtree(home)
    return report(rows)


def build_wheel(folder: Path) -> Path:
    """The wheel that a release would have."""
    print("building the wheel ...", flush=True)
    tree = folder.with_name("tree")  # a copy, because a build leaves files behind
    unwanted = shutil.ignore_patterns(
        ".*", "build", "dist", "tests", "docs", "*.egg-info", "__pycache__", "demo", "runs"
    )
    shutil.copytree(ROOT, tree, ignore=unwanted)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(folder), str(tree)]
    step(command, {**os.environ}, 600, None)
    return next(folder.glob("sparkvsr-*.whl"))


def walk(way: str, wheel: Path, home: Path, *, with_metrics: bool, log: Path | None) -> None:
    """Install in one way, then do what a newcomer does."""
    variables = clean_environment(home)
    target = f"{wheel}[metrics]" if with_metrics else str(wheel)
    print(f"{way}: installing ...", flush=True)
    command = WAYS[way](target, home, variables, log)
    said = step([command, "--version"], variables, 600, log)
    if not said.startswith("sparkvsr "):
        raise Failed(f"--version says {said!r}")
    if "lite" not in step([command, "models"], variables, 600, log):
        raise Failed("models does not list lite")
    frames = write_frames(home / "clip")
    result = home / "out.mp4"
    step([command, "upscale", str(frames), "--keyframes", "0", "-o", str(result)], variables, 900, log)
    if not result.is_file() or result.stat().st_size < 1000:
        raise Failed(f"{result.name} is not there")
    if with_metrics:
        step([command, "metrics", "--get", "lpips_alex"], variables, 900, log)
        words = [
            "eval",
            "--pred",
            str(frames),
            "--gt",
            str(frames),
            "--metrics",
            "lpips_alex",
            "-o",
            str(home / "eval"),
        ]
        if "lpips_alex" not in step([command, *words], variables, 600, log):
            raise Failed("eval does not show LPIPS")


def with_pip(target: str, home: Path, variables: dict[str, str], log: Path | None) -> str:
    """``pip install`` in a virtual environment."""
    step([sys.executable, "-m", "venv", str(home / "venv")], variables, 300, log)
    scripts = home / "venv" / ("Scripts" if os.name == "nt" else "bin")
    step([str(scripts / "python"), "-m", "pip", "install", target], variables, 3600, log)
    return str(scripts / "sparkvsr")


def with_uv(target: str, home: Path, variables: dict[str, str], log: Path | None) -> str:
    """``uv tool install``."""
    variables.update(UV_TOOL_DIR=str(home / "tools"), UV_TOOL_BIN_DIR=str(home / "bin"))
    words = ["--python", sys.executable, "--no-python-downloads", "--quiet"]
    step([program("uv"), "tool", "install", *words, target], variables, 3600, log)
    return str(home / "bin" / "sparkvsr")


def with_pipx(target: str, home: Path, variables: dict[str, str], log: Path | None) -> str:
    """``pipx install``."""
    variables.update(PIPX_HOME=str(home / "pipx"), PIPX_BIN_DIR=str(home / "bin"), PIPX_MAN_DIR=str(home / "man"))
    step([program("pipx"), "install", "--python", sys.executable, target], variables, 3600, log)
    return str(home / "bin" / "sparkvsr")


WAYS: dict[str, Callable[[str, Path, dict[str, str], Path | None], str]] = {
    "pip": with_pip,
    "uv": with_uv,
    "pipx": with_pipx,
}


def program(name: str) -> str:
    """The path of a program, beside this Python or anywhere."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise Failed(f"{name} is not installed: pip install {name}")
    return found


def clean_environment(home: Path) -> dict[str, str]:
    """The variables of a new user: nothing of this Python, a cache of its own for SparkVSR, installers keep theirs."""
    left_out = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "SPARKVSR_WEIGHTS", "TORCH_HOME")
    variables = {name: value for name, value in os.environ.items() if name not in left_out}
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    variables.setdefault("PIP_CACHE_DIR", str(caches / "pip"))
    variables.setdefault("UV_CACHE_DIR", str(caches / "uv"))
    return variables | {"XDG_CACHE_HOME": str(home / "cache"), "XDG_STATE_HOME": str(home / "state")}


def write_frames(folder: Path) -> Path:
    """A clip as PNG files, written without any library: stripes that move."""
    folder.mkdir()
    width, height = SIZE
    for number in range(FRAMES):
        rows = b"".join(
            b"\0" + bytes(v for x in range(width) for v in ((x * 5 + number * 7) % 256, (y * 8) % 256, (x * y) % 256))
            for y in range(height)
        )
        (folder / f"{number:05d}.png").write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows))
            + chunk(b"IEND", b"")
        )
    return folder


def chunk(kind: bytes, data: bytes) -> bytes:
    """One part of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def step(command: list[str], variables: dict[str, str], seconds: float, log: Path | None) -> str:
    """Run a command far from the checkout; its output. A failure shows its last lines."""
    done = subprocess.run(
        command, env=variables, cwd=tempfile.gettempdir(), capture_output=True, text=True, timeout=seconds, check=False
    )
    if log is not None:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}\n")
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise Failed(f"{' '.join(command[:3])} ended with {done.returncode}:\n{last}")
    return done.stdout


def used_bytes(folder: Path) -> float:
    """Of all files below a folder; hard links (uv's) are counted once."""
    seen = {(status.st_dev, status.st_ino): status.st_size for status in map(os.lstat, folder.rglob("*"))}
    return float(sum(seen.values()))


def report(rows: list[tuple[str, str, float, float]]) -> int:
    """A table; the exit code."""
    print(f"\n{'way':8} {'result':10} {'time':>7} {'on disk':>9}")
    for way, said, seconds, size in rows:
        print(f"{way:8} {'failed' if said else 'arrived':10} {seconds:5.0f} s {size / 1e9:6.1f} GB")
    return int(any(said for _, said, _, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
