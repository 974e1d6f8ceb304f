"""Kill `sparkvsr upscale` at random moments until it gets through, and compare with a run that nobody disturbed.

    python benchmarks/kill_resume.py [--trials 20] [--seed 0] [--model bicubic] [--clip CLIP] [--options "..."]
    python benchmarks/kill_resume.py --kills 1000 --frames 48 --size 64x48      # as many trials as that takes

Every trial starts the same command again and again. Each time it is ended with SIGKILL: after a random part of the
time that an undisturbed run takes, or right before one of the changes that it makes to the file system, whichever one
(a file opened for writing, flushed, renamed, deleted). Between two attempts the work folder may be treated as a power
failure or a bad disk would: random files in it are cut, emptied, filled with noise or zeros, changed in one bit, or
deleted. Some attempts run against a full disk (a limit on the size of files). At the end the decoded frames and the
sound have to equal those of the undisturbed run, bit for bit, and at no moment may anything lie under the output's
name that is not complete. The undisturbed run itself is held against the clip, read by PyAV alone: as many frames,
each of them the picture of its own number, at its own time, with every packet of the sound in its place (`--plant`
puts a fault there to see it found).

The command runs in a fork of this process, which has all modules loaded: kills then fall into the work instead of the
start. Prints one line a trial and the totals; exit code 1 when a result differed, a run gave up, or anything else was
found.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from forked import Command, Steps, load_everything
from planted import UNFLUSHED, VIDEO_FAULTS, plant_unflushed, plant_video_fault

DAMAGES = ("cut", "empty", "noise", "bit", "delete", "head")
MOST_ATTEMPTS = 60
FAR_OFF = 12.0
"""Mean difference in codes of 255 above which a frame is not that of the clip, whatever is around it."""


@dataclass
class Trial:
    """What happened in one trial."""

    kills: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    damages: Counter[str] = field(default_factory=Counter)
    full_disks: int = 0
    findings: list[str] = field(default_factory=list)


def make_clip(path: Path, frames: int, size: tuple[int, int], shots: int = 6) -> Path:
    """Moving textures, another one after each cut, and sound."""
    rng = np.random.default_rng(0)
    height, width = size
    coarse = rng.integers(0, 256, (shots, height // 8, width // 4, 3), dtype=np.uint8)
    textures = coarse.repeat(8, 1).repeat(8, 2)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=Fraction(25), options={"g": "50", "sc_threshold": "0"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = out.add_stream("aac", rate=16000, layout="mono")
        for index in range(frames):
            left = index % width
            picture = np.ascontiguousarray(textures[index * shots // frames][:, left : left + width])
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture)))
        tone = (np.sin(np.arange(16000 * frames // 25) / 20) * 8000).astype(np.int16)[None]
        sound = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        sound.sample_rate = 16000
        out.mux(audio.encode(sound))
        out.mux(video.encode())
        out.mux(audio.encode())
    return path


def frames_digest(path: Path) -> str:
    """SHA-256 over all decoded frames and the sound's packets, read by PyAV and not by our own reader."""
    digest = hashlib.sha256()
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            digest.update(f"{frame.pts} ".encode())
            digest.update(frame.to_ndarray(format="yuv420p").tobytes())
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.audio):
            digest.update(f"{packet.pts} ".encode())
            digest.update(bytes(packet))
    return digest.hexdigest()


