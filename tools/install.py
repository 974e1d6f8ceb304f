"""Make a virtual environment with sparkvsr in it, and say what that takes while it does. `make install` runs this.

    python tools/install.py .venv                # what sparkvsr needs to run
    python tools/install.py .venv --extras dev   # and the tools for tests and checks
    python tools/install.py .venv --torch cpu    # the small build of torch, also where there is an NVIDIA GPU

Needs nothing but Python's own library, because it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

# Measured with torch 2.14 on Linux x86-64: bytes to download, bytes on disk.
SIZES = {"cuda": (3.2e9, 6.5e9), "cpu": (0.45e9, 1.7e9), "default": (0.45e9, 1.7e9)}
EXTRA_SIZES = {"dev": (0.3e9, 0.9e9), "docs": (0.02e9, 0.1e9)}
LARGE = 20e6
STEP_SECONDS = 15


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venv", type=Path)
    parser.add_argument("--extras", default="", help="such as dev, metrics, docs; several with commas")
    parser.add_argument("--torch", choices=("auto", "cpu", "default"), default="auto")
    arguments = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036  (this file also runs where the package cannot)
        return fail(f"SparkVSR needs Python 3.11 or newer, this is {platform.python_version()}; make PYTHON=python3.12")
    python = environment(arguments.venv)
    if python is None:
        return 1
    build = chosen_build(arguments.torch, python)
    extras = [name for name in arguments.extras.split(",") if name]
    is_update = has_package(python, "sparkvsr")
    if not is_update and not announce(build, extras, arguments.venv):
        return 1
    run_pip(python, ["install", "--upgrade", "pip"], "pip itself")
    if build == "cpu" and not has_package(python, "torch"):
        code = run_pip(python, ["install", "--index-url", CPU_INDEX, "torch>=2.6", "torchvision>=0.21"], "torch (CPU)")
        if code:
            return code
    target = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    code = run_pip(python, ["install", "-e", target], "sparkvsr and what it needs")
    if not code:
        print(f"Installed into {arguments.venv}.", flush=True)
    return code


def environment(folder: Path) -> Path | None:
    """The Python of the virtual environment, which is made if it is not there."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        done = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            fail(f"no virtual environment could be made in {folder}: {(done.stderr or done.stdout).strip()}")
            return None
    return python


def chosen_build(asked: str, python: Path) -> str:
    """``cuda``, ``cpu`` (from torch's own index) or ``default`` (what the package index has, CPU or Apple GPU)."""
    is_linux, is_windows = sys.platform == "linux", sys.platform == "win32"
    # On PyPI, the wheels for Windows and macOS are without CUDA, and so are those for Linux on other processors.
    from_pypi = "cuda" if is_linux and platform.machine() in ("x86_64", "aarch64") else "default"
    if asked == "default" or sys.platform == "darwin" or (is_windows and asked == "auto"):
        return from_pypi
    if asked == "auto" and (shutil.which("nvidia-smi") or has_package(python, "torch")):
        return from_pypi
    why = "asked for" if asked == "cpu" else "no NVIDIA GPU found (no nvidia-smi)"
    try:
        with urllib.request.urlopen(f"{CPU_INDEX}/torch/", timeout=10):
            pass
    except (OSError, urllib.error.URLError) as exc:
        print(f"torch's index for CPUs cannot be reached ({CPU_INDEX}: {exc});")
        print("the package index serves torch instead.", flush=True)
        return from_pypi
    print(f"torch: the small build for CPUs ({why}; make TORCH=default takes the one of the package index)", flush=True)
    return "cpu"


