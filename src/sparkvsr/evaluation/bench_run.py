"""Runs a model on a bench: checks everything first, then LR, restoration and metrics clip by clip."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkvsr import __version__
from sparkvsr.errors import ConfigError, DatasetError, SparkVSRError
from sparkvsr.evaluation import degrade
from sparkvsr.evaluation.bench import Bench
from sparkvsr.evaluation.bench_keyframes import AUTO, GROUND_TRUTH, KeyframeSource
from sparkvsr.evaluation.demo_clips import demo_clip
from sparkvsr.evaluation.file_run import MetricChoice
from sparkvsr.evaluation.frames import ClipSource, CroppedClip, FileClip
from sparkvsr.evaluation.layout import BenchData, ClipFiles, find_data, size_problem
from sparkvsr.evaluation.measuring import ClipTask, Hook, MeasureOptions, make_folder, measure_clips, safe_name
from sparkvsr.evaluation.outputs import CLIPS_FOLDER, write_outputs
from sparkvsr.evaluation.record import build_record
from sparkvsr.metrics.catalogue import MetricSpec
from sparkvsr.metrics.colour import Frame
from sparkvsr.metrics.readiness import Readiness, resolve_metrics
from sparkvsr.metrics.toolbox import Toolbox
from sparkvsr.metrics.weights import WeightStore

if TYPE_CHECKING:
    from torch import Tensor

    from sparkvsr.evaluation.restoring import Restorer
    from sparkvsr.keyframes.references import ReferenceMaker

FRAMES_FOLDER = "frames"


@dataclass(frozen=True)
class RunOptions:
    """How a bench is run.

    Attributes:
        model: as for ``sparkvsr.load_model``, or a weight file of an image upscaler.
        look: as for ``sparkvsr.load_model``; None for what the bench says, where the model knows looks.
        keyframes: ``auto``, ``none``, ``first``, ``every:N``, ``iframes`` or frame numbers; None for ``auto`` where the
            model gains from keyframes of its own kind, as in ``sparkvsr upscale``, else ``none``.
        references: ``gt`` or what ``make_reference_maker`` takes; a folder holds a folder of images for each clip,
            whose frames are the keyframes when ``keyframes`` is None or ``none``. None for what fits the look.
        guidance_scale: as in ``RestorationModel.restore``.
        device: where the model runs.
        clips: only these; empty for all.
        max_frames: only the first N frames of each clip.
        save_frames: keep the restored frames as PNG.
        load_restorer, load_maker: for tests and for models that are not files; None for the usual ones.
    """

    model: str = "lite"
    look: str | None = None
    keyframes: str | None = None
    references: str | None = None
    guidance_scale: float = 1.0
    device: str = "auto"
    clips: tuple[str, ...] = ()
    max_frames: int | None = None
    save_frames: bool = False
    load_restorer: Callable[[str, str], Restorer] | None = None
    load_maker: Callable[[RunOptions], ReferenceMaker | None] | None = None


@dataclass
class BenchRun:
    """A bench with everything checked that can be checked without a model.

    Build it with ``prepare``.
    """

    bench: Bench
    data: BenchData
    options: RunOptions
    choice: MetricChoice
    store: WeightStore
    specs: list[MetricSpec]
    source: KeyframeSource
    skipped: list[Readiness] = field(default_factory=list)

    @classmethod
    def prepare(cls, bench: Bench, data_root: Path | None, choice: MetricChoice, options: RunOptions) -> BenchRun:
        """Find the data and resolve the metrics; imports no torch, so refusals come at once.

        Raises:
            DatasetError: the data set is missing or laid out in another way.
            MissingMetricsError: a metric asked for by name cannot be computed.
            ConfigError: an unknown clip or metric, or keyframes that this bench cannot have.
        """
        store = WeightStore(choice.weights_dir)
        specs, skipped = resolve_metrics(
            choice.names, store, has_gt=bench.has_gt, strict=choice.strict, allow_download=choice.allow_download
        )
        source = KeyframeSource.parse(options.keyframes or "none", options.references, bench, options.model)
        data = find_data(bench, data_root, options.clips)
        return cls(bench, data, replace(options, references=source.references), choice, store, specs, source, skipped)

    def execute(self, output: Path, hook: Hook | None = None) -> dict[str, Any]:
        """Restore and measure, and write the results.

        Args:
            output: folder for the results.
            hook: see ``measuring.measure_clips``.

        Returns:
            The record, see ``record``.

        Raises:
            SparkVSRError: whatever the model, the data or a metric refuses.
        """
        from sparkvsr.evaluation import restoring

        options, bench = self.options, self.bench
        make_folder(output / CLIPS_FOLDER)
        pairs = [_Clip.open(bench, files, options.max_frames) for files in self.data.clips]
        chosen, makers = self._keyframes(pairs, 1)
        usual = partial(restoring.load_restorer, look=options.look, usual_look=bench.look)
        restorer = (options.load_restorer or usual)(options.model, options.device)
        fills = getattr(restorer, "wants_own_keyframes", False) and options.guidance_scale > 0
        if options.keyframes is None and self.source.keyframes == "none" and fills:
            self.source = replace(self.source, keyframes=AUTO)
        if options.references == AUTO:
            options = self.options = replace(options, references=getattr(restorer, "own_references", "lite"))
        if restorer.keyframe_multiple > 1:
            chosen, makers = self._keyframes(pairs, restorer.keyframe_multiple)
        own: dict[str, tuple[int, ...]] = {}
        if self.source.keyframes == AUTO or (fills and any(chosen.values())):
            chosen, own = self._filled(pairs, chosen, restorer)
        has_keyframes = any(chosen.values())
        if has_keyframes and not makers:
            maker = (options.load_maker or restoring.load_maker)(options)
            makers = {clip.name: maker for clip in pairs}
        fingerprint = restorer.fingerprint() or uuid.uuid4().hex
        tasks = [
            self._task(
                clip, chosen[clip.name], own.get(clip.name, ()), restorer, makers.get(clip.name), fingerprint, output
            )
            for clip in pairs
        ]
        primary = bench.primary if any(spec.name == bench.primary for spec in self.specs) else next(
            (spec.name for spec in self.specs if spec.kind == "frame"), bench.primary
        )  # fmt: skip
        measure = MeasureOptions(tuple(self.specs), bench.border, self.choice.every, primary)
        clips = measure_clips(tasks, Toolbox(self.store, self.choice.device), measure, output / CLIPS_FOLDER, hook)
        made = [clip.name for clip in pairs if clip.lr is None]
        run = {
            "kind": "bench",
            "bench": bench.name,
            "title": bench.title,
            "model": restorer.describe(),
            "keyframes": self.source.keyframes,
            "references": options.references if has_keyframes else "none",
            "guidance": options.guidance_scale if has_keyframes else None,
            "scale": bench.scale,
            "channel": bench.channel,
            "degradation": bench.degradation_text if made else "as given by the data set",
            "data": str(self.data.root) if self.data.root else "computed",
            "subset": self._subset(pairs),
            "primary": primary,
        }
        record = build_record(
            run, clips, measure, self.skipped, self.store, has_gt=bench.has_gt, warnings=self._warnings(has_keyframes),
            published=bench.published,
        )  # fmt: skip
        write_outputs(record, output)
        return record

    def _keyframes(
        self, clips: Sequence[_Clip], multiple: int
    ) -> tuple[dict[str, tuple[int, ...]], dict[str, ReferenceMaker | None]]:
        """Keyframes of each clip and, where they are images of a folder, what reads them."""
        source = self.source
        chosen: dict[str, tuple[int, ...]] = {}
        makers: dict[str, ReferenceMaker | None] = {}
        for clip in clips:
            folder = source.folder_maker(clip.name, len(clips)) if source.folder is not None else None
            chosen[clip.name] = source.indices(
                clip.name, clip.num_frames, partial(clip.iframes, source.keyframes),
                given=folder.indices if folder else (), multiple=multiple,
            )  # fmt: skip
            if folder is not None:
                folder.check(chosen[clip.name], clip.lr_size)
                makers[clip.name] = folder
        return chosen, makers

    def _filled(
        self, clips: Sequence[_Clip], chosen: Mapping[str, tuple[int, ...]], restorer: Restorer
    ) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
        """Keyframes of each clip with those of the model's own kind, as ``sparkvsr upscale`` adds them; and those."""
        from sparkvsr.evaluation.restoring import to_pixels
        from sparkvsr.keyframes.coverage import Coverage, with_own_keyframes
        from sparkvsr.keyframes.select import Selection, Shot

        full: dict[str, tuple[int, ...]] = {}
        own: dict[str, tuple[int, ...]] = {}
        by_own = self.options.references == getattr(restorer, "own_references", None)
        for clip in clips:
            coverage = Coverage()
            for frame in clip.lr_frames(self.bench):
                coverage.take(to_pixels([frame])[0])
            before = chosen[clip.name]
            selection, _ = with_own_keyframes(Selection(before), [Shot(0, clip.num_frames)], coverage.wanted)
            full[clip.name] = selection.indices
            if getattr(restorer, "wants_own_keyframes", False):
                own[clip.name] = full[clip.name] if by_own else tuple(sorted(set(selection.indices) - set(before)))
        return full, own

    def _task(
        self, clip: _Clip, keyframes: tuple[int, ...], own: tuple[int, ...], restorer: Restorer,
        maker: ReferenceMaker | None, fingerprint: str, output: Path,
    ) -> ClipTask:  # fmt: skip
        options = self.options
        references = str(options.references) if keyframes else ""
        if maker is not None:
            references += " ".join(maker.identity(index) for index in keyframes)
        references += f" own {own}" if own else ""
        identity = "|".join(
            (__version__, fingerprint, str(keyframes), references, str(options.guidance_scale if keyframes else 0),
             self.bench.degradation, degrade.VERSION, str(self.bench.scale), clip.identity(),
             str(output.resolve()) if options.save_frames else "")
        )  # fmt: skip
        facts: dict[str, Any] = {
            "keyframes": list(keyframes),
            "own_keyframes": list(own),
            "lr_size": list(clip.lr_size),
            "gt_source": clip.gt.describe() if clip.gt is not None else None,
            "lr_source": clip.lr.describe() if clip.lr is not None else "made from the ground truth",
        }
        between = None
        if own and set(own) != set(keyframes):
            from sparkvsr.keyframes.references import make_reference_maker

            between = make_reference_maker(str(getattr(restorer, "own_references", "lite")), "cpu")
        task = ClipTask(
            name=clip.name, num_frames=clip.num_frames, fps=clip.fps or self.bench.fps, gt=clip.gt, identity=identity,
            facts=facts, notes=clip.notes, produce=lambda: iter(()),
        )  # fmt: skip

        def image(index: int, lr: Tensor) -> Tensor:
            if between is not None and index in own:
                return between.make(lr, clip.size, index)
            if maker is not None:
                return maker.make(lr, clip.size, index)
            from sparkvsr.evaluation.restoring import to_pixels

            return to_pixels([clip.gt_frame(index)])[0]

        def produce() -> Iterator[tuple[Frame, Frame | None]]:
            from sparkvsr.evaluation.restoring import restored_frames

            lr_frames = list(clip.lr_frames(self.bench))
            if len(lr_frames) != clip.num_frames:
                msg = f"{clip.name}: {len(lr_frames)} frames could be read, {clip.num_frames} were expected"
                raise DatasetError(msg)
            started = time.monotonic()
            frames = restored_frames(
                restorer, lr_frames, keyframes, image, clip.size, options.guidance_scale, frozenset(own)
            )
            for index, (sr, lr) in enumerate(frames):
                facts["seconds_restoring"] = round(time.monotonic() - started, 3)
                if options.save_frames:
                    _save_frame(output / FRAMES_FOLDER / safe_name(clip.name) / f"{index:05d}.png", sr)
                yield sr, lr

        task.produce = produce
        return task

    def _subset(self, clips: list[_Clip]) -> str:
        """How this run departs from the bench, empty when it does not."""
        parts = []
        if len(clips) < self.bench.num_clips:
            parts.append(f"{len(clips)} of {self.bench.num_clips} clips ({', '.join(clip.name for clip in clips)})")
        counts = {}
        for clip in clips:
            wanted = self.bench.frames_of(clip.name)
            if clip.num_frames < clip.available or (wanted is not None and clip.num_frames != wanted):
                counts[clip.name] = f"{clip.name} {clip.num_frames} of {wanted or clip.available}"
        if counts:
            parts.append("frames: " + ", ".join(counts.values()))
        return "; ".join(parts)

    def _warnings(self, has_keyframes: bool) -> list[str]:
        found = []
        if has_keyframes and self.options.references == GROUND_TRUTH:
            found.append(
                "keyframes are ground-truth frames: the best possible references, which no user has; see also the mean "
                "without keyframes"
            )
        if self.data.absent:
            found.append(f"clips of {self.bench.name} that are not there: {', '.join(self.data.absent)}")
        return found


