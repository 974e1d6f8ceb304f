"""One clip that is open in the studio: its frames, its keyframes, and what the page is told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sparkvsr.errors import EncodeError, KeyframeError, SparkVSRError
from sparkvsr.studio.event_stream import EventStream
from sparkvsr.studio.export_options import command_line, default_output
from sparkvsr.studio.history import History, Table
from sparkvsr.studio.messages import Message
from sparkvsr.studio.project import Ask, Project
from sparkvsr.studio.references import SETTLE_SECONDS, ReferenceFolder, used_indices
from sparkvsr.studio.shown import Shown

MAX_CANDIDATES = 24
"""Of one keyframe; the oldest ones that nobody chose are forgotten."""

STATE, CANDIDATES = "state.json", "candidates.json"
PREVIEW_SECONDS = 1.0

ASKED = ("index", "maker", "prompt", "seed", "replace")
"""What has to be known of an image that is being made, to ask for it again."""

TELL_SECONDS = 0.03
"""Changes within so short a time are told together."""

_log = logging.getLogger(__name__)


class ClipSession:
    """One clip and its project.

    Args:
        number: of the clip in this server.
        clip: the video.
        folder: of the project.
        values: as given to ``make_options``.
        ask: see ``Pictures.ask``.
        send: passes a message to the render process.

    Raises:
        SparkVSRError: the clip or the folder cannot be used.
    """

    def __init__(
        self,
        number: int,
        clip: Path,
        folder: Path,
        values: Mapping[str, Any],
        ask: Ask,
        send: Callable[[Message], None],
    ) -> None:
        self.number, self.clip, self.values = number, clip, values
        self._ask = ask
        self._send = send
        self.lock = threading.RLock()
        self.deinterlace = str(values.get("deinterlace") or "auto")
        self.info: dict[str, Any] = ask("look", clip=str(clip), deinterlace=self.deinterlace)
        self.project = Project(folder, clip, ask)
        self._file = clip if self.info["first_file"] is None else Path(self.info["first_file"])
        self.version = _version(self._file)
        kept = self.project.load(STATE)
        self.saved: dict[str, Any] = kept if isinstance(kept, dict) else {}
        self.history = History(self.project, float(values.get("guidance_scale") or 1.0))
        self.shown = Shown(self.project, self.saved.get("shown"))
        candidates = self.project.load(CANDIDATES)
        self._candidates: dict[str, list[dict[str, Any]]] = candidates if isinstance(candidates, dict) else {}
        self.num_frames: int = self.info["frames"]
        self.shots: list[list[int]] = []
        self.iframes: list[int] = []
        self.size: list[int] | None = None
        self.notes: list[str] = []
        self.analysis: dict[str, int] | None = {"done": 0, "total": self.num_frames}
        self.error: str | None = None
        self._is_changed = False
        self.held: list[Message] = []
        self.making: dict[int, dict[str, Any]] = {}
        self.queue_items: Callable[[], list[dict[str, Any]]] = list
        self._findings: dict[tuple[int, str], list[dict[str, str | None]]] = {}
        self._checker = ThreadPoolExecutor(1, "sparkvsr-check")
        self._serial = 0
        self.planned = 0
        lr_size = (self.info["height"], self.info["width"])
        self.references = ReferenceFolder(self.project, lr_size, self.num_frames, self._facts, self.info["fingerprint"])
        self.events = EventStream(self.state)
        self._told = threading.Event()
        self._closed = threading.Event()
        threading.Thread(target=self._tell, name="sparkvsr-state", daemon=True).start()
        self.watch(settle_seconds=0.0)
        self.write_references()

    def close(self) -> None:
        """Let go of files and folder."""
        self._closed.set()
        self._told.set()
        self.events.close()
        self._checker.shutdown(wait=False, cancel_futures=True)
        self.project.close()

    # What the page sees

    def state(self) -> dict[str, Any]:
        """Everything the page shows, besides pictures."""
        with self.lock:
            table = self.history.table
            shown = ("width", "height", "fps", "variable", "summary", "sound")
            return {
                "clip": {
                    "name": self.clip.name,
                    "version": self.version,
                    "frames": self.num_frames,
                    **{name: self.info[name] for name in shown},
                },
                "size": self.size,
                "shots": self.shots,
                "iframes": self.iframes,
                "analysis": self.analysis,
                "error": self.error,
                "notes": self.notes,
                **self.settings(table),
                "keyframes": [
                    {"index": int(index), **entry, "findings": self._known_findings(int(index), entry["image"])}
                    for index, entry in sorted(table["keyframes"].items(), key=lambda item: int(item[0]))
                ],
                "candidates": self._candidates,
                "undo": self.history.undo_label,
                "redo": self.history.redo_label,
                "segments": self.shown.listed(),
                "previews": self.shown.previews(),
                "queue": self.queue_items(),
                "making": list(self.making.values()),
                "exports": self.exports(),
                "command": self.command(default_output(self.clip, self.values)),
                "output": default_output(self.clip, self.values),
                "codec": self.values.get("codec") or "h264",
                "folder": self.project.folder.name,
            }

    def changed(self) -> None:
        """The page is told soon; several changes at once cost one message."""
        self._told.set()

    def tell(self, event: dict[str, Any]) -> None:
        """Pass one event to the page."""
        self.events.send(event)

    def exports(self) -> list[dict[str, Any]]:
        """The finished files."""
        files = sorted(path for path in self.project.path("out").iterdir() if not path.name.startswith("."))
        return [
            {"name": path.name, "bytes": path.stat().st_size}
            for path in files
            if path.is_file() and not path.is_symlink()
        ]

    def command(self, output: str, options: Mapping[str, Any] | None = None) -> str:
        """The command line that gives the same file."""
        table = self.history.table
        folder = self.project.folder
        return command_line(
            self.clip,
            folder / "refs" if used_indices(table) else None,
            folder / "store",
            self.clip.with_name(output),
            {**self.values, **(options or {}), "look": self.settings(table)["look"]},
            table["guidance"],
        )

    def seconds(self) -> list[float]:
        """When each frame is shown."""
        known: list[float] | None = self.info["seconds"]
        if known is not None and len(known) >= self.num_frames:
            return known[: self.num_frames]
        return [round(index / self.info["fps"], 5) for index in range(self.num_frames)]

    # Pictures

    def ask(self, name: str, /, **values: Any) -> Any:
        """See ``Pictures.ask``."""
        return self._ask(name, **values)

    def source(self, index: int) -> dict[str, Any]:
        """Where a frame of the clip is, for ``Pictures``.

        Raises:
            KeyframeError: the clip is another one now.
        """
        if self._is_changed:
            raise KeyframeError(self.error or "the clip was changed")
        return {"file": str(self.clip), "index": index, "deinterlace": self.deinterlace}

    def result(self, key: str, index: int) -> dict[str, Any]:
        """Where a frame of a rendered segment is.

        Raises:
            SparkVSRError: it is not there.
        """
        path, start = self.shown.segment_of(key)
        return {"file": str(path), "index": index - start}

    def best(self, index: int) -> dict[str, Any]:
        """Where the newest result of a frame is.

        Raises:
            KeyframeError: it was not rendered.
        """
        found = self.shown.best(index)
        if found is None:
            msg = f"frame {index} has no fresh result yet; render around here first"
            raise KeyframeError(msg)
        kind, key = found
        if kind == "preview":
            return {"image": str(self.shown.preview_path(index, key))}
        return self.result(key, index)

    def look_after_clip(self) -> None:
        """Notice that the clip was replaced: its keyframes and everything rendered are of the old one."""
        is_changed = _version(self._file) != self.version
        if is_changed == self._is_changed:
            return
        with self.lock:
            self._is_changed = is_changed
            self.error = None
            if is_changed:
                self.error = (
                    f"{self.clip.name} was changed, moved or deleted on the disk: put it back, or stop the studio and "
                    "start it again to go on with the file as it is now"
                )
                self.tell({"event": "problem", "text": self.error})
            self.changed()

    # Versions

    def commit(self, label: str, table: Table) -> bool:
        """Make a table the current version, on disk and in `refs/`."""
        with self.lock:
            if not self.history.push(label, table):
                return False
            self.refresh()
            return True

    def refresh(self) -> None:
        """After the version changed: refs, plan, page."""
        with self.lock:
            self.write_references()
            self.ask_plan()
            self.changed()

    def write_references(self) -> None:
        """Make `refs/` show the current version; what another program put there meanwhile is not lost."""
        for index, image in self.references.write(self.history.table):
            self.add_candidate(index, image, "edited outside")
            self.tell({"event": "note", "text": f"An image that was saved for frame {index} is among its candidates"})

    def ask_plan(self) -> None:
        """Have the segments worked out anew."""
        if self.shots:
            self._serial += 1
            self._send({"do": "plan", "clip": self.number, "serial": self._serial, **self.settings()})

    def settings(self, table: Table | None = None) -> dict[str, Any]:
        """Guidance and look of a version (None: the current one); look None is that of the command line."""
        table = self.history.table if table is None else table
        return {"guidance": table["guidance"], "look": table.get("look") or self.values.get("look")}

    @property
    def is_planned(self) -> bool:
        """Whether the segments are those of the current version."""
        return self.planned == self._serial

    def take_plan(self, message: Message) -> bool:
        """Use the answer; False if a newer one is on the way."""
        with self.lock:
            if message["serial"] != self._serial:
                return False
            self.planned = message["serial"]
            self.shown.plan(message["segments"])
            self.save()
            self.changed()
            return True

    def watch(self, settle_seconds: float = SETTLE_SECONDS) -> bool:
        """Look whether another program changed `refs/`; whether something was taken over."""
        with self.lock:
            found = self.references.changed(self.history.table, settle_seconds)
            if found is None:
                return False
            table, done, problems = found
            for text in problems:
                self.tell({"event": "problem", "text": text})
            if not done:
                return False
            for index, entry in table["keyframes"].items():
                if entry.get("maker") == "edited outside":
                    self.add_candidate(int(index), entry["image"], "edited outside")
            label = done[0] if len(done) == 1 else f"{len(done)} changes outside"
            return self.commit(label, table)

    def add_candidate(self, index: int, image: str, maker: str, **more: Any) -> None:
        """Remember an image of a keyframe."""
        with self.lock:
            own = self._candidates.setdefault(str(index), [])
            if any(one["image"] == image for one in own):
                return
            own.append({"image": image, "maker": maker, **{name: value for name, value in more.items() if value}})
            entry = self.history.table["keyframes"].get(str(index))
            chosen = None if entry is None else entry["image"]
            while len(own) > MAX_CANDIDATES:
                own.remove(next(one for one in own if one["image"] != chosen))
            self.project.save(CANDIDATES, self._candidates)
            self.changed()

    def candidates(self, index: int) -> list[dict[str, Any]]:
        """The images of a keyframe."""
        return list(self._candidates.get(str(index), []))

    def save(self) -> None:
        """Keep what is shown and what waits. On a full disk that is told, and everything goes on without it."""
        with self.lock:
            asked = [{name: made["message"][name] for name in ASKED} for made in self.making.values()]
            self.saved = {"shown": self.shown.kept(), "queue": self.queue_items(), "making": asked}
            try:
                self.project.save(STATE, self.saved)
            except EncodeError as exc:
                self.tell({"event": "problem", "text": str(exc)})

    def check_index(self, index: Any) -> int:
        """A frame number from the page.

        Raises:
            KeyframeError: not a frame of the clip.
        """
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < self.num_frames:
            msg = f"there is no frame {str(index)[:20]}; the clip has 0 to {self.num_frames - 1}"
            raise KeyframeError(msg)
        return index

    # Small parts

    def _facts(self, index: int) -> tuple[float | None, int | None]:
        seconds = self.seconds()[index] if index < self.num_frames else None
        shot = next((number for number, (start, stop) in enumerate(self.shots) if start <= index < stop), None)
        return seconds, shot

    def _known_findings(self, index: int, image: str) -> list[dict[str, str | None]] | None:
        known = self._findings.get((index, image))
        if known is None and not self._closed.is_set():
            self._findings[index, image] = []
            self._checker.submit(self._check, index, image)
        return known

    def _check(self, index: int, image: str) -> None:
        try:
            found = self._ask("check", frame=self.source(index), image=str(self.project.image_path(image)))
        except (SparkVSRError, RuntimeError) as exc:
            found = [{"text": f"could not be checked: {exc}", "fix": None}]
        with self.lock:
            self._findings[index, image] = found
        self.changed()

    def _tell(self) -> None:
        while True:
            self._told.wait()
            self._told.clear()
            if self._closed.wait(TELL_SECONDS):
                return
            self._told.clear()
            try:
                self.events.send({"event": "state", "state": self.state()})
            except (OSError, RuntimeError, SparkVSRError):
                _log.exception("the state of %s could not be told", self.clip)


def _version(file: Path) -> str:
    """Changes when the file does."""
    try:
        status = file.stat()
    except OSError:
        return "gone"
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"