def announce(build: str, extras: list[str], folder: Path) -> bool:
    """Say how much comes; False if the disk is too small for it."""
    sizes = [SIZES[build], *(EXTRA_SIZES.get(name, (0.05e9, 0.2e9)) for name in extras)]
    download, disk = (sum(size[k] for size in sizes) / 1e9 for k in (0, 1))
    what = "torch with CUDA is most of it" if build == "cuda" else "torch is half of it"
    print(f"Installing into {folder}: about {download:.1f} GB to download ({what}), {disk:.1f} GB on disk.", flush=True)
    free = shutil.disk_usage(folder).free / 1e9
    if free < disk:
        fail(f"there are only {free:.1f} GB free at {folder}; make room, or make VENV=/another/disk/venv ...")
        return False
    return True


def has_package(python: Path, name: str) -> bool:
    """Whether a package is in the environment already."""
    code = (
        f"import importlib.metadata as m\ntry: m.version({name!r})\nexcept m.PackageNotFoundError: raise SystemExit(1)"
    )
    return subprocess.run([str(python), "-c", code], capture_output=True, check=False).returncode == 0


def run_pip(python: Path, words: list[str], what: str) -> int:
    """Run pip with its progress on one line; its own words only where it fails."""
    command = [str(python), "-m", "pip", *words, "--disable-pip-version-check", "--no-input"]
    version = subprocess.run([*command[:3], "--version"], capture_output=True, text=True, check=False).stdout
    numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
    command += ["--progress-bar", "raw" if numbers >= [24, 1] else "off"]
    # setuptools warns of every editable install that it may hide folders of the same name; here it cannot.
    variables = {**os.environ, "PYTHONWARNINGS": "ignore:Editable installation", "PYTHONUNBUFFERED": "1"}
    lines: list[str] = []
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables
        ) as process,
        Status(what) as status,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            status.see(line.rstrip())
            if not line.startswith("Progress "):
                lines.append(line.rstrip())
    code = process.returncode
    if code:
        print("\n".join(lines[-40:]), file=sys.stderr)
        fail(f"pip could not install {what} (exit code {code}); what it said stands above")
    return code


class Status:
    """What pip does now: one line that changes on a terminal, a line now and then elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._is_terminal = sys.stdout.isatty()
        self._file = ""
        self._bytes = 0.0
        self._shown_at = time.monotonic()
        self._width = 0

    def __enter__(self) -> Status:
        self._show(f"{self._what} ...", always=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            print("\r" + " " * self._width + "\r", end="", flush=True)

    def see(self, line: str) -> None:
        """One line of pip."""
        if (progress := re.fullmatch(r"Progress (\d+) of (\d+)", line)) is not None:
            done, total = (int(part) for part in progress.groups())
            self._show(f"{self._what}: {self._file} {done / 1e6:.0f} of {total / 1e6:.0f} MB")
            if done == total:
                self._bytes += total
        elif (loading := re.match(r"\s*Downloading (\S+?)(?:\.metadata)? \(([\d.]+) (\w+)\)", line)) is not None:
            name, number, unit = loading.groups()
            self._file = name.rsplit("/", 1)[-1].split("-")[0]
            is_large = float(number) * {"kB": 1e3, "MB": 1e6, "GB": 1e9}.get(unit, 1) >= LARGE
            self._show(f"{self._what}: {self._file} ({number} {unit})", always=is_large)
        elif line.startswith("Installing collected packages"):
            count = line.count(",") + 1
            fetched = f"{self._bytes / 1e9:.1f} GB fetched, " if self._bytes > 1e8 else ""
            self._show(f"{self._what}: {fetched}unpacking {count} packages ...", always=True)
        elif line.startswith("Building "):
            self._show(f"{self._what}: {line[0].lower()}{line[1:]}")

    def _show(self, text: str, *, always: bool = False) -> None:
        now = time.monotonic()
        if self._is_terminal:
            text = text[: shutil.get_terminal_size().columns - 1]
            print("\r" + text.ljust(self._width), end="", flush=True)
            self._width = len(text)
        elif always or now - self._shown_at > STEP_SECONDS:
            print(text, flush=True)
            self._shown_at = now


def fail(message: str) -> int:
    """One line on stderr; exit code 1."""
    print(f"Error: {message}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(fail("interrupted; the same command goes on with what pip has downloaded"))
