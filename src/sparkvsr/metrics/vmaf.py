"""VMAF through the ffmpeg binary of ``imageio-ffmpeg``, run as a subprocess (it is a GPLv3 build).

Both clips go down one pipe side by side and are cut apart inside ffmpeg: no temporary video, and no way to swap
the two inputs, which would give another plausible number.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from sparkvsr.errors import MetricError
from sparkvsr.metrics.colour import Image8

MODEL = "vmaf_v0.6.1"


class VmafMeter:
    """Scores one clip, frame by frame.

    Args:
        size: ``(H, W)`` of the frames.
        fps: frames per second.
        threads: of libvmaf.

    Raises:
        MetricError: ffmpeg cannot be started.
    """

    def __init__(self, size: tuple[int, int], fps: float, threads: int = 2) -> None:
        import imageio_ffmpeg

        height, width = size
        self._folder = tempfile.TemporaryDirectory(prefix="sparkvsr-vmaf-")
        self._log = Path(self._folder.name) / "vmaf.json"
        self._stderr = Path(self._folder.name) / "stderr.txt"
        luma = "scale=out_color_matrix=bt709:out_range=tv,format=yuv444p"
        graph = (
            f"[0:v]split[a][b];[a]crop={width}:{height}:0:0,{luma}[sr];[b]crop={width}:{height}:{width}:0,{luma}[hr];"
            # The first input is the distorted one.
            f"[sr][hr]libvmaf=model=version={MODEL}:n_threads={threads}:log_fmt=json:log_path=vmaf.json"
        )
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-f", "rawvideo", "-pix_fmt", "rgb24",
                   "-s", f"{2 * width}x{height}", "-r", f"{fps:.6f}", "-i", "pipe:0", "-lavfi", graph,
                   "-f", "null", "-"]  # fmt: skip
        try:
            with self._stderr.open("wb") as errors:
                # cwd keeps the log path free of characters that a filter graph would have to escape.
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, cwd=self._folder.name
                )
        except OSError as exc:
            self._folder.cleanup()
            msg = f"vmaf: cannot start {command[0]} ({exc}); reinstall imageio-ffmpeg"
            raise MetricError(msg) from exc

    def update(self, sr: Image8, hr: Image8) -> None:
        """Add one pair of frames, ``(H, W, 3)`` uint8 RGB.

        Raises:
            MetricError: ffmpeg stopped.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.concatenate([sr, hr], axis=1).tobytes())
        except (BrokenPipeError, OSError) as exc:
            raise self._failure() from exc

    def finish(self) -> list[float]:
        """VMAF of every frame, 0 to 100.

        Raises:
            MetricError: ffmpeg failed.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait() != 0 or not self._log.is_file():
            raise self._failure()
        report = json.loads(self._log.read_text(encoding="utf-8"))
        self._folder.cleanup()
        return [float(frame["metrics"]["vmaf"]) for frame in report["frames"]]

    def close(self) -> None:
        """Stop ffmpeg if it still runs and remove the temporary folder."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            with suppress(OSError):  # what still waits to be written has nobody to go to
                self._process.stdin.close()
        self._folder.cleanup()

    def _failure(self) -> MetricError:
        self._process.wait()
        said = self._stderr.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        self.close()
        return MetricError(f"vmaf: ffmpeg failed: {said[-1] if said else 'no message'}; drop vmaf from --metrics")
