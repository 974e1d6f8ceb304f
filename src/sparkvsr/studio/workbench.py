"""What the render process does with its model: one clip planned, previewed, rendered, exported."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sparkvsr.errors import EncodeError, KeyframeError
from sparkvsr.hooks import Event
from sparkvsr.inference.clip.disk import disk_need
from sparkvsr.inference.clip.engine import in_grey
from sparkvsr.inference.clip.job import UpscaleJob, prepare
from sparkvsr.inference.clip.render import missing_runs, render_segments, segment_suffix, segments_of
from sparkvsr.inference.clip.segments import Segment
from sparkvsr.inference.clip.store import SEGMENTS, WorkStore
from sparkvsr.inference.compare.comparison import CompareOptions, compare_clips
from sparkvsr.inference.upscale import load_for, make_options, run
from sparkvsr.keyframes.makers.interface import MakerOptions
from sparkvsr.keyframes.references import resize_image
from sparkvsr.models.interface import RestorationModel
from sparkvsr.models.looks import LOOKS
from sparkvsr.studio.clip_plan import (
    ClipPlanner,
    analyse,
    analysis_from_json,
    analysis_to_json,
    clip_identity,
    folder_maker,
    segments_between,
)
from sparkvsr.studio.files import inside, read_json, write_json
from sparkvsr.studio.images import keep_tensor
from sparkvsr.studio.makers import Makers
from sparkvsr.studio.messages import Message
from sparkvsr.studio.preview import render_preview, shown_frames
from sparkvsr.studio.project import LOCK_WAIT_SECONDS
from sparkvsr.studio.suggest import suggest_frame
from sparkvsr.studio.watching import Cancelled, watched
from sparkvsr.video import iframe_indices, read_frames
from sparkvsr.video.images import encode_image

PICTURES_WAITING = 4


@dataclass
class _Clip:
    """One opened clip."""

    path: Path
    folder: Path
    output: Path
    planner: ClipPlanner
    planners: dict[str | None, ClipPlanner] = field(default_factory=dict)


@dataclass
class _Run:
    """What is being rendered now: where it is, and what keyframes covered."""

    clip: int
    folder: Path
    keys: dict[int, str]
    coming: Iterator[int] = field(default_factory=lambda: iter(()))
    shares: dict[str, list[float]] = field(default_factory=dict)


class Workbench:
    """The model and the clips.

    Args:
        settings: ``options`` (of ``make_options``), ``makers`` (names), ``maker`` (fields of ``MakerOptions``).
        send: tells the server.

    Raises:
        SparkVSRError: the model cannot be loaded.
    """

    def __init__(self, settings: Message, send: Callable[[Message], None]) -> None:
        self._values: dict[str, Any] = dict(settings["options"])
        self._options = make_options(**self._values)
        self._send = send
        self._model = load_for(self._options)
        self._makers = Makers(settings["makers"], MakerOptions(**settings["maker"], device=self._model.device))
        self._models = {self._model.look: self._model}
        self._loading = threading.Lock()
        self._clips: dict[int, _Clip] = {}
        self._lock = threading.Lock()
        self._previews: dict[int, Message] = {}
        self._cancelled: set[int] = set()
        self._writer = ThreadPoolExecutor(1, "sparkvsr-picture")
        self._pictures: list[Future[None]] = []

    def facts(self) -> dict[str, Any]:
        """What the page has to know of the model."""
        model = self._model
        return {
            "model": model.name,
            "device": str(model.device),
            "look": model.look,
            "looks": [] if model.look is None else list(LOOKS),
            "keyframe_guidance": model.has_keyframe_guidance,
        }

    # Clips

    def open(self, message: Message) -> None:
        """Look through a clip, or take what an earlier look found."""
        clip, path, folder = message["clip"], Path(message["path"]), Path(message["project"])

        def hook(event: Event) -> None:
            self._send({**event, "clip": clip})

        identity = clip_identity(path, self._options.deinterlace)
        kept = inside(folder, "analysis.json")
        analysis = analysis_from_json(read_json(kept), identity)
        if analysis is None:
            analysis = analyse(path, self._options, hook)
            write_json(kept, analysis_to_json(analysis, identity))
        options = replace(self._options, work=inside(folder, "store"))
        output = inside(folder, "out") / message["output"]
        planner = ClipPlanner(path, output, options, self._model, analysis)
        with self._lock:
            self._clips[clip] = _Clip(path, folder, output, planner, {self._model.look: planner})
        base = planner.base.clip
        self._send(
            {
                "event": "opened",
                "clip": clip,
                "shots": [[shot.start, shot.stop] for shot in base.shots],
                "iframes": iframe_indices(path) if base.info.kind == "video" else [],
                "frames": base.num_frames,
                "size": [base.size.height, base.size.width],
                "working": list(base.settings.working_size),
                "notes": list(base.notes),
            }
        )

    def plan(self, message: Message) -> None:
        """The segments as they would be now."""
        clip = self._clip(message)
        job = self._job(clip, inside(clip.folder, "refs"), message)
        segments = [[one.start, one.stop, one.key] for one in segments_of(job)]
        self._send({"event": "plan", "clip": message["clip"], "serial": message["serial"], "segments": segments})

    def make(self, message: Message) -> None:
        """A reference image by one of the makers.

        Raises:
            ConfigError: no such maker.
        """
        clip = self._clip(message)
        index = message["index"]

        def read(wanted: Sequence[int]) -> dict[int, Tensor]:
            return read_frames(clip.path, wanted, deinterlace=self._options.deinterlace)

        def told(text: str) -> None:
            self._send({"event": "note", "clip": message["clip"], "text": text})

        number, words, seed = message["maker"], message.get("prompt"), message.get("seed")
        maker = self._makers.get(number, clip.planner.base.clip.info, read, told, prompt=words, seed=seed)
        lr = read([index])[index]
        image = maker.make(lr, clip.planner.base.clip.settings.working_size, index)
        name = keep_tensor(clip.folder, image)
        self._send({**message, "event": "made", "image": name, "name": maker.name})

    def suggest(self, message: Message) -> None:
        """Where the next keyframe helps most."""
        clip = self._clip(message)
        try:
            found = suggest_frame(
                [(shot.start, shot.stop) for shot in clip.planner.base.clip.shots],
                message["keyframes"],
                message["shares"],
                lambda wanted: read_frames(clip.path, wanted, deinterlace=self._options.deinterlace),
            )
        except KeyframeError as exc:  # nothing is wrong
            self._send({"event": "note", "clip": message["clip"], "text": str(exc)})
            return
        self._send({"event": "suggestion", "clip": message["clip"], "index": found.index, "why": found.why})

    # Rendering

    def cancel(self, number: int) -> None:
        """Stop a render at its next chunk."""
        self._cancelled.add(number)

    def ask_preview(self, message: Message) -> None:
        """Remember the newest wish of a clip; an older one ends at its next frame."""
        with self._lock:
            self._previews[message["clip"]] = message

    def render(self, message: Message) -> None:
        """Render what is missing of a shot or the clip, or write the finished file."""
        self._run_previews()
        if message["do"] == "previews":
            return
        try:
            self._stop_if_unwanted(message["id"])
            clip = self._clip(message)
            references = self._snapshot(clip)
            finish = self._export if message["kind"] == "export" else self._render_shots
            finish(clip, message, references)
        except Cancelled:
            self._send({"event": "cancelled", "clip": message["clip"], "id": message["id"]})

    def _render_shots(self, clip: _Clip, message: Message, references: Path) -> None:
        job = self._job(clip, references, message)
        everything = segments_of(job)
        segments = segments_between(job, message["start"], message["stop"])
        # The shot that is looked at comes first.
        here = int(message["here"])
        segments.sort(key=lambda one: (one.shot.stop <= here, one.start))
        seen, state = self._watched(job, everything, message)
        folder = inside(clip.folder, "store")
        need = disk_need(job.clip, segments, folder)
        with _TellingStore(self, state, folder, job.clip.work.limit_bytes, segment_suffix(job.clip.output)) as store:
            need.check(job.clip.output, store.stored_bytes)
            runs, kept = missing_runs(segments, store)
            total = sum(one.num_frames for run in runs for one in run)
            self._send({"event": "rendering", "clip": message["clip"], "id": message["id"], "total": total})
            done = 0
            for run in runs:
                state.coming = _frames_of([run])
                hook = self._progress(message, done, total)
                render_segments(seen, [run], store, hook)
                done += sum(one.num_frames for one in run)
            store.prune({one.key for one in everything})
        self._send({"event": "rendered", "clip": message["clip"], "id": message["id"], "frames": total, "kept": kept})

    def _export(self, clip: _Clip, message: Message, references: Path) -> None:
        model = self._model_of(message["look"])
        values = {**self._values, **message["options"], "guidance_scale": message["guidance"], "look": model.look}
        images = folder_maker(references)
        values |= {"keyframes": "none"} if images is None else {"references": str(references)}
        options = replace(make_options(**values), work=inside(clip.folder, "store"), overwrite=message["overwrite"])
        output = inside(clip.folder, "out", message["output"])
        job = prepare(clip.path, output, options, model, lambda _: None, analysis=clip.planner.analysis)
        seen, state = self._watched(job, segments_of(job), message, pictures=False)
        self._wait_for_store(inside(clip.folder, "store"))
        store = WorkStore(inside(clip.folder, "store"), suffix=segment_suffix(output))
        missing, kept = missing_runs(segments_of(job), store)
        state.coming = _frames_of(missing)
        total = job.clip.num_frames - kept
        self._send({"event": "rendering", "clip": message["clip"], "id": message["id"], "total": max(1, total)})
        result = run(seen, self._progress(message, 0, total))
        for one in segments_of(job):
            if len(state.shares.get(one.key, ())) == one.num_frames:
                self.segment_done(state, one.key)
        self._stop_if_unwanted(message["id"])
        page = None
        if message["compare"]:
            page = output.with_name(f"{output.stem}_compare.html")
            compare_clips(clip.path, output, page, CompareOptions(overwrite=True, labels=("source", "result")))
        self._send(
            {
                "event": "exported",
                "clip": message["clip"],
                "id": message["id"],
                "name": output.name,
                "compare": None if page is None else page.name,
                "bytes": output.stat().st_size if output.is_file() else 0,
                "frames": result.frames,
                "rendered": result.rendered,
                "notes": list(result.notes),
            }
        )

    def _run_previews(self) -> None:
        while True:
            with self._lock:
                if not self._previews:
                    return
                number = next(iter(self._previews))
                message = self._previews.pop(number)
            try:
                self._preview(message)
            except Cancelled:
                pass
            except Exception as exc:  # noqa: BLE001  (a preview must not end the render that it interrupts)
                self._send({"event": "failed", "what": message, "error": str(exc), "clip": number})

    def _preview(self, message: Message) -> None:
        clip = self._clip(message)
        number = message["clip"]
        job = self._job(clip, inside(clip.folder, "refs"), message)
        keys = _keys(segments_of(job))
        folder = inside(clip.folder, "previews")
        if inside(clip.folder, "store", SEGMENTS, f"{keys[message['here']]}.json").is_file():
            return  # the result itself is there

        def before() -> None:
            if number in self._previews or message["id"] in self._cancelled:
                raise Cancelled

        count, started = 0, time.monotonic()
        shown = shown_frames(job, message["here"], message["length"])
        self._send({"event": "previewing", "clip": number, "start": shown[0], "stop": shown[-1] + 1})
        try:
            for index, pixels, share in render_preview(job, message["here"], message["length"], before):
                self._keep_picture(number, folder, index, keys[index], pixels, share)
                count += 1
        finally:
            self._flush_pictures()
            seconds = round(time.monotonic() - started, 2)
            self._send({"event": "previewed", "clip": number, "id": message["id"], "frames": count, "seconds": seconds})

    # Small parts

    def _clip(self, message: Message) -> _Clip:
        with self._lock:
            clip = self._clips.get(message["clip"])
        if clip is None:
            msg = "this clip is still being looked through; try again in a moment"
            raise KeyframeError(msg)
        return clip

    def _model_of(self, look: str | None) -> RestorationModel:
        """The model in a look; None for the one of the command line."""
        with self._loading:
            if look is None or self._model.look is None or look in self._models:
                return self._models.get(look, self._model)
            self._models[look] = load_for(make_options(**{**self._values, "look": look}))
            return self._models[look]

    def _job(self, clip: _Clip, references: Path, message: Message) -> UpscaleJob:
        model = self._model_of(message["look"])
        planner = clip.planners.get(model.look)
        if planner is None:
            options = make_options(**{**self._values, "look": model.look})
            options = replace(options, work=inside(clip.folder, "store"))
            planner = ClipPlanner(clip.path, clip.output, options, model, clip.planner.analysis)
            clip.planners[model.look] = planner
        return planner.job(references, message["guidance"])

    def _snapshot(self, clip: _Clip) -> Path:
        """The references as they are now: what is edited meanwhile must not get into segments with the old key."""
        target = inside(clip.folder, "rendering")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for path in inside(clip.folder, "refs").iterdir():
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                shutil.copyfile(path, target / path.name)
        return target

    def _watched(
        self, job: UpscaleJob, segments: list[Segment], message: Message, *, pictures: bool = True
    ) -> tuple[UpscaleJob, _Run]:
        clip = self._clip(message)
        state = _Run(message["clip"], inside(clip.folder, "previews"), _keys(segments))

        def before() -> None:
            self._stop_if_unwanted(message["id"])
            self._run_previews()

        def watch(restored: Tensor, shares: list[float] | None) -> None:
            for place, pixels in enumerate(restored):
                index = next(state.coming, None)
                if index is None:
                    return
                key = state.keys[index]
                share = None if shares is None else shares[place]
                if share is not None:
                    state.shares.setdefault(key, []).append(share)
                if not pictures:
                    continue
                if len(self._pictures) < PICTURES_WAITING or all(one.done() for one in self._pictures):
                    self._keep_picture(state.clip, state.folder, index, key, _sized(job, pixels), share)

        return replace(job, model=watched(job.model, before, watch)), state

    def _stop_if_unwanted(self, number: int) -> None:
        if number in self._cancelled:
            raise Cancelled

    def _progress(self, message: Message, done: int, total: int) -> Callable[[Event], None]:
        def hook(event: Event) -> None:
            if event["event"] == "progress":
                left = event["seconds_left"]
                if left is not None and event["fps"]:
                    left += (total - done - event["total"]) / event["fps"]
                told = {"done": done + event["done"], "total": total, "fps": event["fps"], "seconds_left": left}
                self._send({"event": "progress", "clip": message["clip"], "id": message["id"], **told})
            elif event["event"] == "note":
                self._send({**event, "clip": message["clip"]})

        return hook

    def _keep_picture(self, clip: int, folder: Path, index: int, key: str, pixels: Tensor, share: float | None) -> None:
        """Write a restored frame for the page, in a thread of its own."""

        def write() -> None:
            place = inside(folder, key)
            partial = place / f".{index}.png"
            try:
                place.mkdir(exist_ok=True)
                partial.write_bytes(encode_image(pixels, ".png", bits=8))
                partial.replace(place / f"{index}.png")
            except OSError as exc:
                with suppress(OSError):
                    partial.unlink(missing_ok=True)
                msg = f"frame {index} cannot be kept in {folder} ({exc.strerror}); free some space"
                raise EncodeError(msg) from exc
            self._send({"event": "frame", "clip": clip, "index": index, "key": key, "share": share})

        self._pictures = [one for one in self._pictures if not one.done()]
        self._pictures.append(self._writer.submit(write))

    def _flush_pictures(self) -> None:
        for one in self._pictures:
            one.result()
        self._pictures = []

    @staticmethod
    def _wait_for_store(folder: Path) -> None:
        """A process that was killed takes a moment to let go of the store."""
        until = time.monotonic() + LOCK_WAIT_SECONDS
        while True:
            try:
                with WorkStore(folder):
                    return
            except EncodeError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def segment_done(self, state: _Run, key: str) -> None:
        """A segment is in the store: its pictures are not needed any more."""
        shares = state.shares.pop(key, None)
        rounded = None if shares is None else [round(share, 3) for share in shares]
        self._send({"event": "segment", "clip": state.clip, "key": key, "shares": rounded})


class _TellingStore(WorkStore):
    """A store that tells of each finished segment, and waits for a killed process to let go of it."""

    def __init__(self, bench: Workbench, state: _Run, folder: Path, limit: int | None, suffix: str) -> None:
        super().__init__(folder, limit, suffix=suffix)
        self._bench, self._state = bench, state

    def __enter__(self) -> _TellingStore:
        Workbench._wait_for_store(self.folder)
        super().__enter__()
        return self

    def take(self, key: str, partial: Path, num_frames: int, state: Any) -> None:
        """See ``WorkStore.take``."""
        super().take(key, partial, num_frames, state)
        self._bench.segment_done(self._state, key)


def _keys(segments: list[Segment]) -> dict[int, str]:
    return {index: one.key for one in segments for index in range(one.start, one.stop)}


def _frames_of(runs: list[list[Segment]]) -> Iterator[int]:
    return (index for run in runs for one in run for index in range(one.start, one.stop))


def _sized(job: UpscaleJob, pixels: Tensor) -> Tensor:
    settings = job.clip.settings
    sized = resize_image(pixels, settings.size).clamp(0, 1)
    return (in_grey(sized) if settings.is_grey else sized).clone()
