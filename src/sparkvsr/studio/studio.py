"""All clips of one server, the queue of renders, and the process that renders."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkvsr.errors import ConfigError, KeyframeError, SparkVSRError
from sparkvsr.home import expanded
from sparkvsr.studio.clip_session import PREVIEW_SECONDS, ClipSession
from sparkvsr.studio.edits import number, use_image
from sparkvsr.studio.export_options import SUFFIXES, checked_export, default_output
from sparkvsr.studio.files import inside
from sparkvsr.studio.messages import Message
from sparkvsr.studio.project import Ask, default_folder
from sparkvsr.studio.render_client import RenderClient
from sparkvsr.studio.render_queue import Item, RenderQueue, saved_items

_log = logging.getLogger(__name__)

WATCH_SECONDS = 0.5


@dataclass(frozen=True)
class StudioOptions:
    """What the command line decides; none of it can be changed from the page.

    Attributes:
        clips: the videos.
        values: as for ``make_options``: model, size, codec, guidance.
        makers: what ``--references`` takes, the first one is used when a keyframe is added.
        maker: fields of ``MakerOptions``: prompt, timeout, key variable.
        project: folder of the project; with several clips a folder for their projects; None for beside the clips.
    """

    clips: Sequence[Path]
    values: Mapping[str, Any] = field(default_factory=dict)
    makers: Sequence[str] = ("lite",)
    maker: Mapping[str, Any] = field(default_factory=dict)
    project: Path | None = None

    def folder(self, number: int) -> Path:
        """The project folder of a clip."""
        default = default_folder(self.clips[number])
        if self.project is None:
            return default
        return self.project if len(self.clips) == 1 else self.project / default.name


class Studio:
    """Everything behind the page.

    Args:
        options: of the command line.
        render: the render process.
        ask: see ``Pictures.ask``; None asks the render process.
    """

    def __init__(self, options: StudioOptions, render: RenderClient | None = None, ask: Ask | None = None) -> None:
        self.options = options
        self.render = render or RenderClient()
        self._ask = ask or self.render.ask
        self._sessions: dict[int, ClipSession] = {}
        self._lock = threading.RLock()
        self.ready: dict[str, Any] | None = None
        self.error: str | None = None
        self._heres: dict[int, int] = {}
        self._number = 0
        self._running_keys: list[str] = []
        self._closing = threading.Event()
        self.queue = RenderQueue(self.render.send, self._render_message, self._queue_changed)
        self.queue.can_run = self._can_run

    def start(self) -> None:
        """Have the model loaded, and watch over the reference folders."""
        options = self.options
        settings = {"options": dict(options.values), "makers": list(options.makers), "maker": dict(options.maker)}
        self.render.load(settings, self._heard)
        threading.Thread(target=self._watch, name="sparkvsr-watch", daemon=True).start()

    def close(self) -> None:
        """Stop: what is on the disk stays, nothing else is lost."""
        self._closing.set()
        self.render.close()
        for session in list(self._sessions.values()):
            session.close()

    def end_streams(self) -> None:
        """End the event streams, so that the server need not wait for open pages."""
        for session in list(self._sessions.values()):
            session.events.close()

    # Clips

    def clip(self, number: int) -> ClipSession:
        """A clip by its number, opened when it is first asked for.

        Raises:
            SparkVSRError: no such clip, or it cannot be opened.
        """
        with self._lock:
            session = self._sessions.get(number)
            if session is None:
                if not 0 <= number < len(self.options.clips):
                    msg = f"there is no clip {number}; go back to the list"
                    raise KeyframeError(msg)
                options = self.options
                path, folder = options.clips[number], options.folder(number)
                session = ClipSession(number, path, folder, options.values, self._ask, self.render.send)
                session.queue_items = lambda: self.queue.of(number)
                waiting, making = saved_items(session.saved.get("queue"), number), session.saved.get("making")
                self._sessions[number] = session
                for item in waiting:
                    self.queue.add(item)
                for asked in making if isinstance(making, list) else []:
                    with suppress(SparkVSRError, AttributeError):  # the makers may be others now
                        self.add(session, asked)
                self._open(session)
            return session

    def listed(self) -> list[dict[str, Any]]:
        """The clips, for the page that lists them."""
        out = []
        for place, path in enumerate(self.options.clips):
            folder = self.options.folder(place)
            out.append(
                {
                    "number": place,
                    "name": path.name,
                    "project": (folder / "studio.json").is_file(),
                    "keyframes": len(list((folder / "refs").glob("*.png"))) if (folder / "refs").is_dir() else 0,
                }
            )
        return out

    def makers(self) -> list[dict[str, Any]]:
        """Makers for the page, without anything secret."""
        out = []
        for place, name in enumerate(self.options.makers):
            kind = name.partition(":")[0]
            label = name if kind == name and "/" not in name else f"{kind}: {name.rpartition('/')[2][:24]}"
            if kind == "command":
                label = f"command {Path(name.partition(':')[2].split(' ')[0]).name}"
            elif kind in ("http", "https"):
                label = f"endpoint {name.partition('://')[2].partition('/')[0].rpartition('@')[2]}"
            elif expanded(name).exists():
                label = Path(name).name
            takes_words = kind in ("http", "https", "diffusers") or "{prompt}" in name
            out.append({"number": place, "label": label, "prompt": takes_words})
        return out

    def _open(self, session: ClipSession) -> None:
        output = default_output(session.clip, session.values)
        self.render.send(
            {
                "do": "open",
                "clip": session.number,
                "path": str(session.clip),
                "project": str(session.project.folder),
                "output": output,
            }
        )

    # Requests of the page

    def add(self, clip: ClipSession, values: Mapping[str, Any]) -> None:
        """Make an image by a maker: of a new keyframe, or another candidate of one; with ``here`` its effect is shown.

        Raises:
            ConfigError: no such maker, or the prompt is no text.
        """
        index = clip.check_index(values.get("index"))
        maker = values.get("maker", 0)
        if isinstance(maker, bool) or not isinstance(maker, int) or not 0 <= maker < len(self.options.makers):
            msg = f"maker {str(maker)[:10]} is unknown; there are {len(self.options.makers)}"
            raise ConfigError(msg)
        prompt, seed = values.get("prompt"), values.get("seed")
        if prompt is not None and (not isinstance(prompt, str) or len(prompt) > 4000):
            msg = "the prompt has to be text of up to 4000 letters"
            raise ConfigError(msg)
        if seed is not None:
            seed = int(number(values, "seed", 0, 2**31 - 1))
        self._number += 1
        follow = values.get("here") is not None
        if follow:  # nothing is rendered before it is there: that would be old at once, and slow the maker down
            self._heres[clip.number] = clip.check_index(values["here"])
        message = {"do": "make", "id": self._number, "clip": clip.number, "index": index, "maker": maker}
        message["follow"] = follow
        message |= {"prompt": prompt or None, "seed": seed, "replace": values.get("replace") is not False}
        label = self.makers()[maker]["label"]
        clip.making[self._number] = {"id": self._number, "index": index, "label": label, "message": message}
        clip.save()
        self._send_when_open(clip, message)
        clip.changed()

    def preview(self, clip: ClipSession, values: Mapping[str, Any]) -> None:
        """Render around a frame, now."""
        here = clip.check_index(values.get("here"))
        self._heres[clip.number] = here
        length = 1 if values.get("single") else max(2, min(120, round(clip.info["fps"] * PREVIEW_SECONDS)))
        self._number += 1
        message = {"do": "preview", "id": -self._number, "clip": clip.number, "here": here, "length": length}
        self._send_when_open(clip, {**message, **clip.settings()})

    def render_range(self, clip: ClipSession, values: Mapping[str, Any]) -> None:
        """Queue the shot of a frame, or everything."""
        here = clip.check_index(values.get("here"))
        if values.get("what") == "all":
            start, stop, label = 0, clip.num_frames, "all"
        else:
            # Its shot is not known while the clip is looked through; one frame of it says which one.
            start, stop = next(((a, b) for a, b in clip.shots if a <= here < b), (here, here + 1))
            label = f"shot {start} to {stop - 1}" if clip.shots else f"the shot of frame {here}"
        kind = "all" if values.get("what") == "all" else "shot"
        self.queue.add(
            {"clip": clip.number, "kind": kind, "start": start, "stop": stop, "here": here, "label": label},
            first=kind == "shot",
        )

    def export(self, clip: ClipSession, values: Mapping[str, Any]) -> None:
        """Queue a finished file.

        Raises:
            ConfigError: the name does not fit the codec, or is taken.
        """
        options = checked_export(values)
        codec = options.get("codec") or clip.values.get("codec") or "h264"
        output = values.get("output") or default_output(clip.clip, clip.values)
        path = inside(clip.project.folder, "out", str(output))
        if path.suffix.lower() not in SUFFIXES[codec]:
            msg = (
                f"{codec} goes into {' or '.join(SUFFIXES[codec])}; name the file like {path.stem}{SUFFIXES[codec][0]}"
            )
            raise ConfigError(msg)
        overwrite = values.get("overwrite") is True
        if path.exists() and not overwrite:
            msg = f"{output} is there already; choose another name, or tick that it may be replaced"
            raise ConfigError(msg)
        self.queue.add(
            {
                "clip": clip.number,
                "kind": "export",
                "start": 0,
                "stop": clip.num_frames,
                "here": 0,
                "label": str(output),
                "output": str(output),
                "options": options,
                "overwrite": overwrite,
                "compare": values.get("compare") is True,
            }
        )

    def suggest(self, clip: ClipSession, values: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Ask where the next keyframe helps most; the answer comes as an event."""
        indices = sorted(map(int, clip.history.table["keyframes"]))
        shares = clip.shown.shares(clip.num_frames)
        self._send_when_open(clip, {"do": "suggest", "clip": clip.number, "keyframes": indices, "shares": shares})

    def _send_when_open(self, clip: ClipSession, message: Message) -> None:
        """What asks for shots waits until the clip was looked through."""
        with clip.lock:
            if not clip.shots:
                clip.held = [*clip.held[-20:], message]
                return
        self.render.send(message)

    # The render process

    def _render_message(self, item: Item) -> Message:
        clip = self._sessions[item["clip"]]
        self._running_keys = clip.shown.keys_between(item["start"], item["stop"])
        return {**item, "do": "render", **clip.settings()}

    def _can_run(self, item: Item) -> bool:
        session = self._sessions.get(item["clip"])
        return session is not None and bool(session.shots) and session.error is None

    def _queue_changed(self, number: int) -> None:
        session = self._sessions.get(number)
        if session is not None:
            session.save()
            session.changed()

    def _watch(self) -> None:
        while not self._closing.wait(WATCH_SECONDS):
            for session in list(self._sessions.values()):
                try:
                    session.look_after_clip()
                    self.queue.advance()  # a clip that was put back goes on
                    if session.watch() and session.number in self._heres:
                        self.preview(session, {"here": self._heres[session.number]})
                except Exception:  # noqa: BLE001  (the watch goes on whatever one project has)
                    _log.exception("%s could not be looked at", session.project.folder)

    def _heard(self, message: Message) -> None:
        event = message["event"]
        if event == "ready":
            self.ready = {name: value for name, value in message.items() if name != "event"}
            self._tell_all({"event": "ready", **self.ready})
        elif event in ("failed_to_load", "gave_up"):
            self.error = str(message["error"])
            self._tell_all({"event": "problem", "text": f"Nothing can be rendered: {self.error}"})
        elif event == "died":
            self._start_again()
        else:
            session = self._sessions.get(message.get("clip", -1))
            if session is not None:
                self._heard_of(session, event, message)

    def _start_again(self) -> None:
        self.ready = None
        with self._lock:
            self.queue.lost()
            for session in list(self._sessions.values()):
                session.shots = []
                session.held = [made["message"] for made in session.making.values()]
                self._open(session)
                session.tell({"event": "problem", "text": "The render process ended and was started again."})

    def _heard_of(self, clip: ClipSession, event: str, message: Message) -> None:
        if event == "analysis":
            clip.analysis = {"done": message["done"], "total": message["total"]}
            clip.tell({"event": "analysis", **clip.analysis})
        elif event == "opened":
            self._opened(clip, message)
        elif event == "plan":
            if clip.take_plan(message):
                self._drop_old_render(clip)
        elif event == "frame":
            clip.shown.preview_done(message["index"], message["key"], message["share"])
            clip.tell(message)
        elif event == "segment":
            clip.shown.segment_done(message["key"], message["shares"])
            clip.save()
            clip.changed()
        elif event in ("progress", "rendering"):
            item = self.queue.progress(message["id"], message)
            if item is not None:
                clip.tell({**message, "event": "progress"})
        elif event in ("rendered", "cancelled", "exported"):
            self._ended(clip, event, message)
        elif event == "made":
            self._made(clip, message)
        elif event == "failed":
            self._failed(clip, message)
        else:
            clip.tell(message)

    def _opened(self, clip: ClipSession, message: Message) -> None:
        with clip.lock:
            clip.shots, clip.iframes = message["shots"], message["iframes"]
            clip.size, clip.notes, clip.analysis = message["size"], message["notes"], None
            clip.num_frames = message["frames"]
            clip.write_references()
            clip.ask_plan()
            held, clip.held = clip.held, []
            clip.changed()
        for waiting in held:
            self.render.send(waiting)
        self.queue.advance()

    def _drop_old_render(self, clip: ClipSession) -> None:
        """What is being rendered is old when its segments are none of the plan's any more."""
        running = self.queue.running
        if running is None or running["clip"] != clip.number or running["kind"] == "export":
            return
        keys = clip.shown.keys_between(running["start"], running["stop"])
        if keys != self._running_keys:
            self._running_keys = keys
            self.queue.restart()

    def _ended(self, clip: ClipSession, event: str, message: Message) -> None:
        item = self.queue.finished(message["id"])
        if event == "exported":
            clip.tell(message)
        clip.ask_plan()
        if item is not None and event == "rendered":
            clip.tell({"event": "rendered", "label": item["label"], "frames": message["frames"]})
        clip.changed()

    def _made(self, clip: ClipSession, message: Message) -> None:
        clip.making.pop(message["id"], None)
        clip.save()
        index, image = message["index"], message["image"]
        try:
            self._use_made(clip, message)
        except SparkVSRError as exc:
            clip.tell({"event": "problem", "text": f"the image for frame {index} could not be used: {exc}"})
        clip.tell({"event": "made", "index": index, "image": image})
        clip.changed()

    def _use_made(self, clip: ClipSession, message: Message) -> None:
        index, image, prompt = message["index"], message["image"], message["prompt"]
        clip.add_candidate(index, image, message["name"], prompt=prompt, seed=message["seed"])
        table = clip.history.table
        if message["replace"] or str(index) not in table["keyframes"]:
            is_new = str(index) not in table["keyframes"]
            use_image(clip, index, image, message["name"], f"{'add' if is_new else 'make'} {index}", prompt)
            if message.get("follow") and index == self._heres.get(clip.number):
                self.preview(clip, {"here": index})

    def _failed(self, clip: ClipSession, message: Message) -> None:
        what = message["what"]
        if what["do"] == "make":
            clip.making.pop(what["id"], None)
            clip.save()
        elif what["do"] == "render":
            running = self.queue.running
            if running is not None:
                running["again"] = False
            self.queue.finished(what["id"])
        elif what["do"] == "open":
            clip.error, clip.analysis = message["error"], None
        clip.tell({"event": "problem", "text": message["error"]})
        clip.changed()

    def _tell_all(self, event: Message) -> None:
        for session in list(self._sessions.values()):
            session.tell(event)

    def wait_until_ready(self, seconds: float) -> bool:
        """Whether the model was loaded within a time (for tests and benchmarks)."""
        until = time.monotonic() + seconds
        while self.ready is None and self.error is None and time.monotonic() < until:
            time.sleep(0.05)
        return self.ready is not None
