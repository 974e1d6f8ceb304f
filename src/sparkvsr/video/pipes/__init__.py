"""Frames through pipes: y4m and raw video in, y4m and Matroska out, one frame after the other and never back.

`PipeSource` stands beside `VideoReader` and the sinks beside `VideoWriter`; nothing here seeks.
"""

from __future__ import annotations

from .descriptors import PipeReader, PipeWriter
from .frame_format import FrameFormat, parse_input_format
from .sinks import OUTPUT_FORMATS, PipeSink, check_output_format, open_sink
from .source import HeldFrame, PipeSource
from .y4m import Y4M_MAGIC, read_y4m_header

__all__ = [
    "OUTPUT_FORMATS",
    "Y4M_MAGIC",
    "FrameFormat",
    "HeldFrame",
    "PipeReader",
    "PipeSink",
    "PipeSource",
    "PipeWriter",
    "check_output_format",
    "open_sink",
    "parse_input_format",
    "read_y4m_header",
]
