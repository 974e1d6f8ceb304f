"""Feed damaged and hostile files to the decoder: only our own errors, no hang, no crash.

Usage: ``python benchmarks/fuzz_decode.py [--inputs 2000] [--seed 0]``. Prints one line of totals; exit code 1 when an
input crashed the process, hung or raised anything but a `SparkVSRError`.

Every input is one small valid file (video in several codecs and containers, still images) with random damage: flipped
bits, overwritten and removed ranges, repeated blocks, changed length fields, cuts. A worker process reads it the way an
upscale does: probe, I-frames, all frames. A worker that dies or takes longer than 10 s is a finding; on a busy machine,
10 s of the processor or a minute of the clock.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from hostile import is_refused

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

TIME_LIMIT_SECONDS = 10.0
BUSY_FACTOR, START_LIMIT_SECONDS = 6, 300.0
MAX_FRAMES = 60
CLIPS = {
    "h264.mp4": ("libx264", "yuv420p"),
    "h264.mkv": ("libx264", "yuv420p"),
    "h264.ts": ("libx264", "yuv420p"),
    "hevc.mp4": ("libx265", "yuv420p"),
    "mpeg4.avi": ("mpeg4", "yuv420p"),
    "mpeg2.mpg": ("mpeg2video", "yuv420p"),
    "vp9.webm": ("libvpx-vp9", "yuv420p"),
    "ffv1.mkv": ("ffv1", "yuv420p10le"),
    "mjpeg.avi": ("mjpeg", "yuvj420p"),
    "prores.mov": ("prores_ks", "yuv422p10le"),
    "anim.gif": ("gif", "rgb8"),
}
IMAGES = ("a.png", "a.jpg", "a.webp", "a.tif", "a.bmp")


def make_seeds(folder: Path) -> list[Path]:
    """Write the valid files that are damaged afterwards."""
    import av
    import numpy as np
    import torch

    from sparkvsr.video.images import encode_image

    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (96, 160, 3), dtype=np.uint8)
    for name, (codec, pixel_format) in CLIPS.items():
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=Fraction(25))
            stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
            if codec == "libx265":
                stream.codec_context.options = {"x265-params": "log-level=none"}
            for index in range(12):
                picture = np.ascontiguousarray(base[index : index + 48, 2 * index : 2 * index + 64])
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)
                frame.pts = index
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    pixels = torch.from_numpy(base[:48, :64].copy()).permute(2, 0, 1)
    for name in IMAGES:
        (folder / name).write_bytes(encode_image(pixels, Path(name).suffix, bits=8))
    return sorted(folder.iterdir())


def damage(data: bytes, rng: random.Random) -> bytes:
    """Return a damaged copy: one to four random changes of random kinds."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice(("flip", "flip", "overwrite", "remove", "repeat", "length", "cut", "zero"))
        # Headers decide most: half of the changes go to the first and last kilobyte.
        near_edge = rng.random() < 0.5
        limit = max(1, min(len(out), 1024) if near_edge else len(out))
        position = rng.randrange(limit)
        if near_edge and rng.random() < 0.5:
            position = max(0, len(out) - 1 - position)
        size = rng.randint(1, 64)
        if kind == "flip":
            for _ in range(rng.randint(1, 16)):
                place = min(len(out) - 1, position + rng.randrange(64))
                out[place] ^= 1 << rng.randrange(8)
        elif kind == "overwrite":
            out[position : position + size] = rng.randbytes(size)
        elif kind == "remove":
            del out[position : position + size]
        elif kind == "repeat":
            out[position:position] = out[position : position + size] * rng.randint(1, 20)
        elif kind == "length":
            value = rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 100_000, rng.getrandbits(32)))
            out[position : position + 4] = value.to_bytes(4, rng.choice(("big", "little")))
        elif kind == "cut":
            del out[rng.randrange(len(out)) :]
        else:
            out[position : position + size] = bytes(size)
        if not out:
            out = bytearray(b"\0")
    return bytes(out)


def read_as_upscale_does(path: Path) -> str:
    """Probe and decode one file; return ``read`` or ``refused``, let anything unexpected through."""
    from itertools import islice

    from sparkvsr.video import VideoReader, iframe_indices, probe

    def look() -> None:
        probe(path)
        iframe_indices(path)
        for _ in islice(VideoReader(path), MAX_FRAMES):
            pass

    return "refused" if is_refused(look) else "read"


