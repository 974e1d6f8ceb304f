"""Every version of a project's keyframes, on disk, with undo and redo.

A version is a plain table::

    {"guidance": 1.0, "look": "vivid",
     "keyframes": {"48": {"image": HASH, "weight": 1.0, "enabled": true, "maker": "lite"}}}

The look is there once it was chosen in the page, until then that of the command line holds, and a keyframe may have a
"guidance" of its own. Images are named by their hash and never change, so going back is choosing another table.
"""

from __future__ import annotations

import copy
from typing import Any

from sparkvsr.studio.project import Project

MAX_STEPS = 300
NAME = "history.json"

Table = dict[str, Any]


class History:
    """The versions of one project; every change is on disk when the call returns.

    Args:
        project: where they are kept.
        guidance: of a new project.
    """

    def __init__(self, project: Project, guidance: float = 1.0) -> None:
        self._project = project
        kept = project.load(NAME)
        self._steps: list[dict[str, Any]] = [{"label": "start", "table": {"guidance": guidance, "keyframes": {}}}]
        self._position = 0
        if isinstance(kept, dict) and _is_sound(kept.get("steps"), kept.get("position")):
            self._steps, self._position = kept["steps"], kept["position"]

    @property
    def table(self) -> Table:
        """A copy of the current version."""
        return copy.deepcopy(self._steps[self._position]["table"])

    @property
    def undo_label(self) -> str | None:
        """What undo would take back."""
        return self._steps[self._position]["label"] if self._position > 0 else None

    @property
    def redo_label(self) -> str | None:
        """What redo would do again."""
        following = self._position + 1
        return self._steps[following]["label"] if following < len(self._steps) else None

    def push(self, label: str, table: Table) -> bool:
        """Add a version; what had been undone is forgotten. False if nothing is different."""
        if table == self._steps[self._position]["table"]:
            return False
        steps = [*self._steps[: self._position + 1], {"label": label, "table": copy.deepcopy(table)}][-MAX_STEPS:]
        self._become(steps, len(steps) - 1)
        return True

    def undo(self) -> str | None:
        """Go one version back; what was taken back, None at the beginning."""
        label = self.undo_label
        if label is not None:
            self._become(self._steps, self._position - 1)
        return label

    def redo(self) -> str | None:
        """Go one version on; what was done again, None at the end."""
        label = self.redo_label
        if label is not None:
            self._become(self._steps, self._position + 1)
        return label

    def _become(self, steps: list[dict[str, Any]], position: int) -> None:
        # Kept first: what could not be written did not happen.
        self._project.save(NAME, {"steps": steps, "position": position})
        self._steps, self._position = steps, position


def _is_sound(steps: Any, position: Any) -> bool:
    if not isinstance(steps, list) or not isinstance(position, int) or not 0 <= position < len(steps):
        return False
    return all(
        isinstance(step, dict)
        and isinstance(step.get("label"), str)
        and isinstance(step.get("table"), dict)
        and isinstance(step["table"].get("guidance"), int | float)
        and isinstance(step["table"].get("look", ""), str)
        and isinstance(step["table"].get("keyframes"), dict)
        and all(_is_entry(index, entry) for index, entry in step["table"]["keyframes"].items())
        for step in steps
    )


def _is_entry(index: str, entry: Any) -> bool:
    return (
        index.isascii()
        and index.isdecimal()
        and isinstance(entry, dict)
        and isinstance(entry.get("image"), str)
        and isinstance(entry.get("weight"), int | float)
        and isinstance(entry.get("enabled"), bool)
        and isinstance(entry.get("guidance", 1.0), int | float)
    )
