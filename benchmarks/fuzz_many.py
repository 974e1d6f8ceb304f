"""Damage files by the hundred thousand: what fuzz_decode.py and fuzz_files.py do, in forks instead of one by one.

    python benchmarks/fuzz_many.py --inputs 100000 [--first 0] [--seed 0] [--kinds decode,store,...] [--keep FOLDER]

A process with all modules loaded forks for every few hundred inputs; the fork damages and reads them one after the
other and counts in shared memory, which the parent looks at. A fork that dies is a crash; one that computes for more
than 10 s on one input (or stands still for two minutes) hangs. Input K of a seed is always the same: `--first K
--inputs 1` repeats it. Prints each finding and, every few thousand inputs, how far it is; exit code 1 for findings.
"""

from __future__ import annotations

import argparse
import importlib
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
from fuzz_decode import damage, make_seeds, read_as_upscale_does
from fuzz_files import KIND_FILE, KINDS, copied, damage_case, use_as_sparkvsr_does

DECODE = "decode"
DECODE_SHARE = 24
"""Of the inputs, beside ``Kind.share`` of the others: what is cheap comes more often."""
BATCH = 400
CPU_SECONDS, STILL_SECONDS = 10.0, 120.0
OUTCOMES = ("read", "refused")
_LAYOUT = struct.Struct("qdd")  # input, its processor seconds at the start, slowest input


class Shared:
    """What a fork tells its parent: the input it is at, and counts by kind and outcome."""

    def __init__(self, kinds: list[str]) -> None:
        self.kinds = kinds
        self._memory = mmap.mmap(-1, 64 + 16 * len(kinds))

    def begin(self, number: int) -> None:
        """An input begins."""
        _LAYOUT.pack_into(self._memory, 0, number, time.process_time(), self.slowest)

    def end(self, kind: str, outcome: str) -> None:
        """It was read or refused."""
        place = 64 + 16 * self.kinds.index(kind) + 8 * OUTCOMES.index(outcome)
        struct.pack_into("q", self._memory, place, struct.unpack_from("q", self._memory, place)[0] + 1)
        number, begun, slowest = _LAYOUT.unpack_from(self._memory, 0)
        _LAYOUT.pack_into(self._memory, 0, number, begun, max(slowest, time.process_time() - begun))

    @property
    def at(self) -> int:
        """The input that is read, or was last."""
        return int(_LAYOUT.unpack_from(self._memory, 0)[0])

    @property
    def slowest(self) -> float:
        """Processor seconds of the slowest input."""
        return float(_LAYOUT.unpack_from(self._memory, 0)[2])

    def counts(self, kind: str) -> dict[str, int]:
        """So far."""
        place = 64 + 16 * self.kinds.index(kind)
        return dict(zip(OUTCOMES, struct.unpack_from("qq", self._memory, place), strict=True))


class Inputs:
    """Makes and reads damaged inputs by their number.

    Args:
        kinds: names in turn; ``decode`` or one of fuzz_files.py.
        folder: for all files.
        seed: of all randomness.
        read: what is done with a damaged clip or image.
    """

    def __init__(
        self, kinds: list[str], folder: Path, seed: int, read: Callable[[Path], str] = read_as_upscale_does
    ) -> None:
        import torch

        # What the parent computes in threads, a fork waits for at its first computation, and for ever: OpenMP's
        # threads are not forked.
        torch.set_num_threads(1)
        self._folder, self._seed, self._read = folder, seed, read
        self.rota = [name for name in kinds for _ in range(DECODE_SHARE if name == DECODE else KINDS[name].share)]
        (folder / "seeds").mkdir()
        self._clips = [(path, path.read_bytes()) for path in make_seeds(folder / "seeds")] if DECODE in kinds else []
        for name in kinds:
            if name != DECODE:
                (folder / name).mkdir()
                KINDS[name].make(folder / name)
                (folder / name / KIND_FILE).write_text(name)

    def kind(self, number: int) -> str:
        """Of an input."""
        return self.rota[number % len(self.rota)]

    def make(self, number: int) -> Path:
        """Write an input; a file or a folder."""
        rng, kind = random.Random(f"{self._seed} {number}"), self.kind(number)
        if kind == DECODE:
            path, data = rng.choice(self._clips)
            target = self._folder / f"damaged{path.suffix}"
            target.write_bytes(damage(data, rng))
            return target
        case = copied(self._folder / kind, self._folder / "case")
        damage_case(KINDS[kind], case, rng)
        return case

    def use(self, number: int, path: Path) -> str:
        """Read an input as sparkvsr does: ``read`` or ``refused``."""
        return self._read(path) if self.kind(number) == DECODE else use_as_sparkvsr_does(path)

    def clean(self) -> None:
        """Remove what the last input left."""
        shutil.rmtree(self._folder / "case", ignore_errors=True)
        for path in self._folder.glob("damaged*"):
            path.unlink()


