"""How the user says which keyframes to use, as one small value that command line and Python share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from sparkvsr.errors import ConfigError
from sparkvsr.keyframes import select
from sparkvsr.keyframes.select import Selection
from sparkvsr.keyframes.shots import Shot

Kind = Literal["default", "auto", "iframes", "scenes", "none", "every", "random", "manual"]


@dataclass(frozen=True)
class KeyframeChoice:
    """A way to choose keyframes.

    Attributes:
        kind: ``default`` is I-frames and shot starts; ``auto`` is where motion asks for one (``keyframes.coverage``).
        number: N of ``every`` and ``random``.
        indices: of ``manual``.
    """

    kind: Kind = "default"
    number: int = 0
    indices: tuple[int, ...] = ()

    @classmethod
    def parse(cls, value: KeyframeChoice | str | Sequence[int] | None) -> KeyframeChoice:
        """From ``"iframes"``, ``"every:24"``, ``"random:5"``, ``"0,48,96"``, ``[0, 48, 96]`` or None (default).

        Raises:
            ConfigError: not one of these.
        """
        if value is None:
            return cls()
        if isinstance(value, KeyframeChoice):
            return value
        if not isinstance(value, str):
            return cls("manual", indices=tuple(int(index) for index in value)) if len(value) else cls("none")
        if value in ("default", "auto", "iframes", "scenes", "none"):
            return cls(value)  # type: ignore[arg-type]
        kind, colon, number = value.partition(":")
        if kind in ("every", "random") and colon and number.strip().isdecimal():
            return cls(kind, number=int(number))  # type: ignore[arg-type]
        if value[:1].isdecimal() or value[:1] == "-":
            return cls("manual", indices=tuple(select.parse_indices(value)))
        msg = f"keyframes {value!r} is unknown; use default, auto, iframes, scenes, none, every:N, random:N or 0,48,96"
        raise ConfigError(msg)

    @property
    def follows_shots(self) -> bool:
        """Whether the choice depends on where the shots begin, and avoids bad frames."""
        return self.kind not in ("none", "manual")

    def check_early(self, start: int, stop: int) -> None:
        """Refuse what is wrong whatever the clip shows, before it is read through.

        Raises:
            KeyframeError, ConfigError: see ``keyframes.select``.
        """
        whole = [Shot(start, stop)]
        if self.kind == "manual":
            select.manual(self.indices, start, stop)
        elif self.kind == "every":
            select.every(self.number, whole)
        elif self.kind == "random":
            select.random_frames(self.number, whole, 0)

    def select(
        self,
        shots: Sequence[Shot],
        iframe_indices: Callable[[], Sequence[int]],
        seed: int,
        *,
        multiple: int = 1,
        bad: Collection[int] = (),
    ) -> Selection:
        """Choose.

        Args:
            shots: of the part of the clip that is restored.
            iframe_indices: called only where I-frames are needed.
            seed: for ``random``.
            multiple: see ``select.snapped``; keyframes that the user fixed stay where they are.
            bad: frames to avoid, see ``frame_watch.FrameWatch``; the user's own stay.
        """
        selection = self._select(shots, iframe_indices, seed)
        if not self.follows_shots:
            return selection
        return select.off_bad_frames(select.snapped(selection, shots, multiple), shots, bad, multiple)

    def _select(self, shots: Sequence[Shot], iframe_indices: Callable[[], Sequence[int]], seed: int) -> Selection:
        if self.kind == "none":
            return select.none()
        if self.kind == "auto":
            return Selection((), (), "auto")  # placed by whoever has followed the motion
        if self.kind == "manual":
            return select.manual(self.indices, shots[0].start, shots[-1].stop)
        if self.kind == "every":
            return select.every(self.number, shots)
        if self.kind == "random":
            return select.random_frames(self.number, shots, seed)
        if self.kind == "scenes":
            return select.scenes(shots)
        if self.kind == "iframes":
            return select.iframes(iframe_indices(), shots)
        return select.iframes_and_scenes(iframe_indices(), shots)
