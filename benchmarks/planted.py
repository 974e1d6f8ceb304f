"""Faults that are planted into the product, so that the benchmarks that harden it can be seen to notice them.

    python benchmarks/kill_resume.py --trials 0 --plant swapped      # has to end with exit code 1

tests/cli/test_planted.py plants each of them: a benchmark that finds nothing is worth nothing before it has found
something.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

# Into a finished video


def swapped(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Two neighbouring frames in each other's place."""
    middle = len(frames) // 2
    return [*frames[:middle], frames[middle + 1], frames[middle], *frames[middle + 2 :]]


def last_lost(frames: list[np.ndarray]) -> list[np.ndarray]:
    """The last frame is not there."""
    return frames[:-1]


def repeated(frames: list[np.ndarray]) -> list[np.ndarray]:
    """A frame stands for the one behind it, in every run alike."""
    middle = len(frames) // 3
    return [*frames[:middle], frames[middle - 1], *frames[middle + 1 :]]


def noise(frames: list[np.ndarray]) -> list[np.ndarray]:
    """A few frames of a garbled segment."""
    rng = np.random.default_rng(0)
    start = len(frames) // 2
    garbled = [rng.integers(0, 256, frame.shape, dtype=np.uint8) for frame in frames[start : start + 3]]
    return [*frames[:start], *garbled, *frames[start + 3 :]]


def _same(frames: list[np.ndarray]) -> list[np.ndarray]:
    return frames


VIDEO_FAULTS: dict[str, tuple[Callable[[list[np.ndarray]], list[np.ndarray]], float]] = {
    "swapped": (swapped, 0.0),
    "last-lost": (last_lost, 0.0),
    "repeated": (repeated, 0.0),
    "noise": (noise, 0.0),
    "late-sound": (_same, 0.12),
}
"""What is done to the frames, and by how many seconds the sound is moved."""


def spoil(path: Path, name: str) -> None:
    """Write a video again with a fault in it."""
    change, late = VIDEO_FAULTS[name]
    other = path.with_name(f"{path.stem}.spoilt{path.suffix}")
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate or Fraction(25)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(path)) as source, av.open(str(other), "w") as out:
        video = out.add_stream("libx264", rate=rate, options={"crf": "10", "preset": "veryfast"})
        video.height, video.width = frames[0].shape[:2]
        sound = out.add_stream_from_template(source.streams.audio[0], opaque=True)
        for picture in change(frames):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        out.mux(video.encode())
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                move = round(late / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + move, packet.dts + move, sound
                out.mux(packet)
    other.replace(path)


def plant_video_fault(name: str) -> None:
    """From now on, in this process and its forks, every joined video has the fault."""
    import sparkvsr.inference.clip.work as work

    join = work.assemble_video

    def spoilt(path: Path, *arguments: Any, **options: Any) -> list[str]:
        notes = join(path, *arguments, **options)
        spoil(path, name)
        return notes

    work.assemble_video = spoilt


UNFLUSHED = "unflushed"


def plant_unflushed() -> None:
    """From now on, in this process and its forks, nothing is flushed before it gets its name."""
    import sparkvsr.inference.clip.store as store
    from sparkvsr import durable

    def nothing(path: Path) -> None:
        pass

    durable.flush_file = store.flush_file = nothing


# Into what reads damaged files, and what uses references; these run in the worker processes of the fuzzers


def decode_foreign(path: Path) -> str:
    """An exception that is none of ours, for damaged files only."""
    from fuzz_decode import read_as_upscale_does

    if path.stem == "damaged":
        raise KeyError(path.name)
    return read_as_upscale_does(path)


def decode_crash(path: Path) -> str:
    """The process ends."""
    from fuzz_decode import read_as_upscale_does

    if path.stem == "damaged":
        os._exit(11)
    return read_as_upscale_does(path)


def decode_hang(path: Path) -> str:
    """The process computes for ever."""
    from fuzz_decode import read_as_upscale_does

    while path.stem == "damaged":
        pass
    return read_as_upscale_does(path)


def decode_two_lines(path: Path) -> str:
    """A message that is not one line, of an error that words its message itself."""
    import fuzz_decode

    import sparkvsr.video
    from sparkvsr.errors import DecodeError

    class OwnWordsError(DecodeError):
        def __str__(self) -> str:
            return "\n".join(map(str, self.args))

    def refuse(path: Path) -> None:
        raise OwnWordsError("one", f"two {path}")

    if path.stem == "damaged":
        sparkvsr.video.probe = refuse
    return fuzz_decode.read_as_upscale_does(path)


def use_and_write_outside(case: Path) -> str:
    """A file that a link could lead to is written."""
    import fuzz_references

    outcome = fuzz_references.use_as_sparkvsr_does(case)
    if case.name == "case" and outcome == "refused":
        (case / fuzz_references.OUTSIDE / "thesis.txt").write_text("gone")
    return outcome


def use_foreign(case: Path) -> str:
    """An exception that is none of ours where ours was due."""
    import fuzz_references

    outcome = fuzz_references.use_as_sparkvsr_does(case)
    if outcome == "refused":
        raise LookupError(case.name)
    return outcome


# The self-test of what forks, in a process of its own


def show_that_faults_are_found(folder: Path) -> None:
    """Print what full_disk.py and fuzz_many.py say of planted faults, one line each."""
    import random

    import forked
    import full_disk
    import fuzz_many

    import sparkvsr.inference.compare.comparison as comparison

    forked.load_everything()
    os.chdir(folder)
    # What stands still, instead of what was planted, ends before the patience of the test does.
    full_disk.PATIENCE_SECONDS, fuzz_many.STILL_SECONDS = 60.0, 60.0
    comparison._write_text = lambda path, text: path.write_text(text)
    if not full_disk.can_mount():
        print("full disk: cannot be mounted here", flush=True)
    else:
        full_disk.make_clip(folder / "in.mp4", 12, (48, 64))
        (folder / "room").mkdir()
        with full_disk.small_disk(None) as disk:
            trials = full_disk.Trials("compare-page", disk, folder / "room", random.Random(0))
            trials.run(2)
            found = [finding.partition(" with ")[0] for finding in trials.findings]
            print(f"full disk: {', '.join(found) or 'nothing'}", flush=True)
    inputs, shared = fuzz_many.Inputs([fuzz_many.DECODE], folder, 0), fuzz_many.Shared([fuzz_many.DECODE])
    fuzz_many.CPU_SECONDS = 1.0
    for read in (decode_foreign, decode_crash, decode_hang):
        inputs._read = read
        found = fuzz_many.fuzz(inputs, 0, 1, shared, None, folder, tell=len)
        print(f"fuzz {read.__name__}: {found[0] if found else 'nothing'}", flush=True)


if __name__ == "__main__":
    import sys

    show_that_faults_are_found(Path(sys.argv[1]))