@dataclass
class _Clip:
    """A clip of a bench, opened; sizes and counts agree."""

    name: str
    gt: ClipSource | None
    lr: FileClip | None
    num_frames: int
    available: int
    size: tuple[int, int]
    lr_size: tuple[int, int]
    fps: float
    notes: list[str]

    @classmethod
    def open(cls, bench: Bench, files: ClipFiles, max_frames: int | None) -> _Clip:
        """Raises DatasetError where sizes or counts do not fit."""
        gt: ClipSource | None = None
        if bench.kind == "generated":
            gt = demo_clip(files.name, bench.frames_of(files.name) or 12)
        elif files.gt is not None:
            gt = FileClip(files.gt, files.name)
        lr = FileClip(files.lr, files.name) if files.lr is not None else None
        first = gt or lr
        assert first is not None
        if gt is not None and lr is not None:
            if gt.num_frames != lr.num_frames:
                msg = (
                    f"{bench.name}/{files.name}: GT has {gt.num_frames} frames but LR {lr.num_frames}; they must agree"
                )
                raise DatasetError(msg)
            problem = size_problem(bench, lr.size, gt.size)
            if problem:
                msg = f"{bench.name}/{files.name}: {problem}; check the data with --check"
                raise DatasetError(msg)
        available = first.num_frames
        count = min(n for n in (available, bench.frames_of(files.name), max_frames) if n is not None)
        scale = bench.scale
        lr_size = lr.size if lr is not None else (first.size[0] // scale, first.size[1] // scale)
        size = (lr_size[0] * scale, lr_size[1] * scale)
        notes = [text for source in (gt, lr) if source is not None for text in source.warnings()]
        if gt is not None and gt.size != size:
            notes.append(
                f"ground truth cut from {gt.size[1]}x{gt.size[0]} to {size[1]}x{size[0]}, a multiple of {scale}"
            )
        if gt is not None and (gt.size != size or count != available):
            gt = CroppedClip(gt, size, (0, 0), count)
        is_video = isinstance(first, FileClip) and first.is_video()
        fps = first.fps if is_video or bench.kind == "generated" else bench.fps
        return cls(files.name, gt, lr, count, available, size, lr_size, fps, notes)

    def identity(self) -> str:
        return f"{self.lr.identity() if self.lr else 'made'} {self.gt.identity() if self.gt else ''} {self.num_frames}"

    def lr_frames(self, bench: Bench) -> Iterator[Frame]:
        if self.lr is not None:
            yield from CroppedClip(self.lr, self.lr_size, (0, 0), self.num_frames).frames()
            return
        assert self.gt is not None
        for frame in self.gt.frames():
            yield degrade.make_lr(frame, bench.degradation, bench.scale)

    def iframes(self, keyframes: str) -> list[int]:
        """I-frames of the LR video."""
        from sparkvsr.video import iframe_indices

        if self.lr is None or not self.lr.is_video():
            msg = (
                f"--keyframes {keyframes}: the LR frames of {self.name} are not a video, so there are no I-frames; "
                "use first, every:N or frame numbers"
            )
            raise ConfigError(msg)
        return [index for index in iframe_indices(self.lr.path) if index < self.num_frames]

    def gt_frame(self, index: int) -> Frame:
        assert self.gt is not None
        for number, frame in enumerate(self.gt.frames()):
            if number == index:
                return frame
        msg = f"{self.name}: the ground truth has no frame {index}"
        raise DatasetError(msg)


def _save_frame(path: Path, frame: Frame) -> None:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    if not done:
        msg = f"cannot encode {path}"
        raise SparkVSRError(msg)
    path.write_bytes(encoded.tobytes())