def strangers(clip: Path, output: Path) -> list[str]:
    """What of an upscaled clip is not what its source says, found without the product's own reader and joining.

    A frame is that of its number when, reduced to the source's size, it is closer to that frame of the source than to
    the four around it, and close at all.
    """
    low, high = _frames(clip), _frames(output)
    found = []
    if len(low) != len(high):
        found.append(f"{len(high)} frames for {len(low)}")
    height, width = low[0][1].shape[:2]
    for index, (time_high, picture) in enumerate(high[: len(low)]):
        small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        near = range(max(0, index - 2), min(len(low), index + 3))
        errors = {k: float(np.abs(small.astype(np.float32) - low[k][1]).mean()) for k in near}
        if errors[index] > min(errors.values()) + 0.01 or errors[index] > FAR_OFF:
            found.append(f"frame {index} is not that of the clip")
        if abs((time_high - high[0][0]) - (low[index][0] - low[0][0])) > 0.0015:
            found.append(f"frame {index} is at {time_high:.4f} s")
    sound = [_sound(path) for path in (clip, output)]
    if [data for _, data in sound[0]] != [data for _, data in sound[1]]:
        found.append("the sound's packets are others")
    else:
        shifts = [b - a for (a, _), (b, _) in zip(*sound, strict=True)]
        late = [shift - (high[0][0] - low[0][0]) for shift in shifts]
        if late and max(map(abs, late)) > 0.0015:
            found.append(f"the sound is {max(late, key=abs):+.3f} s off")
    return found


