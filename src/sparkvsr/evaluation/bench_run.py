"""Runs a model on a bench: checks everything first, then LR, restoration and metrics clip by clip."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkvsr.errors import DatasetError, SparkVSRError
from sparkvsr.evaluation import degrade
from sparkvsr.evaluation.bench import Bench
from sparkvsr.evaluation.bench_clip import BenchClip
from sparkvsr.evaluation.bench_keyframes import GROUND_TRUTH, KeyframeSource
from sparkvsr.evaluation.layout import BenchData, find_data
from sparkvsr.evaluation.measuring import ClipTask, MeasureOptions, make_folder, measure_clips, safe_name
from sparkvsr.evaluation.outputs import CLIPS_FOLDER, write_outputs
from sparkvsr.evaluation.record import build_record
from sparkvsr.evaluation.run_options import MetricChoice, RunOptions
from sparkvsr.evaluation.whole_files import write_whole
from sparkvsr.hooks import Hook
from sparkvsr.metrics.catalogue import MetricSpec
from sparkvsr.metrics.colour import Frame
from sparkvsr.metrics.readiness import Readiness, resolve_metrics
from sparkvsr.metrics.toolbox import Toolbox
from sparkvsr.pretrained.weights import WeightStore
from sparkvsr.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

    from sparkvsr.evaluation.restoring import Restorer
    from sparkvsr.keyframes.references import ReferenceMaker

FRAMES_FOLDER = "frames"


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
        source = KeyframeSource.parse(options.keyframes, options.references, bench, options.model)
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
        pairs = [BenchClip.open(bench, files, options.max_frames) for files in self.data.clips]
        chosen, makers = self._keyframes(pairs, 1)
        restorer = (options.load_restorer or restoring.load_restorer)(options.model, options.device)
        if restorer.keyframe_multiple > 1:
            chosen, makers = self._keyframes(pairs, restorer.keyframe_multiple)
        has_keyframes = any(chosen.values())
        if has_keyframes and not makers:
            maker = (options.load_maker or restoring.load_maker)(options)
            makers = {clip.name: maker for clip in pairs}
        fingerprint = restorer.fingerprint() or uuid.uuid4().hex
        tasks = [
            self._task(clip, chosen[clip.name], restorer, makers.get(clip.name), fingerprint, output) for clip in pairs
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
        self, clips: Sequence[BenchClip], multiple: int
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

    def _task(
        self, clip: BenchClip, keyframes: tuple[int, ...], restorer: Restorer, maker: ReferenceMaker | None,
        fingerprint: str, output: Path,
    ) -> ClipTask:  # fmt: skip
        options = self.options
        references = str(options.references) if keyframes else ""
        if maker is not None:
            references += " ".join(maker.identity(index) for index in keyframes)
        identity = "|".join(
            (__version__, fingerprint, str(keyframes), references, str(options.guidance_scale if keyframes else 0),
             self.bench.degradation, degrade.VERSION, str(self.bench.scale), clip.identity(),
             str(output.resolve()) if options.save_frames else "")
        )  # fmt: skip
        facts: dict[str, Any] = {
            "keyframes": list(keyframes),
            "lr_size": list(clip.lr_size),
            "gt_source": clip.gt.describe() if clip.gt is not None else None,
            "lr_source": clip.lr.describe() if clip.lr is not None else "made from the ground truth",
        }
        task = ClipTask(
            name=clip.name, num_frames=clip.num_frames, fps=clip.fps or self.bench.fps, gt=clip.gt, identity=identity,
            facts=facts, notes=clip.notes, produce=lambda: iter(()),
        )  # fmt: skip

        def image(index: int, lr: Tensor) -> Tensor:
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
            frames = restored_frames(restorer, lr_frames, keyframes, image, clip.size, options.guidance_scale)
            for index, (sr, lr) in enumerate(frames):
                facts["seconds_restoring"] = round(time.monotonic() - started, 3)
                if options.save_frames:
                    _save_frame(output / FRAMES_FOLDER / safe_name(clip.name) / f"{index:05d}.png", sr)
                yield sr, lr

        task.produce = produce
        return task

    def _subset(self, clips: list[BenchClip]) -> str:
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


def _save_frame(path: Path, frame: Frame) -> None:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    if not done:
        msg = f"cannot encode {path}"
        raise SparkVSRError(msg)
    write_whole(path, encoded.tobytes())