def run_batch(inputs: Inputs, first: int, stop: int, shared: Shared, says: Path) -> str | None:
    """Read inputs in a fork; the finding that ended it early, None when all were read or refused."""
    inputs.clean()
    pid = os.fork()
    if pid == 0:
        os._exit(_work(inputs, range(first, stop), shared, says))
    process, at, changed = psutil.Process(pid), -1, time.monotonic()
    begun = 0.0
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return None if code == 0 else says.read_text() if code == 3 else f"crashed (exit code {code})"
        times = process.cpu_times()
        used = times.user + times.system
        if shared.at != at:
            at, changed, begun = shared.at, time.monotonic(), used
        is_still = time.monotonic() - changed > STILL_SECONDS and used - begun < 0.5
        if used - begun > CPU_SECONDS or is_still:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "hung"
        time.sleep(0.2)


def _work(inputs: Inputs, numbers: range, shared: Shared, says: Path) -> int:
    try:
        for number in numbers:
            shared.begin(number)
            path = inputs.make(number)
            shared.end(inputs.kind(number), inputs.use(number, path))
            inputs.clean()
    except BaseException as exc:  # noqa: BLE001 - anything that is not a SparkVSRError is the finding
        says.write_text(f"unexpected {type(exc).__name__}: {' '.join(str(exc).split())[:400]}")
        return 3
    return 0


def fuzz(
    inputs: Inputs,
    first: int,
    count: int,
    shared: Shared,
    keep: Path | None,
    folder: Path,
    *,
    tell: Callable[[str], object],
) -> list[str]:
    """All inputs from one number on; the findings. Each, and how far it is once a minute, is told."""
    findings: list[str] = []
    number, told = first, time.monotonic()
    while number < first + count:
        stop = min(number + BATCH, first + count)
        finding = run_batch(inputs, number, stop, shared, folder / "says.txt")
        if finding is not None:
            stop = shared.at + 1
            findings.append(f"input {shared.at}, {inputs.kind(shared.at)}: {finding}")
            tell(findings[-1])
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                inputs.clean()
                path = inputs.make(shared.at)
                shutil.move(path, keep / f"{shared.at:06d}_{inputs.kind(shared.at)}{path.suffix}")
        number = stop
        if time.monotonic() - told > 60:
            told = time.monotonic()
            tell(f"{number - first} inputs so far, findings {len(findings)}")
    return findings


def _print(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Run the benchmark; 0 when nothing but reads and refusals came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join([DECODE, *KINDS]), help="names, separated by commas")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that were findings")
    arguments = parser.parse_args()
    for name in ("sparkvsr.inference.upscale", "sparkvsr.training.export", "sparkvsr.evaluation.file_run"):
        importlib.import_module(name)
    kinds = arguments.kinds.split(",")
    shared = Shared(kinds)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        inputs = Inputs(kinds, folder, arguments.seed)
        findings = fuzz(inputs, arguments.first, arguments.inputs, shared, arguments.keep, folder, tell=_print)
    totals: Counter[str] = Counter()
    for kind in kinds:
        totals.update(shared.counts(kind))
        print(f"{kind}: {shared.counts(kind)}")
    print(f"{arguments.inputs} inputs: {dict(totals)}; slowest {shared.slowest:.2f} s; findings {len(findings)}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
