"""The tables of docs/results.md: bicubic, Real-ESRGAN frame by frame and lite, on the public ground-truth clips.

    python benchmarks/results_table.py                    # what is not measured yet, then docs/results.md
    python benchmarks/results_table.py --rows lite        # lite's rows only (after new weights)
    python benchmarks/results_table.py --rows isr --no-write
    python benchmarks/results_table.py --list             # what is measured, with which weights

Every row is a bench run of `sparkvsr eval` (LR frames by MATLAB's bicubic /4, frames compared before any encoding) kept
below ``--work``. It is resumed by clip: a clip is measured again only when model, weights, references, data or metrics
changed. Images of the image upscalers are kept there too, because x4plus costs 10 to 20 s a frame on a CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparkvsr.errors import SparkVSRError
from sparkvsr.evaluation.bench import parse_bench
from sparkvsr.evaluation.bench_run import BenchRun
from sparkvsr.evaluation.image_model import ImageModel
from sparkvsr.evaluation.restoring import load_restorer
from sparkvsr.evaluation.run_options import MetricChoice, RunOptions
from sparkvsr.keyframes.makers.cache import ImageCache, content_key
from sparkvsr.keyframes.references import ReferenceMaker, make_reference_maker
from sparkvsr.models.interface import RestorationModel

METRICS = "psnr_y,ssim_y,lpips_alex,dists,niqe,vmaf,tlp,ewarp_dis,tof,flicker"
VID4 = ("calendar", "city", "foliage", "walk")
KEYFRAME_STEP = 24
MEASURED = "measured.json"
BEGIN, END = "<!-- results_table.py begins -->", "<!-- results_table.py ends -->"

BENCH = """
title: "public clips: 14 frames of each Vid4 clip, 32 of butterfly and whitedog"
kind: paired
scale: 4
clips: [calendar, city, foliage, walk, butterfly, whitedog]
frames: {calendar: 14, city: 14, foliage: 14, walk: 14, butterfly: 32, whitedog: 32}
degradation: bicubic
channel: y
metrics: default
primary: psnr_y
gt_folders: [GT]
lr_folders: [LQ]
get: "--clips: one file a clip"
"""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        key: names it on the command line and on disk.
        label: as printed.
        model: ``bicubic``, ``lite``, or the name of a Real-ESRGAN weight file.
        look: of lite.
        keyframes, references: as for ``sparkvsr eval``; a reference may be the name of a Real-ESRGAN weight file.
    """

    key: str
    label: str
    model: str
    keyframes: str | None = "none"
    references: str | None = None
    look: str = "faithful"

    @property
    def is_lite(self) -> bool:
        return self.model == "lite"


GENERAL, ANIME, X4PLUS = "realesr-general-x4v3", "realesr-animevideov3", "RealESRGAN_x4plus"
_EVERY = f"every:{KEYFRAME_STEP}"
ROWS = (
    Row("bicubic", "bicubic", "bicubic"),
    Row("general", "Real-ESRGAN general-x4v3, frame by frame", GENERAL),
    Row("anime", "Real-ESRGAN animevideov3, frame by frame", ANIME),
    Row("x4plus", "Real-ESRGAN x4plus, frame by frame", X4PLUS),
    Row("lite", "**lite**, blind", "lite"),
    Row("lite-vivid", "**lite, vivid** (default command)", "lite", None, None, "vivid"),
    Row("lite-lite", "**lite**, keyframes by its own upscaler", "lite", _EVERY, "lite"),
    Row("lite-general", "**lite**, keyframes by general-x4v3", "lite", _EVERY, GENERAL),
    Row("lite-x4plus", "**lite**, keyframes by x4plus", "lite", _EVERY, X4PLUS),
    Row("lite-gt", "**lite**, keyframe 0 from ground truth (best possible)", "lite", "first", "gt"),
)


