"""HDR10 static metadata: the mastering display and the light level of a clip, from FFmpeg's side data to encoders."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction

import av

from .orientation import side_data_bytes


@dataclass(frozen=True)
class HdrMetadata:
    """SMPTE ST 2086 mastering display and CTA-861.3 content light level."""

    primaries: tuple[Fraction, ...] | None = None
    """CIE 1931 x and y of red, green, blue and white: eight numbers."""
    luminance: tuple[Fraction, Fraction] | None = None
    """Darkest and brightest level of the mastering display, in cd/m2."""
    max_content_light: int = 0
    """MaxCLL in cd/m2; 0 when unknown."""
    max_frame_average_light: int = 0
    """MaxFALL in cd/m2; 0 when unknown."""

    def mastering_display(self) -> str | None:
        """Spell the mastering display as x264 and x265 take it, in units of 0.00002 and 0.0001 cd/m2."""
        if self.primaries is None or self.luminance is None:
            return None
        rx, ry, gx, gy, bx, by, wx, wy = (round(value * 50000) for value in self.primaries)
        low, high = (round(value * 10000) for value in self.luminance)
        return f"G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({high},{low})"

    def mastering_display_float(self) -> str | None:
        """Spell the mastering display as SVT-AV1 takes it, in plain numbers."""
        if self.primaries is None or self.luminance is None:
            return None
        rx, ry, gx, gy, bx, by, wx, wy = (f"{float(value):.5f}" for value in self.primaries)
        low, high = (f"{float(value):.4f}" for value in self.luminance)
        return f"G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({high},{low})"

    def content_light(self) -> str | None:
        """Spell the light level as ``MaxCLL,MaxFALL``."""
        if not self.max_content_light and not self.max_frame_average_light:
            return None
        return f"{self.max_content_light},{self.max_frame_average_light}"


def hdr_metadata(frame: av.VideoFrame) -> HdrMetadata | None:
    """Read the static HDR metadata of a decoded frame, or None."""
    try:
        mastering = side_data_bytes(frame, "MASTERING_DISPLAY_METADATA")
        light = side_data_bytes(frame, "CONTENT_LIGHT_LEVEL")
    except ValueError:
        return None
    primaries: tuple[Fraction, ...] | None = None
    luminance: tuple[Fraction, Fraction] | None = None
    if mastering is not None and len(mastering) >= 88:
        # struct AVMasteringDisplayMetadata: ten rationals (R, G, B, white, min, max), then two flags
        numbers = struct.unpack("=22i", mastering[:88])
        ratios = [Fraction(numbers[i], numbers[i + 1]) if numbers[i + 1] else Fraction(0) for i in range(0, 20, 2)]
        if numbers[20]:
            primaries = tuple(ratios[:8])
        if numbers[21]:
            luminance = (ratios[8], ratios[9])
    content, average = struct.unpack("=2I", light[:8]) if light is not None and len(light) >= 8 else (0, 0)
    if primaries is None and luminance is None and not content and not average:
        return None
    return HdrMetadata(primaries, luminance, content, average)
