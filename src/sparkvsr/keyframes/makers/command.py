"""Any program as a reference maker: ``command:upscayl-bin -i {input} -o {output} -s {scale}``. No shell is involved."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from torch import Tensor

from sparkvsr.errors import ConfigError, KeyframeError, SparkVSRError
from sparkvsr.keyframes.makers.interface import Interruptible, MakerOptions, file_identity, fit_answer
from sparkvsr.keyframes.makers.judged_size import judge_declared

DEFAULT_JOBS = 2
_STDERR_BYTES = 8192
_REQUIRED = ("{input}", "{output}")


class CommandMaker(Interruptible):
    """Runs a program for each keyframe: it reads a PNG and writes an image.

    Args:
        command: split like a shell does, but not run by one. ``{input}`` and ``{output}`` are replaced by file names;
            ``{scale}`` (whole), ``{width}``, ``{height}`` (wanted), ``{index}`` and ``{prompt}`` where they are used.
        options: ``timeout_seconds``, ``jobs`` and prompts.

    Raises:
        ConfigError: empty, not splittable, or without ``{input}`` and ``{output}``.
    """

    def __init__(self, command: str, options: MakerOptions | None = None) -> None:
        super().__init__()
        self._options = options or MakerOptions()
        try:
            self._words = shlex.split(command, posix=os.name != "nt")
        except ValueError as exc:
            msg = f"--references command:{command}: {exc}; check the quotes"
            raise ConfigError(msg) from exc
        missing = [name for name in _REQUIRED if not any(name in word for word in self._words[1:])]
        if not self._words or missing:
            msg = (
                f"--references command:{command} lacks {' and '.join(missing) or 'a program'}; "
                f"write it like command:upscayl-bin -i {{input}} -o {{output}} -s {{scale}}"
            )
            raise ConfigError(msg)
        self.jobs = self._options.jobs or DEFAULT_JOBS
        self.name = f"command {Path(self._words[0]).name}"
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:
        """See ``ReferenceMaker.make``."""
        from sparkvsr.video import read_image
        from sparkvsr.video.images import encode_image

        with tempfile.TemporaryDirectory(prefix="sparkvsr-") as folder:
            source, target = Path(folder) / f"{index:05d}.png", Path(folder) / f"{index:05d}_out.png"
            source.write_bytes(encode_image(lr, ".png", bits=8))
            # A whole factor, rounded up: too large is scaled down, too small would lose detail.
            scale = max(1, math.ceil(size[0] / lr.shape[-2] - 1e-3))
            values = {
                "{input}": str(source),
                "{output}": str(target),
                "{scale}": str(scale),
                "{width}": str(size[1]),
                "{height}": str(size[0]),
                "{index}": str(index),
                "{prompt}": self._options.prompt_for(index),
            }
            self._run([_filled(word, values) for word in self._words], index)
            if not target.is_file():
                msg = f"{self.name} ended without an error but wrote no image for keyframe {index}; check {{output}}"
                raise KeyframeError(msg)
            judge_declared(target, (lr.shape[-2], lr.shape[-1]), size, f"what {self.name} wrote for keyframe {index}")
            try:
                image = read_image(target)
            except SparkVSRError as exc:
                msg = f"{self.name} wrote no readable image for keyframe {index}; it has to write PNG, JPEG or WebP"
                raise KeyframeError(msg) from exc
        return fit_answer(image, lr, size, f"{self.name}, keyframe {index},")

    def identity(self, index: int) -> str:
        """The command, the prompt, and the contents of every file that the command names (program included)."""
        parts = [self.name, *self._words, self._options.prompt_for(index)]
        for word in self._words:
            path = Path(shutil.which(word) or word)
            with contextlib.suppress(OSError, ValueError):
                if path.is_file():
                    parts.append(file_identity(path))
        return "\0".join(parts)

    def close(self) -> None:
        """Kill what still runs."""
        super().close()
        with self._lock:
            for process in self._running:
                _kill(process)

    def _run(self, words: list[str], index: int) -> None:
        try:
            # Its own session, so that a hanging program and all that it started can be ended together.
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as exc:
            msg = f"{self.name} cannot be started ({exc.strerror}); is {words[0]} installed and in the PATH?"
            raise KeyframeError(msg) from exc
        with self._lock:
            self._running.add(process)
            if self.closed.is_set():
                _kill(process)
        tail = _Tail(process)
        try:
            process.wait(self._options.timeout_seconds)
        except subprocess.TimeoutExpired:
            msg = (
                f"{self.name} took longer than {self._options.timeout_seconds:g} seconds for keyframe {index} and was "
                f"ended; give it more with --timeout, or try it by hand"
            )
            raise KeyframeError(msg) from None
        finally:
            _kill(process)
            with self._lock:
                self._running.discard(process)
        if process.returncode != 0:
            msg = f"{self.name} failed for keyframe {index} (exit {process.returncode}): {tail.last_line()}"
            raise KeyframeError(msg)


class _Tail:
    """Keeps the end of what a process writes to stderr, however much that is."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._kept = b""
        self._process = process
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with contextlib.suppress(OSError, ValueError), self._process.stderr as stream:
            while piece := stream.read1(_STDERR_BYTES):  # type: ignore[attr-defined]
                self._kept = (self._kept + piece)[-_STDERR_BYTES:]

    def last_line(self) -> str:
        """The last line with text in it, without control characters."""
        self._thread.join(5)
        lines = [line for line in self._kept.decode(errors="replace").splitlines() if line.strip()]
        text = lines[-1].strip() if lines else "it wrote nothing to stderr"
        return "".join(char for char in text if char.isprintable())[:300]


def _filled(word: str, values: dict[str, str]) -> str:
    """Replace the placeholders in one pass, so that what is filled in is not looked at again."""
    return re.sub("|".join(map(re.escape, values)), lambda match: values[match[0]], word)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    if sys.platform == "win32":
        process.kill()
    else:
        # The leader may have ended and left children behind; the group lives as long as one of them.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)


def make_command(argument: str, options: MakerOptions) -> CommandMaker:
    """Factory of ``command:PROGRAM ...``."""
    return CommandMaker(argument, options)