def _frames(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def _sound(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(container.streams.audio) if packet.size]
        return [(float(packet.pts * packet.time_base), bytes(packet)) for packet in packets]


def damage(folder: Path, rng: random.Random) -> str | None:
    """Harm one random file of a work folder; returns how."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        return None
    path, how = rng.choice(files), rng.choice(DAMAGES)
    data = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
    elif how == "empty" or not data:
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(data[: rng.randrange(len(data))])
    elif how == "noise":
        path.write_bytes(rng.randbytes(len(data)))
    elif how == "head":
        # The size is there, the data never reached the disk.
        keep = rng.randrange(len(data))
        path.write_bytes(bytes(data[:keep]) + bytes(len(data) - keep))
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
    return how


class Runner:
    """Runs trials.

    Args:
        clip: input.
        options: of `sparkvsr upscale`.
        folder: everything is written there.
        rng: decides all that is random.
    """

    def __init__(self, clip: Path, options: list[str], folder: Path, rng: random.Random) -> None:
        self._clip, self._options, self._folder, self._rng = clip, options, folder, rng
        self._log = folder.parent / f"{folder.name}.stderr.txt"
        whole = folder / f"whole{clip.suffix}"
        started = time.monotonic()
        steps = Steps(folder)
        command = self._start(whole, steps)
        if not command.wait(3600) or command.code != 0:
            sys.exit(f"the undisturbed run failed: {command.error}")
        self.seconds = time.monotonic() - started
        self.steps = steps.done
        self.strangers = strangers(clip, whole)
        if steps.unflushed:
            self.strangers.append(f"{steps.unflushed} files got their names before their data were on the disk")
        self._expected = frames_digest(whole)
        self._bytes = whole.stat().st_size

    def trial(self, number: int) -> Trial:
        """Kill until it gets through."""
        trial = Trial()
        out = self._folder / f"trial{number}{self._clip.suffix}"
        work = self._folder / f".{out.name}.work"
        for attempt in range(MOST_ATTEMPTS):
            is_disk_full = self._rng.random() < 0.15
            limit = self._rng.randrange(500, self._bytes) if is_disk_full else None
            is_stopped = limit is None and self._rng.random() < 0.5
            # Early ones more often: what is stored already shortens the run.
            stop_before = int(self.steps * self._rng.random() ** 2) if is_stopped else None
            steps = Steps(self._folder)
            command = self._start(out, steps, limit, stop_before)
            # Later attempts get more and more time, so that it ends; a full disk ends it by itself.
            patience = self.seconds * self._rng.uniform(0.03, 0.5) * (1 + attempt / 10)
            is_timed = limit is None and stop_before is None
            is_over = command.wait(patience if is_timed else 600)
            if not is_over or command.code == -signal.SIGKILL:
                if not is_over:
                    command.kill()
                trial.kills += 1
                trial.steps[f"before {steps.last}" if is_over else "by the clock"] += 1
                if not is_over and not is_timed:
                    trial.findings.append(f"attempt {attempt} hung")
                self._check_name(out, trial)
                if self._rng.random() < 0.6 and (how := damage(work, self._rng)):
                    trial.damages[how] += 1
                continue
            if command.code == 0:
                break
            lines = [line for line in command.error.splitlines() if not line.startswith("Warning")]
            if limit is None or len(lines) != 1 or not lines[0].startswith("Error: "):
                trial.findings.append(f"attempt {attempt} gave up ({command.code}): {command.error.strip()[-300:]}")
                return trial
            trial.full_disks += 1
            self._check_name(out, trial)
        else:
            trial.findings.append(f"not finished after {MOST_ATTEMPTS} attempts")
            return trial
        if frames_digest(out) != self._expected:
            trial.findings.append("the result differs from the undisturbed run")
        left = sorted(path.name for path in self._folder.iterdir() if f"trial{number}." in path.name)
        if left != [out.name]:
            trial.findings.append(f"left behind: {left}")
        out.unlink()
        return trial

    def _check_name(self, out: Path, trial: Trial) -> None:
        """What has the output's name is complete, whenever one looks."""
        if out.exists() and frames_digest(out) != self._expected:
            trial.findings.append("an incomplete file had the output's name")

    def _start(self, out: Path, steps: Steps, limit: int | None = None, stop_before: int | None = None) -> Command:
        # A run that was killed behind the last rename left a complete output; the same command replaces it.
        arguments = ["upscale", str(self._clip), "-o", str(out), "--overwrite", *self._options]
        return Command(arguments, self._log, steps, limit, stop_before)


def main() -> int:
    """Run the trials; 0 when nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--kills", type=int, help="go on until there were so many, instead of --trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clip", type=Path, help="default: one is made, with six shots and sound")
    parser.add_argument("--frames", type=int, default=240, help="of the clip that is made")
    parser.add_argument("--size", default="128x96", help="of the clip that is made")
    parser.add_argument("--model", default="bicubic")
    parser.add_argument("--options", default="", help="more options of sparkvsr upscale, in one string")
    parser.add_argument(
        "--plant", choices=[*sorted(VIDEO_FAULTS), UNFLUSHED], help="put a fault into the product, to see it found"
    )
    arguments = parser.parse_args()
    # Once, before the first fork.
    load_everything()
    if arguments.plant:
        plant_unflushed() if arguments.plant == UNFLUSHED else plant_video_fault(arguments.plant)
    width, height = map(int, arguments.size.split("x"))
    options = ["--model", arguments.model, "--references", arguments.model, *shlex.split(arguments.options)]
    totals: Counter[str] = Counter()
    damages: Counter[str] = Counter()
    places: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="sparkvsr-kill-") as scratch:
        folder = Path(scratch).resolve() / "trials"
        folder.mkdir()
        clip = arguments.clip or make_clip(folder / "in.mp4", arguments.frames, (height, width))
        runner = Runner(clip, options, folder, random.Random(arguments.seed))
        totals["findings"] += len(runner.strangers)
        first = "; ".join(runner.strangers[:8]) or "as the clip"
        print(f"undisturbed: {runner.seconds:.1f} s, {runner.steps} changes of files, {first}", flush=True)
        number = 0
        while number < arguments.trials if arguments.kills is None else totals["kills"] < arguments.kills:
            trial = runner.trial(number)
            number += 1
            places += trial.steps
            totals.update(kills=trial.kills, full_disks=trial.full_disks, findings=len(trial.findings))
            damages += trial.damages
            print(f"trial {number - 1}: {trial.kills} kills, {trial.full_disks} full disks, damaged files "
                  f"{dict(trial.damages)}, {'; '.join(trial.findings) or 'equal'}", flush=True)  # fmt: skip
    print(f"{number} trials: {totals['kills']} kills {dict(places)}, {totals['full_disks']} full disks, "
          f"{sum(damages.values())} damaged files {dict(damages)}; findings {totals['findings']}")  # fmt: skip
    return 1 if totals["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
