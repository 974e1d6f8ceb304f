"""What a user installs: the package list is complete, and the built wheel works in a clean environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_listed() -> None:
    setuptools = project()["tool"]["setuptools"]  # type: ignore[index]
    found = set()
    for name, folder in setuptools["package-dir"].items():
        for init in (ROOT / folder).rglob("__init__.py"):
            below = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join([name, *below]))
    assert found == set(setuptools["packages"])


def test_version_stands_in_the_changelog() -> None:
    version = project()["project"]["version"]  # type: ignore[index]
    assert f"[{version}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f'__version__ = "{version}"' in (ROOT / "src" / "sparkvsr" / "version.py").read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built through the sdist from a clean copy of the tree."""
    copy = tmp_path_factory.mktemp("tree") / "sparkvsr"
    unwanted = shutil.ignore_patterns(
        ".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", "demo", "runs", "site", "man", ".nox"
    )
    shutil.copytree(ROOT, copy, ignore=unwanted)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next((copy / "dist").glob("*.whl"))


@pytest.mark.packaging
def test_wheel_holds_weights_and_configs_and_nothing_stray(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"sparkvsr"}
    assert any(name.startswith("sparkvsr/models/lite/weights/") and name.endswith(".safetensors") for name in names)
    assert {"sparkvsr/py.typed", "sparkvsr/inference/events.schema.json"} <= set(names)
    assert "sparkvsr/conf/__init__.py" in names
    assert wheel.stat().st_size < 20e6


@pytest.mark.packaging
def test_installed_wheel_upscales_a_clip(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, timeout=120)
    python = environment / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", "--no-deps", str(wheel)], check=True, timeout=120)
    # Dependencies come from the running environment (7 GB need not be installed twice). A path line in a .pth
    # file does not run the .pth files there, so the editable sparkvsr of that environment stays out of sight.
    site = next((environment / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    command = str(environment / "bin" / "sparkvsr")

    version = subprocess.run(
        [command, "--version"], check=True, capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert version.stdout.startswith("sparkvsr ")
    where = "import sparkvsr; print(sparkvsr.__file__)"
    found = subprocess.run(
        [str(python), "-c", where], check=True, capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert str(environment) in found.stdout

    make = (
        "import av, numpy as np\n"
        "with av.open('in.mp4', 'w') as out:\n"
        "    stream = out.add_stream('libx264', rate=24)\n"
        "    stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'\n"
        "    for i in range(6):\n"
        "        picture = np.roll(np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3), i, 1)\n"
        "        out.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))\n"
        "    out.mux(stream.encode())\n"
    )
    subprocess.run([str(python), "-c", make], check=True, cwd=tmp_path, timeout=60)
    run = subprocess.run(
        [command, "upscale", "in.mp4", "--iframes"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "in_x4.mp4").stat().st_size > 0
