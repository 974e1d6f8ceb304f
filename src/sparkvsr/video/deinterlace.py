"""Deinterlacing through FFmpeg's bwdif filter: one progressive frame for each interlaced one."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import av.error
import av.filter


class Deinterlacer:
    """Streams frames through bwdif; keeps count, size, format and timestamps.

    Args:
        is_forced: deinterlace every frame, also those that are not flagged as interlaced.
        parity: ``tff`` or ``bff`` where the order of the fields is known otherwise; ``auto`` believes the frames.
    """

    def __init__(self, *, is_forced: bool, parity: str = "auto") -> None:
        self._mode = "all" if is_forced else "interlaced"
        self._parity = parity
        self._graph: av.filter.Graph | None = None
        self._time_base = Fraction(1, 1)

    def push(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Give one frame; yields those that are ready (bwdif looks one frame ahead)."""
        if self._graph is None:
            self._open(frame)
        assert self._graph is not None
        self._graph.vpush(frame)
        yield from self._pull()

    def flush(self) -> Iterator[av.VideoFrame]:
        """End of the stream: yields what is left."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._pull()

    def _open(self, frame: av.VideoFrame) -> None:
        self._time_base = frame.time_base or Fraction(1, 1)
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=self._time_base
        )
        bwdif = graph.add("bwdif", f"mode=send_frame:parity={self._parity}:deint={self._mode}")
        source.link_to(bwdif)
        bwdif.link_to(graph.add("buffersink"))
        graph.configure()
        self._graph = graph

    def _pull(self) -> Iterator[av.VideoFrame]:
        assert self._graph is not None
        while True:
            try:
                frame = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            # bwdif halves the time base to have room for fields
            if frame.pts is not None and frame.time_base:
                frame.pts = round(frame.pts * frame.time_base / self._time_base)
                frame.time_base = self._time_base
            yield frame
