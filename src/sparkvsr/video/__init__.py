"""Files to frames and back. PyAV lives in this package and nowhere else.

`probe` says what a clip is, `VideoReader` gives its frames as RGB floats, `VideoWriter` encodes frames and carries
everything else of the source over, `iframe_indices` finds the codec's I-frames without decoding.
"""

from sparkvsr.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

from .carry import losses
from .colour_tags import ColourTags
from .iframes import iframe_indices
from .images import read_image
from .info import VideoInfo, probe
from .options import EncodeOptions, check_output, output_kind
from .reader import Frame, VideoReader, read_frames
from .writer import VideoWriter

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "ColourTags",
    "EncodeOptions",
    "Frame",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "check_output",
    "iframe_indices",
    "losses",
    "output_kind",
    "probe",
    "read_frames",
    "read_image",
]
