# ruff: noqa: ARG005  (all commands are made alike)
"""Let the disk run full under every command that writes, at every place where it writes, and see that nothing is lost.

    python benchmarks/full_disk.py [--hits 20] [--seed 0] [--stages store,output,...]

Each stage is a command of which one kind of file lies on a small file system of its own (a tmpfs; mounting it takes
root, `--folder` names one that is there already). The command runs undisturbed first. Then, again and again, so much of
that file system is filled that the rest ends somewhere in what the command needs. Held is:

* the command ends with one line that begins with "Error: " and names a place, exit code 1 or 2; where the file is no
  part of the result (log, caches) it goes on and says so in one line;
* whatever has a final name is what the undisturbed run left there, or what was there before;
* with room again, the same command ends as undisturbed, and leaves nothing else behind.

Trials in which the disk had room after all do not count. Prints one line a stage; exit code 1 when anything was found.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import http.server
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
from forked import Command, load_everything
from kill_resume import make_clip

DISK_BYTES = 64 * 2**20
LEAST_FREE = 4096
PATIENCE_SECONDS = 300.0
MOST_TRIES = 12
"""For each hit that is wanted."""
BICUBIC = ("--model", "bicubic", "--references", "bicubic")
KEYFRAMES = ("keyframes", "in.mp4", "--every", "12", "--references", "bicubic")
TRAIN = (
    "ckpt=auto",
    "model=lite",
    "debug=quick",
    "data.validation.num_clips=1",
    "model.upscaler.blocks=1",
    "export_at_end=false",
)


@dataclass(frozen=True)
class Stage:
    """One kind of file on a full disk.

    Attributes:
        command: gets the small disk and a folder with room; gives the words behind `sparkvsr`.
        results: patterns of what has to be equal in the end, in either folder.
        is_needed: whether the command cannot do without.
        before: run once before each trial, with room.
        says: pattern of the line that tells of it, where the command goes on.
    """

    command: Callable[[Path, Path], list[str]]
    results: tuple[str, ...]
    is_needed: bool = True
    before: Callable[[Path, Path], list[str]] | None = None
    says: str = ""


def _upscale(*arguments: str | Path) -> list[str]:
    return ["upscale", *map(str, arguments), *BICUBIC, "--scale", "2"]


STAGES: dict[str, Stage] = {
    "store": Stage(
        lambda disk, room: _upscale("in.mp4", "-o", room / "out.mp4", "--work", disk / "work"),
        ("out.mp4",),
    ),
    "store-states": Stage(
        lambda disk, room: ["upscale", "long.mp4", "-o", str(room / "out.mp4"), "--work", str(disk / "work"), "--scale",
                            "1", "--look", "faithful", "--no-keyframes"],
        ("out.mp4",),
    ),
    "output": Stage(
        lambda disk, room: _upscale("in.mp4", "-o", disk / "out.mp4", "--work", room / "work"),
        ("out.mp4",),
    ),
    "output-over-old": Stage(
        lambda disk, room: _upscale("in.mp4", "-o", disk / "out.mp4", "--work", room / "work", "--overwrite"),
        ("out.mp4",),
        before=lambda disk, room: _upscale("in.mp4", "-o", disk / "out.mp4", "--work", room / "w1", "--frames", "5"),
    ),
    "output-and-store": Stage(lambda disk, room: _upscale("in.mp4", "-o", disk / "out.mkv"), ("out.mkv",)),
    "images": Stage(lambda disk, room: _upscale("in.mp4", "-o", disk / "frames/"), ("frames/*.png",)),
    "compare": Stage(
        lambda disk, room: _upscale("in.mp4", "-o", disk / "out.mp4", "--work", room / "work", "--compare"),
        ("out.mp4", "out_compare.mp4"),
    ),
    "compare-page": Stage(
        lambda disk, room: ["compare", "in.mp4", "in.mp4", "-o", str(disk / "c.html")],
        ("c.html",),
    ),
    "references": Stage(
        lambda disk, room: [*KEYFRAMES, "-o", str(disk / "refs")],
        ("refs/*.png", "refs/lr/*.png", "refs/keyframes.json"),
    ),
    "references-again": Stage(
        lambda disk, room: [*KEYFRAMES, "-o", str(disk / "refs"),
                            "--overwrite"],
        ("refs/*.png", "refs/lr/*.png", "refs/keyframes.json"),
        before=lambda disk, room: [*KEYFRAMES, "--scale", "2",
                                   "-o", str(disk / "refs")],
    ),
    "cache": Stage(
        lambda disk, room: ["keyframes", "in.mp4", "--every", "12", "--references", Endpoint.url, "-o",
                            str(room / "refs")],
        ("refs/*.png", "refs/keyframes.json"),
        is_needed=False,
        says="cannot be kept",
    ),
    "log": Stage(
        lambda disk, room: [*_upscale("in.mp4", "-o", room / "out.mp4"), "--log-file", str(disk / "log.txt")],
        ("out.mp4",),
        is_needed=False,
        says="log ends there",
    ),
    "results": Stage(
        lambda disk, room: ["eval", "--pred", "in.mp4", "--gt", "in.mp4", "--metrics", "psnr", "-o", str(disk / "res")],
        ("res/results.csv",),
    ),
    "results-page": Stage(
        lambda disk, room: ["eval", "report", str(room / "res"), str(room / "res"), "-o", str(disk / "c.html")],
        ("c.html",),
        before=lambda disk, room: ["eval", "--pred", "in.mp4", "--gt", "in.mp4", "--metrics", "psnr", "-o",
                                   str(room / "res")],
    ),
    "checkpoints": Stage(
        lambda disk, room: ["train", *TRAIN, f"paths.output_dir={disk / 'run'}", f"paths.cache_dir={room / 'cache'}"],
        (),
    ),
    "export": Stage(
        lambda disk, room: ["export", str(room / "run"), "-o", str(disk / "model")],
        ("model/*.safetensors", "model/config.json"),
        before=lambda disk, room: ["train", *TRAIN, f"paths.output_dir={room / 'run'}",
                                   f"paths.cache_dir={room / 'cache'}"],
    ),
}  # fmt: skip


class Endpoint:
    """An image endpoint on this machine, in a process of its own: gives back what it gets."""

    url = ""

    def __enter__(self) -> Endpoint:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                start = body.index(b"\x89PNG")
                picture = body[start : body.index(b"IEND", start) + 8]
                answer = json.dumps({"data": [{"b64_json": base64.b64encode(picture).decode()}]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *words: object) -> None:
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        Endpoint.url = f"http://127.0.0.1:{server.server_port}/v1/images/edits"
        os.environ["no_proxy"] = "*"
        self._pid = os.fork()
        if self._pid == 0:
            server.serve_forever()
        server.server_close()
        return self

    def __exit__(self, *why: object) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def can_mount() -> bool:
    """Whether a small file system can be mounted here."""
    with tempfile.TemporaryDirectory(prefix="sparkvsr-disk-") as name:
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", name]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            return False
        subprocess.run(["umount", "-l", name], check=True)
    return True


@contextlib.contextmanager
def small_disk(folder: Path | None) -> Iterator[Path]:
    """A folder on a small file system."""
    if folder is not None:
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="sparkvsr-disk-") as name:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", name]
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            sys.exit("a small file system cannot be mounted here (it takes root); name one with --folder")
        try:
            yield Path(name).resolve()
        finally:
            subprocess.run(["umount", "-l", name], check=True)


def free_bytes(folder: Path) -> int:
    """Room that is left."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def empty(folder: Path) -> None:
    """Remove what lies in a folder."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def content(path: Path) -> str:
    """What a result shows: decoded frames of videos and images, else the bytes."""
    digest = hashlib.sha256()
    if path.suffix in (".mp4", ".mkv"):
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                digest.update(f"{frame.pts}".encode() + frame.to_ndarray(format="yuv420p").tobytes())
    elif path.suffix == ".png":
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        digest.update(b"no picture" if picture is None else picture.tobytes())
    else:
        digest.update(re.sub(rb"(\d{4}-\d\d-\d\dT|[\d.]+ s\b)[^\s\"]*", b"", path.read_bytes()))
    return digest.hexdigest()


class Trials:
    """Runs the trials of one stage.

    Args:
        name: of the stage.
        disk: the small file system.
        room: an empty folder elsewhere.
        rng: decides how much room there is.
    """

    def __init__(self, name: str, disk: Path, room: Path, rng: random.Random) -> None:
        self.stage, self._disk, self._room, self._rng = STAGES[name], disk, room, rng
        self._log = room.parent / "stderr.txt"
        self.findings: list[str] = []
        self.codes: Counter[int] = Counter()
        self._prepare()
        self._old = self._results()
        before = free_bytes(disk)
        code, text = self._run(disk)
        if code != 0:
            sys.exit(f"{name}: the undisturbed run failed: {text}")
        self._expected, self._left = self._results(), self._files()
        if not self._expected and self.stage.results:
            sys.exit(f"{name}: the undisturbed run left nothing of {self.stage.results}")
        # Whatever it wrote for a while and deleted is not seen here, so a bit more.
        used = max(before - free_bytes(disk), LEAST_FREE)
        self.need = int(1.1 * used) + LEAST_FREE if self.stage.is_needed else used

    def run(self, hits: int) -> int:
        """Try until the disk was full so many times; returns how often it was."""
        count = 0
        for _ in range(hits * MOST_TRIES):
            if count == hits or len(self.findings) > 5:
                break
            count += self._trial()
        return count

    def _trial(self) -> bool:
        self._prepare()
        room = self._rng.randrange(0, self.need) // LEAST_FREE * LEAST_FREE
        ballast = self._disk / ".ballast"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(LEAST_FREE, free_bytes(self._disk) - room))
        code, text = self._run(self._disk)
        lines = [line for line in text.splitlines() if line.strip()]
        about = f"with {room} bytes: exit code {code}: {text.strip()[-400:]!r}"
        is_hit = code != 0 or bool(self.stage.says and self.stage.says in text)
        errors = [line for line in lines if line.startswith("Error: ")]
        if code != 0 and self.stage.is_needed:
            if code not in (1, 2) or len(errors) != 1 or lines[-1] != errors[0] or "defect" in text:
                self.findings.append(f"not one line {about}")
            elif str(self._disk) not in text and "-o" not in text and "--" not in text:
                self.findings.append(f"names no place {about}")
        elif code != 0:
            self.findings.append(f"gave up {about}")
        elif self._results() != self._expected:
            self.findings.append(f"a silent loss {about}")
        self.codes[code] += 1
        for name, digest in self._results().items():
            if digest not in (self._expected.get(name), self._old.get(name)):
                self.findings.append(f"{name} is neither old nor complete {about}")
        self._check_checkpoints(about)
        ballast.unlink()
        if not is_hit or code == 0:
            return is_hit
        code, text = self._run(self._disk)
        if code != 0:
            self.findings.append(f"with room again: exit code {code}: {text.strip()[-300:]!r} after {about}")
        elif self._results() != self._expected:
            self.findings.append(f"with room again another result {about}")
        elif strangers := self._files() - self._left:
            self.findings.append(f"left behind: {sorted(strangers)[:5]} {about}")
        return True

    def _prepare(self) -> None:
        empty(self._disk)
        empty(self._room)
        if self.stage.before is not None:
            kept = self._room.parent / "before"
            if not kept.exists():
                code, text = self._run_command(self.stage.before(self._disk, self._room))
                if code != 0:
                    sys.exit(f"what comes before failed: {text}")
                shutil.copytree(self._room, kept / "room")
                shutil.copytree(self._disk, kept / "disk")
            else:
                shutil.copytree(kept / "room", self._room, dirs_exist_ok=True)
                shutil.copytree(kept / "disk", self._disk, dirs_exist_ok=True)

    def _run(self, disk: Path) -> tuple[int, str]:
        return self._run_command(self.stage.command(disk, self._room))

    def _run_command(self, words: list[str]) -> tuple[int, str]:
        os.environ["XDG_CACHE_HOME"] = str(self._disk / "cache")
        command = Command(words, self._log)
        if not command.wait(PATIENCE_SECONDS):
            command.kill()
            return -9, "hung"
        return command.code or 0, command.error

    def _results(self) -> dict[str, str]:
        found = {}
        for folder in (self._disk, self._room):
            for pattern in self.stage.results:
                found |= {str(path.relative_to(folder)): content(path) for path in folder.glob(pattern)}
        return found

    def _files(self) -> set[str]:
        """Everything but what differs from run to run: names with keys, times, numbers of processes."""
        names = set()
        for folder in (self._disk, self._room):
            for path in folder.rglob("*"):
                name = str(path.relative_to(folder))
                if not re.search(r"[0-9a-f]{16}|tfevents|^cache|logs/", name):
                    names.add(name)
        return names

    def _check_checkpoints(self, about: str) -> None:
        """What has the name of a checkpoint can be read."""
        import torch

        for path in self._disk.rglob("*.ckpt"):
            try:
                torch.load(path, weights_only=True, map_location="cpu")
            except Exception as exc:  # noqa: BLE001 - any failure is the finding
                self.findings.append(f"{path.name} cannot be read ({type(exc).__name__}) {about}")


def main() -> int:
    """Run the trials; 0 when nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hits", type=int, default=20, help="full disks of each stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", default=",".join(STAGES), help="names, separated by commas")
    parser.add_argument("--folder", type=Path, help="an empty folder on a small file system; it is emptied")
    arguments = parser.parse_args()
    load_everything()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what is mounted goes
    total, found = 0, 0
    with tempfile.TemporaryDirectory(prefix="sparkvsr-room-") as scratch, small_disk(arguments.folder) as disk:
        os.chdir(scratch)
        make_clip(Path("in.mp4"), 36, (48, 64))
        make_clip(Path("long.mp4"), 110, (48, 64), shots=1)
        with Endpoint():
            for name in arguments.stages.split(","):
                room = Path(scratch).resolve() / name / "room"
                room.mkdir(parents=True)
                trials = Trials(name, disk, room, random.Random(f"{arguments.seed} {name}"))
                hits = trials.run(arguments.hits)
                total, found = total + hits, found + len(trials.findings)
                print(f"{name}: {hits} full disks, exit codes {dict(trials.codes)}; "
                      f"{'; '.join(trials.findings) or 'nothing lost'}", flush=True)  # fmt: skip
                if hits < arguments.hits:
                    found += 1
                    print(f"{name}: not hit {arguments.hits} times", flush=True)
    print(f"{total} full disks in {len(arguments.stages.split(','))} stages; findings {found}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
