"""Every error that a caller of sparkvsr can meet.

    SparkVSRError
    ├── ConfigError      an option or configuration value is unknown or out of range
    ├── VideoError       a clip or image cannot be read or written
    │   ├── DecodeError
    │   └── EncodeError
    │       ├── OutputExistsError
    │       └── ReaderGoneError
    ├── KeyframeError    a keyframe index or its reference image cannot be used
    ├── WeightsError     a model folder or weight file is missing, incomplete or of another architecture
    ├── DatasetError     a data set is missing or is not laid out as expected
    ├── MetricError      a metric cannot be computed (weights or a package are missing, sizes differ)
    ├── TrainingError    a training run met what it cannot go on from (NaN, Inf)
    └── ResourceError    too little memory or disk, with the smaller setting to try

A message has four parts in one line: what was tried, the offending value with its name, what is
allowed, what to do next. Only the command line turns errors into text and exit codes.
"""

from __future__ import annotations

from pathlib import Path

_LONGEST = 1500


def _one_line(text: str) -> str:
    text = text.replace("\r", "\\r").replace("\n", "\\n")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 400]} ... {text[-300:]}"


class SparkVSRError(Exception):
    """Base class: catch this to catch everything sparkvsr raises on purpose."""

    def __str__(self) -> str:
        """The message in one line; a library that repeats a whole damaged file in its own words is cut short."""
        return _one_line(super().__str__())


class ConfigError(SparkVSRError):
    """An option or configuration value is unknown, contradictory or out of range."""


class VideoError(SparkVSRError):
    """A clip, image or image sequence cannot be used."""


class DecodeError(VideoError):
    """Reading failed: file missing, no video stream, truncated or damaged data."""


class EncodeError(VideoError):
    """Writing failed: output exists, folder not writable, disk full, encoder refused."""


class OutputExistsError(EncodeError):
    """The output is there already and may not be replaced.

    Attributes:
        path: the output.
    """

    def __init__(self, message: str, path: Path | None = None) -> None:
        super().__init__(message, path)
        self.path = path

    def __str__(self) -> str:
        return _one_line(str(self.args[0]))


class ReaderGoneError(EncodeError):
    """The program that reads the result from a pipe went away."""


class KeyframeError(SparkVSRError):
    """A keyframe index is out of range, repeated or too close, or its image cannot be used."""


class WeightsError(SparkVSRError):
    """A model or weight file is missing, incomplete or of the wrong architecture."""


class DatasetError(SparkVSRError):
    """A data set folder is missing or not laid out as its protocol expects."""


class MetricError(SparkVSRError):
    """A metric cannot be computed as asked."""


class TrainingError(SparkVSRError):
    """A training run met what it cannot go on from; checkpoints written before are good."""


class ResourceError(SparkVSRError):
    """Memory or disk is too small; the message names a setting that needs less."""