class CachedMaker(ReferenceMaker):
    """An image upscaler whose images are kept by the frame that they were made from (16-bit PNG)."""

    def __init__(self, maker: ReferenceMaker, folder: Path) -> None:
        self.name = maker.name
        self._maker = maker
        self._cache = ImageCache(folder)

    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:
        """See ``ReferenceMaker.make``."""
        pixels = (lr * 255).round().byte().contiguous().numpy().tobytes()
        key = content_key(self.identity(index), str(tuple(lr.shape)), str(size), pixels)
        image = self._cache.get(key)
        if image is None:
            self._cache.put(key, self._maker.make(lr, size, index))
            image = self._cache.get(key)
            assert image is not None, "the cache folder cannot be written"
        return image

    def identity(self, index: int) -> str:
        """See ``ReferenceMaker.identity``."""
        return self._maker.identity(index)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=Path("data/public"), help="ground truth, a file a clip")
    parser.add_argument("--weights", type=Path, default=Path("data/weights"), help="isr/, metric/, perceptual/")
    parser.add_argument("--work", type=Path, default=Path("results/tables"), help="runs and images are kept here")
    parser.add_argument("--rows", nargs="+", default=["all"], help="all, isr, lite, or keys: " + " ".join(_keys()))
    parser.add_argument("--docs", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--no-write", action="store_true", help="print the tables, leave the page alone")
    parser.add_argument("--list", action="store_true", help="only say what is measured")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.list:
        try:
            measure_rows(pick_rows(options.rows), options)
        except SparkVSRError as exc:
            sys.exit(f"Error: {exc}")
    records = read_records(options.work)
    if options.list:
        for row in ROWS:
            print(f"{row.key:<14}{weights_of(records[row.key]) if row.key in records else 'not measured'}")
        return
    stale = {weights_of(records[row.key]) for row in ROWS if row.is_lite and row.key in records}
    if len(stale) > 1:
        sys.exit(
            f"Error: lite's rows were measured with different weights ({', '.join(sorted(stale))}); run --rows lite"
        )
    text = page_part(records)
    print(text)
    if not options.no_write:
        write_between_markers(options.docs, text)
        print(f"Wrote {options.docs}")


def _keys() -> list[str]:
    return [row.key for row in ROWS]


def pick_rows(names: Sequence[str]) -> list[Row]:
    """What ``--rows`` stands for."""
    unknown = [name for name in names if name not in {"all", "isr", *_keys()}]
    if unknown:
        sys.exit(f"--rows {' '.join(unknown)} unknown; use all, isr, lite, or {' '.join(_keys())}")
    return [
        row
        for row in ROWS
        if "all" in names
        or row.key in names
        or (row.is_lite and "lite" in names)
        or (not row.is_lite and "isr" in names)
    ]


def measure_rows(rows: Sequence[Row], options: argparse.Namespace) -> None:
    """Run the rows that are not measured yet."""
    bench = parse_bench("public", BENCH)
    root = link_clips(options.clips, options.work / "data" / "public" / "GT")
    choice = MetricChoice(METRICS, weights_dir=options.weights)
    for row in rows:
        started = time.monotonic()
        folder = options.work / "rows" / row.key

        def load(run: RunOptions, row: Row = row) -> RestorationModel:
            if row.is_lite or row.model == "bicubic":
                return load_restorer(replace(run, look=row.look if row.is_lite else None))
            maker = cached_maker(row.model, options)
            return ImageModel(maker, maker.name, run.device)

        def references(run: RunOptions, row: Row = row) -> ReferenceMaker | None:
            if row.references == "gt":
                return None
            if row.references is None:
                assert run.references is not None
                return make_reference_maker(run.references, run.device)
            if row.references == "lite":
                return make_reference_maker("lite", run.device)
            return cached_maker(row.references, options)

        run = BenchRun.prepare(
            bench, root, choice,
            RunOptions(model=row.model, keyframes=row.keyframes, references=row.references, device="cpu"),
        )  # fmt: skip
        fresh: list[str] = []

        def hook(event: dict[str, Any], row: Row = row, fresh: list[str] = fresh) -> None:
            if event["event"] == "clip" and not event["reused"]:
                fresh.append(event["name"])
                print(f"{row.key}: {event['name']} measured", flush=True)

        run.execute(folder, hook, load_model=load, load_maker=references)
        if fresh or not (folder / MEASURED).is_file():
            facts = {"commit": commit(), "date": datetime.now(UTC).date().isoformat()}
            (folder / MEASURED).write_text(json.dumps(facts), encoding="utf-8")
        print(f"{row.key}: {len(fresh)} clips measured, {time.monotonic() - started:.0f} s", flush=True)


def cached_maker(name: str, options: argparse.Namespace) -> CachedMaker:
    """A Real-ESRGAN network with its images kept."""
    path = options.weights / "isr" / f"{name}.fp16.pth"
    return CachedMaker(make_reference_maker(str(path)), options.work / "images" / name)


def link_clips(source: Path, target: Path) -> Path:
    """The layout that ``sparkvsr eval`` expects, as links; returns the data root."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.resolve().iterdir()):
        link = target / path.name.removeprefix("vid4_")
        if path.suffix in {".mkv", ".mp4"} and not link.exists():
            link.symlink_to(path)
    return target.parent.parent


def commit() -> str:
    """Short commit of the checkout, with a + when files were changed."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if git("status", "--porcelain", "-uno") else "")


def read_records(work: Path) -> dict[str, dict[str, Any]]:
    """Records of the rows that are there."""
    records = {}
    for row in ROWS:
        folder = work / "rows" / row.key
        if (folder / "results.json").is_file() and (folder / MEASURED).is_file():
            records[row.key] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            records[row.key]["measured"] = json.loads((folder / MEASURED).read_text(encoding="utf-8"))
    return records


# What the page says. Every number comes from the records.


@dataclass(frozen=True)
class Column:
    """A metric as a column: heading, digits, and whether the mean without keyframes stands in brackets."""

    name: str
    heading: str
    decimals: int
    bracket: bool = False


VID4_COLUMNS = (
    Column("psnr_y", "PSNR-Y ↑", 2, bracket=True),
    Column("ssim_y", "SSIM-Y ↑", 4),
    Column("lpips_alex", "LPIPS ↓", 4, bracket=True),
    Column("dists", "DISTS ↓", 4),
    Column("niqe", "NIQE ↓", 3),
    Column("vmaf", "VMAF ↑", 1),
    Column("tlp", "tLP ×100 ↓", 2),
    Column("tof", "tOF ↓", 3),
    Column("ewarp_dis", "warping error", 2),
)
CHEAP_COLUMNS = tuple(c for c in VID4_COLUMNS if c.name in {"psnr_y", "lpips_alex", "niqe", "ewarp_dis"})


def page_part(records: dict[str, dict[str, Any]]) -> str:
    """The tables as Markdown."""
    everything = sorted({clip["name"] for record in records.values() for clip in record["clips"]})
    weights = dict.fromkeys(weights_of(records[row.key]) for row in ROWS if row.key in records)
    lines = [
        "## Vid4 (BI, x4), first 14 frames of each clip",
        "",
        "Part of the bench, so **not** comparable with published rows (41, 34, 49 and 47 frames). LR by MATLAB's",
        "bicubic, frames compared before any encoding, PSNR and SSIM on BT.601 limited luma, border 0; mean over",
        "frames, then clips. In brackets: without the keyframes themselves. Neither low nor high is better for the",
        f"warping error (x1000, flow of the ground truth): the ground truth has {own_value(records, VID4):.2f}.",
        "",
        *table(records, VID4, VID4_COLUMNS),
        "",
        f"## All public clips ({', '.join(everything)}), keyframe every {KEYFRAME_STEP} frames",
        "",
        "As above; butterfly and whitedog have 32 frames and lossy ground truth. "
        f"Warping error of the ground truth itself: {own_value(records, everything):.2f}.",
        "",
        *table(records, everything, CHEAP_COLUMNS),
        "",
        *comparisons(records, everything),
        "",
        f"Weights: {'; '.join(weights)}. {measured_at(records)}",
    ]  # fmt: skip
    return "\n".join(lines)


def table(records: dict[str, dict[str, Any]], clips: Sequence[str], columns: Sequence[Column]) -> list[str]:
    """One line a row."""
    lines = ["| | " + " | ".join(c.heading for c in columns) + " |", "|---|" + "---|" * len(columns)]
    for row in ROWS:
        if row.key not in records:
            lines.append(f"| {row.label} | not measured yet: `--rows {row.key}` |" + " |" * (len(columns) - 1))
            continue
        cells = []
        for column in columns:
            value = clip_mean(records[row.key], column.name, clips)
            cell = "-" if value is None else f"{value:.{column.decimals}f}"
            rest = clip_mean(records[row.key], column.name, clips, "mean_without_keyframes") if column.bracket else None
            cells.append(cell if rest is None else f"{cell} ({rest:.{column.decimals}f})")
        lines.append(f"| {row.label} | " + " | ".join(cells) + " |")
    return lines


def comparisons(records: dict[str, dict[str, Any]], clips: Sequence[str]) -> list[str]:
    """What issue 5 asks: few x4plus keyframes against x4plus on every frame, and steadiness over time."""
    lines = []
    if {"x4plus", "lite-x4plus"} <= set(records):
        changes = [
            f"{heading} {ours:.{digits}f} against {theirs:.{digits}f} ({100 * (ours / theirs - 1):+.1f}%)"
            for name, heading, digits in (
                ("lpips_alex", "LPIPS", 4),
                ("niqe", "NIQE", 3),
                ("ewarp_dis", "warping error", 2),
            )
            if (ours := clip_mean(records["lite-x4plus"], name, clips))
            and (theirs := clip_mean(records["x4plus"], name, clips))
        ]
        what = f"x4plus on one frame in {KEYFRAME_STEP}, carried by lite, against x4plus on every frame"
        lines.append(f"- {what}: {'; '.join(changes)}.")
    base = clip_mean(records["bicubic"], "ewarp_dis", clips) if "bicubic" in records else None
    if base:
        values = [
            f"{row.label.replace('**', '')} {value:.2f} ({value / base:.2f} times bicubic)"
            for row in ROWS
            if row.key in records
            and row.key != "bicubic"
            and (value := clip_mean(records[row.key], "ewarp_dis", clips))
        ]
        lines.append(f"- Warping error, bicubic {base:.2f}: {'; '.join(values)}.")
        own = own_value(records, clips)
        distances = [
            f"{row.label.replace('**', '')} {abs(value - own):.2f}"
            for row in ROWS
            if row.key in records and (value := clip_mean(records[row.key], "ewarp_dis", clips))
        ]
        lines.append(
            f"- Blur lowers the warping error; the ground truth itself has {own:.2f}. Distance to that: "
            f"{'; '.join(distances)}."
        )
    return lines


def clip_mean(record: dict[str, Any], name: str, clips: Sequence[str], key: str = "mean") -> float | None:
    """Mean of a metric over some clips; None when a clip has no value."""
    values = [clip["metrics"][name].get(key) for clip in record["clips"] if clip["name"] in clips]
    return sum(values) / len(values) if values and all(value is not None for value in values) else None


def own_value(records: dict[str, dict[str, Any]], clips: Sequence[str]) -> float:
    """Warping error of the ground truth itself."""
    value = clip_mean(next(iter(records.values())), "ewarp_dis", clips, "gt_mean")
    assert value is not None
    return value


def weights_of(record: dict[str, Any]) -> str:
    """The model and the start of its fingerprint."""
    model = record["run"]["model"]
    parts = [part for part in model["fingerprint"].replace("-", " ").split() if len(part) >= 32]
    return f"{model['name']} `{parts[0][:16]}`" if parts else model["name"]


def measured_at(records: dict[str, dict[str, Any]]) -> str:
    """When, grouped; the commit stays in the records."""
    groups: dict[str, list[str]] = {}
    for key, record in records.items():
        groups.setdefault(record["measured"]["date"], []).append(key)
    return "Measured " + "; ".join(f"{when}: {', '.join(keys)}" for when, keys in groups.items()) + "."


def write_between_markers(page: Path, text: str) -> None:
    """Replace what stands between the markers of a page."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"Error: {page} has no markers {BEGIN} and {END}; put them where the tables belong")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
