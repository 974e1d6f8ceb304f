"""Which frames of a bench clip are keyframes, and where their HR images come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparkvsr.errors import ConfigError
from sparkvsr.home import expanded

if TYPE_CHECKING:
    from sparkvsr.evaluation.bench import Bench
    from sparkvsr.keyframes.choice import KeyframeChoice
    from sparkvsr.keyframes.references import FolderMaker

GROUND_TRUTH = "gt"
AUTO = "auto"
"""``--references``: what fits model and look. ``--keyframes``: where motion asks for one."""
IMAGE_MODEL_SUFFIXES = (".pth", ".safetensors")
GIVEN = "given"
"""``--keyframes`` of a run whose keyframes are the images of a folder."""


def keyframes_needed(references: str) -> ConfigError:
    """``--references`` without frames that they are for."""
    return ConfigError(
        f"--references {references} needs keyframes; add --keyframes first, every:N, iframes or 0,16,..."
    )


@dataclass(frozen=True)
class KeyframeSource:
    """What ``--keyframes`` and ``--references`` say together, with defaults filled in.

    Attributes:
        keyframes: ``auto``, ``none``, ``first``, ``every:N``, ``iframes``, frame numbers, or ``given``: those in
            ``folder``.
        references: ``gt`` or what ``make_reference_maker`` takes.
        folder: of images, one subfolder a clip; None where ``references`` is something else.
    """

    keyframes: str
    references: str
    folder: Path | None = None

    @classmethod
    def parse(
        cls, keyframes: str, references: str | None, bench: Bench, model: str, *, places_own: bool = False
    ) -> KeyframeSource:
        """Read both options.

        Args:
            keyframes, references: the options.
            bench, model: that they are for.
            places_own: the model places keyframes itself where ``keyframes`` is ``none``; ``references`` then makes
                them, unless it is ground truth.

        Raises:
            ConfigError: references without keyframes, keyframes for a model that has no use for them, or ground truth
                that the bench has not.
        """
        from sparkvsr.keyframes.choice import KeyframeChoice

        KeyframeChoice.parse("0" if keyframes == "first" else keyframes)
        path = expanded(references) if references is not None else None
        folder = path if path is not None and path.is_dir() else None
        if keyframes == "none":
            if references is not None and folder is None and (references == GROUND_TRUTH or not places_own):
                raise keyframes_needed(references)
            keyframes = GIVEN if folder is not None else keyframes
        if keyframes != "none" and Path(model).suffix in IMAGE_MODEL_SUFFIXES:
            msg = f"--model {model} upscales every frame by itself and takes no keyframes; drop --keyframes"
            raise ConfigError(msg)
        if references == GROUND_TRUTH and not bench.has_gt:
            msg = f"--references gt: {bench.name} has no ground truth; use lite, bicubic, a folder or a weight file"
            raise ConfigError(msg)
        return cls(keyframes, references or AUTO, folder)

    def folder_maker(self, clip: str, num_clips: int) -> FolderMaker:
        """The images of one clip.

        Raises:
            ConfigError: the folder has none for this clip, or gives one less than full weight.
            KeyframeError: the folder cannot be used.
        """
        from sparkvsr.keyframes.references import FolderMaker

        assert self.folder is not None
        home = self.folder / clip
        if not home.is_dir():
            if num_clips > 1:
                msg = f"--references {self.folder} has no folder for clip {clip}; expected {home}/00000.png and so on"
                raise ConfigError(msg)
            home = self.folder
        maker = FolderMaker(home)
        weaker = [index for index, weight in maker.weights.items() if weight != 1]
        if weaker:
            msg = f"{home}/keyframes.json gives keyframe {weaker[0]} a weight below 1; eval measures full weights only"
            raise ConfigError(msg)
        return maker

    def choice(self, clip: str, num_frames: int, given: Sequence[int]) -> KeyframeChoice:
        """The choice for one clip.

        Args:
            clip: name, for messages.
            num_frames: of the clip.
            given: frame numbers of the images of a folder.

        Raises:
            ConfigError, KeyframeError: a number is outside the clip, or a number of the choice is wrong.
        """
        from sparkvsr.keyframes.choice import KeyframeChoice

        if self.keyframes == GIVEN:
            choice = KeyframeChoice("manual", indices=tuple(index for index in given if index < num_frames))
            if not choice.indices:
                msg = f"--references {self.folder}: no image is for one of the {num_frames} frames of {clip}"
                raise ConfigError(msg)
        else:
            choice = KeyframeChoice.parse("0" if self.keyframes == "first" else self.keyframes)
        choice.check_early(0, num_frames)
        return choice
