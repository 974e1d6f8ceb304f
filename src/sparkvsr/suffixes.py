"""What is a video and what is an image, by the end of its name: the one list for every command.

It decides what is picked out of a folder; a file that is named itself may have any suffix. Not in `video`, because
finding clips must not wait for torch and PyAV.
"""

from __future__ import annotations

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob", ".wmv"),
    *(".flv", ".3gp", ".ogv", ".mxf", ".dv", ".y4m", ".nut"),
)