def _work(connection: Connection, read: Callable[[Path], str]) -> None:
    import torch

    importlib.import_module("sparkvsr.inference.upscale")
    torch.set_num_threads(1)
    faulthandler.enable()
    connection.send("ready")
    while (path := connection.recv()) is not None:
        try:
            connection.send(read(Path(path)))
        except Exception as exc:  # noqa: BLE001 - anything that is not a SparkVSRError is the finding
            connection.send(f"unexpected {type(exc).__name__}: {exc}")


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


class Worker:
    """A process that reads files, replaced when it dies or hangs.

    Args:
        read: gets a path and says what became of it; a function of a module.
    """

    def __init__(self, read: Callable[[Path], str] = read_as_upscale_does) -> None:
        self._read = read
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def _start(self) -> None:
        self._connection, child = self._context.Pipe()
        self._process = self._context.Process(target=_work, args=(child, self._read), daemon=True)
        self._process.start()
        child.close()
        # Loading torch is no part of any input's time.
        if not self._connection.poll(START_LIMIT_SECONDS) or self._connection.recv() != "ready":
            msg = "the worker process does not start"
            raise RuntimeError(msg)

    def read(self, path: Path, limit_seconds: float) -> str:
        """Return what became of `path`: ``read``, ``refused``, ``hung``, ``crashed …`` or ``unexpected …``."""
        process = psutil.Process(self._process.pid)
        start, used = time.monotonic(), _cpu_seconds(process)
        self._connection.send(str(path))
        try:
            # On a busy machine the clock alone tells little: what computes may use its time on the processor.
            while time.monotonic() - start < BUSY_FACTOR * limit_seconds:
                if self._connection.poll(limit_seconds):
                    return str(self._connection.recv())
                if _cpu_seconds(process) - used > limit_seconds:
                    break
            outcome = "hung"
        except (EOFError, ConnectionError):
            self._process.join(5)
            outcome = f"crashed (exit code {self._process.exitcode})"
        self._process.kill()
        self._process.join()
        self._start()
        return outcome

    def close(self) -> None:
        """End the process."""
        self._connection.send(None)
        self._process.join(5)


def fuzz(
    num_inputs: int,
    seed: int,
    folder: Path,
    *,
    read: Callable[[Path], str] = read_as_upscale_does,
    limit_seconds: float = TIME_LIMIT_SECONDS,
) -> Iterator[tuple[str, str, float, bytes]]:
    """Yield ``(seed file, outcome, seconds, bytes)`` for each damaged input."""
    rng = random.Random(seed)
    (folder / "seeds").mkdir()
    seeds = make_seeds(folder / "seeds")
    originals = [(path, path.read_bytes()) for path in seeds]
    worker = Worker(read)
    for path in seeds:
        outcome = worker.read(path, 60)  # the first one imports torch
        if outcome != "read":
            msg = f"the undamaged {path.name} was not read: {outcome}"
            raise RuntimeError(msg)
    for number in range(num_inputs):
        path, data = originals[number % len(originals)]
        target = folder / f"damaged{path.suffix}"
        damaged = damage(data, rng)
        target.write_bytes(damaged)
        start = time.monotonic()
        outcome = worker.read(target, limit_seconds)
        yield path.name, outcome, time.monotonic() - start, damaged
        target.unlink()
    worker.close()


def main() -> int:
    """Run the benchmark; 0 when nothing but reads and refusals came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that were findings")
    arguments = parser.parse_args()
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, outcome, seconds, data) in enumerate(fuzz(arguments.inputs, arguments.seed, Path(folder))):
            slowest = max(slowest, seconds)
            kind = outcome.split()[0]
            outcomes[kind] += 1
            if kind not in ("read", "refused"):
                print(f"input {number} from {name}: {outcome}")
                if arguments.keep:
                    arguments.keep.mkdir(parents=True, exist_ok=True)
                    (arguments.keep / f"{number:05d}_{name}").write_bytes(data)
    findings = sum(count for kind, count in outcomes.items() if kind not in ("read", "refused"))
    totals = ", ".join(f"{count} {kind}" for kind, count in sorted(outcomes.items()))
    print(f"{sum(outcomes.values())} inputs: {totals}; slowest {slowest:.2f} s; findings {findings}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
