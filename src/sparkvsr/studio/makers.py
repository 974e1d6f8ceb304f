"""What makes the images of keyframes: named on the command line, made when first asked for, kept for each clip."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from sparkvsr.errors import ConfigError
from sparkvsr.home import expanded
from sparkvsr.keyframes.makers.interface import MakerOptions, ReferenceMaker
from sparkvsr.keyframes.makers.video import VideoMaker
from sparkvsr.keyframes.references import check_maker_name, make_reference_maker
from sparkvsr.suffixes import VIDEO_SUFFIXES
from sparkvsr.video import VideoInfo

COMPARED_FRAMES = 9
"""Frames, spread over a clip, by which it is found out where another video of it begins."""

Read = Callable[[Sequence[int]], Mapping[int, Tensor]]
"""Gives some frames of a clip, ``(3, h, w)`` in [0, 1]."""


def check_makers(names: Sequence[str]) -> None:
    """Refuse what cannot make images, before anything is loaded.

    Raises:
        ConfigError: there is no such maker, or it is a folder.
        DecodeError: another video cannot be read.
    """
    for name in names:
        check_maker_name(name, "--maker")
        if name.partition(":")[0] == "video" or _is_video(name):
            make_reference_maker(name)
        elif expanded(name).is_dir():
            msg = (
                f"--maker {name} is a folder of images, which are there already; copy them into refs/ of the project "
                "(in.studio/refs), and they appear in the page"
            )
            raise ConfigError(msg)


def _is_video(name: str) -> bool:
    path = expanded(name)
    return path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES


class Makers:
    """The makers of one studio.

    Args:
        names: as for ``make_reference_maker``.
        options: what holds where nothing else is asked for.
    """

    def __init__(self, names: Sequence[str], options: MakerOptions) -> None:
        self._names = list(names)
        self._options = options
        self._kept: dict[tuple[Path, int], ReferenceMaker] = {}
        self._lock = threading.Lock()

    def get(
        self,
        number: int,
        clip: VideoInfo,
        read: Read,
        told: Callable[[str], None],
        *,
        prompt: str | None = None,
        seed: int | None = None,
    ) -> ReferenceMaker:
        """A maker for the frames of a clip.

        Args:
            number: of its name.
            clip: whose frames it is for.
            read: gives frames of the clip.
            told: gets what the user should know.
            prompt, seed: instead of those of the options.

        Raises:
            ConfigError: no such maker.
            KeyframeError: another video is not one of this clip.
        """
        if not 0 <= number < len(self._names):
            msg = f"maker {number} is unknown; there are {len(self._names)}"
            raise ConfigError(msg)
        if prompt is None and seed is None:
            with self._lock:
                kept = self._kept.get((clip.path, number))
                if kept is None:
                    kept = self._made(number, clip, read, told, self._options)
                    self._kept[clip.path, number] = kept
                return kept
        options = self._options
        if prompt is not None:
            options = replace(options, prompt=prompt, prompts={})
        if seed is not None:
            options = replace(options, seed=seed)
        return self._made(number, clip, read, told, options)

    def _made(
        self, number: int, clip: VideoInfo, read: Read, told: Callable[[str], None], options: MakerOptions
    ) -> ReferenceMaker:
        maker = make_reference_maker(self._names[number], options.device, options)
        if isinstance(maker, VideoMaker):
            _find_clip_in(maker, clip, read, told)
        return maker


def _find_clip_in(maker: VideoMaker, clip: VideoInfo, read: Read, told: Callable[[str], None]) -> None:
    """Find out where the frames of a clip lie in another video of it, as `sparkvsr upscale` does."""
    maker.check_clip(clip.path)
    maker.check((), (clip.height, clip.width))
    spread = {(2 * place + 1) * clip.num_frames // (2 * COMPARED_FRAMES) for place in range(COMPARED_FRAMES)}
    for note in maker.find_clip(read, sorted(spread)):
        told(note)
