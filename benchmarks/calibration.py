"""Our LPIPS, DISTS, PSNR, SSIM and NIQE beside the values published for the five calibration pairs of IQA-PyTorch.

    python benchmarks/calibration.py [--weights-dir DIR] [--folder calibration]

The pictures and the published values are data files of pyiqa's source package (PolyForm-Noncommercial), fetched with
pip into ``--folder`` and not part of this repository. Weights as for `sparkvsr metrics`: `sparkvsr metrics
--get offline` brings them in full precision. Exit code 1 when a value is off.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from sparkvsr.errors import MetricError
from sparkvsr.metrics import colour, fidelity
from sparkvsr.metrics.colour import Image8
from sparkvsr.metrics.toolbox import Toolbox
from sparkvsr.pretrained.weights import WeightStore

NAMES = ("I03.bmp", "I04.bmp", "I06.bmp", "I08.bmp", "I19.bmp")
PLACE = "ResultsCalibra"


def fetch(folder: Path) -> Path:
    """The pictures and tables out of pyiqa's source package."""
    home = folder / PLACE
    if not (home / "calibration_summary.csv").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        print("Fetching pyiqa's source package for its pictures ...", flush=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "pyiqa"]
        done = subprocess.run([*command, "-d", str(folder)], check=False, capture_output=True, text=True)
        archives = sorted(folder.glob("pyiqa-*.tar.gz"))
        if not archives:
            sys.exit(f"pyiqa's source package could not be fetched with pip:\n{done.stderr[-500:]}")
        with tarfile.open(archives[-1]) as archive:
            for member in archive.getmembers():
                _, _, inside = member.name.partition("/")
                if inside.startswith(PLACE) and member.isfile():
                    target = folder / inside
                    target.parent.mkdir(parents=True, exist_ok=True)
                    source = archive.extractfile(member)
                    assert source is not None
                    target.write_bytes(source.read())
    return home


def read(path: Path) -> Image8:
    """``(H, W, 3)`` uint8 RGB."""
    image = cv2.imread(str(path))
    assert image is not None, path
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def tensor(frame: Image8) -> torch.Tensor:
    """``(1, 3, H, W)`` float32 in [0, 1]."""
    return torch.from_numpy(frame.transpose(2, 0, 1)[None].copy()).float() / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("calibration"))
    parser.add_argument("--weights-dir", type=Path)
    options = parser.parse_args()
    home = fetch(options.folder)
    with (home / "calibration_summary.csv").open(encoding="utf-8") as stream:
        published = {row["Method"]: [float(row[name]) for name in NAMES] for row in csv.DictReader(stream)}
    tools = Toolbox(WeightStore(options.weights_dir))
    yiq = colour.luma_yiq_rounded
    # Row of the table, ours, tolerance, pictures where it must hold. NIQE on the three synthetic distortions rests on
    # rounding noise of flat areas: MATLAB and pyiqa differ by up to 5% there themselves.
    checks: list[tuple[str, Callable[[Image8, Image8], float | None], float, tuple[str, ...]]] = [
        ("lpips", lambda x, y: tools.lpips_alex(tensor(x), tensor(y)), 1.5e-4, NAMES),
        ("dists", lambda x, y: tools.dists(tensor(x), tensor(y)), 1.5e-4, NAMES),
        ("psnr(ours)", lambda x, y: fidelity.psnr(x, y)[0], 2e-4, NAMES),
        ("ssim(ours)", lambda x, y: fidelity.ssim(yiq(x), yiq(y), clamp_structure=True), 1e-4, NAMES),
        ("niqe", lambda x, _: tools.niqe(yiq(x)), 2e-3, ("I04.bmp", "I06.bmp")),
    ]
    pairs = [(read(home / "dist_dir" / name), read(home / "ref_dir" / name)) for name in NAMES]
    print(f"{'':<26}" + "".join(f"{name:>12}" for name in NAMES))
    failed = 0
    for row, measure, tolerance, held in checks:
        label = {"psnr(ours)": "psnr of pyiqa", "ssim(ours)": "ssim_yiq of pyiqa"}.get(row, f"{row}, official")
        values = [measure(x, y) for x, y in pairs]
        print(f"{label:<26}" + "".join(f"{value:>12.4f}" for value in published[row]))
        cells = []
        for name, value, wanted in zip(NAMES, values, published[row], strict=True):
            off = name in held and (value is None or abs(value - wanted) > tolerance)
            failed += off
            cells.append(f"{'-' if value is None else f'{value:.4f}'}{'!' if off else '' if name in held else '~'}")
        print(f"{'  sparkvsr':<26}" + "".join(f"{cell:>12}" for cell in cells))
    print("~ not held to the published value, see the source" + (f"; {failed} value(s) off (!)" if failed else ""))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    try:
        main()
    except MetricError as exc:
        sys.exit(f"Error: {exc}")
