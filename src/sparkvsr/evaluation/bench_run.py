"""Runs a model on a bench: checks everything first, then LR, restoration and metrics clip by clip."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkvsr.errors import SparkVSRError
from sparkvsr.evaluation import degrade
from sparkvsr.evaluation.bench import Bench
from sparkvsr.evaluation.bench_clip import BenchClip
from sparkvsr.evaluation.bench_keyframes import AUTO, GROUND_TRUTH, KeyframeSource, keyframes_needed
from sparkvsr.evaluation.layout import BenchData, find_data
from sparkvsr.evaluation.measuring import ClipTask, MeasureOptions, make_folder, measure_clips, safe_name
from sparkvsr.evaluation.record import build_record
from sparkvsr.evaluation.result_folder import CLIPS_FOLDER, write_outputs
from sparkvsr.evaluation.run_options import MetricChoice, RunOptions
from sparkvsr.evaluation.whole_files import write_whole
from sparkvsr.hooks import Hook
from sparkvsr.metrics.catalogue import MetricSpec
from sparkvsr.metrics.colour import Image8
from sparkvsr.metrics.readiness import Readiness, resolve_metrics
from sparkvsr.metrics.toolbox import Toolbox
from sparkvsr.output_lock import OutputLock
from sparkvsr.pretrained.weights import WeightStore
from sparkvsr.shapes import check_run_size
from sparkvsr.version import __version__

if TYPE_CHECKING:
    from sparkvsr.inference.clip.analysis import ClipRecord
    from sparkvsr.keyframes.choice import KeyframeChoice
    from sparkvsr.keyframes.references import ReferenceMaker
    from sparkvsr.keyframes.shots import Shot
    from sparkvsr.models.interface import RestorationModel

FRAMES_FOLDER = "frames"
SEED = 42
"""As by default in ``sparkvsr upscale``."""


@dataclass
class KeyedClip:
    """A clip with its keyframes.

    Attributes:
        clip: the clip.
        choice: how its keyframes are chosen.
        iframes: I-frames of its LR video.
        maker: gives their images; None until it is loaded, and without keyframes.
        look: its shots and what else is known of its LR frames, where the choice needs them.
        indices: the keyframes.
        own: those of them that are of the model's own kind.
    """

    clip: BenchClip
    choice: KeyframeChoice
    iframes: Callable[[], Sequence[int]]
    maker: ReferenceMaker | None
    look: tuple[list[Shot], ClipRecord] | None
    indices: tuple[int, ...] = ()
    own: tuple[int, ...] = ()

    def moved(self, multiple: int) -> KeyedClip:
        """With keyframes where a model can place them, see ``KeyframeChoice.select``."""
        from sparkvsr.keyframes.shots import Shot

        shots = self.look[0] if self.look is not None else [Shot(0, self.clip.num_frames)]
        bad = self.look[1].bad_frames if self.look is not None else frozenset()
        return replace(self, indices=self.choice.select(shots, self.iframes, SEED, multiple=multiple, bad=bad).indices)


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
            ConfigError: an unknown clip or metric, keyframes that this bench cannot have, or a bad chunk or tile.
        """
        check_run_size(options.chunk_frames, options.tile)
        store = WeightStore(choice.weights_dir)
        specs, skipped = resolve_metrics(
            choice.names, store, has_gt=bench.has_gt, strict=choice.strict, allow_download=choice.allow_download
        )
        places_own = (
            options.keyframes is None and options.guidance_scale > 0 and (options.look or bench.look) != "faithful"
        )
        source = KeyframeSource.parse(
            options.keyframes or "none", options.references, bench, options.model, places_own=places_own
        )
        data = find_data(bench, data_root, options.clips)
        return cls(bench, data, replace(options, references=source.references), choice, store, specs, source, skipped)

    def execute(
        self,
        output: Path,
        hook: Hook | None = None,
        *,
        load_model: Callable[[RunOptions], RestorationModel] | None = None,
        load_maker: Callable[[RunOptions], ReferenceMaker | None] | None = None,
    ) -> dict[str, Any]:
        """Restore and measure, and write the results.

        Args:
            output: folder for the results.
            hook: see ``measuring.measure_clips``.
            load_model, load_maker: for models and makers that are no files; by default those of ``restoring``.

        Returns:
            The record, see ``record``.

        Raises:
            EncodeError: another process writes this folder.
            SparkVSRError: whatever the model, the data or a metric refuses.
        """
        with OutputLock(output, "-o"):
            return self._execute(output, hook, load_model, load_maker)

    def _execute(
        self,
        output: Path,
        hook: Hook | None,
        load_model: Callable[[RunOptions], RestorationModel] | None,
        load_maker: Callable[[RunOptions], ReferenceMaker | None] | None,
    ) -> dict[str, Any]:
        from sparkvsr.evaluation import restoring
        from sparkvsr.inference.clip.own_keyframes import is_own_kind

        options, bench = self.options, self.bench
        make_folder(output / CLIPS_FOLDER)
        pairs = [BenchClip.open(bench, files, options.max_frames) for files in self.data.clips]
        keyed = [self._keyed(clip, len(pairs)) for clip in pairs]
        usual = partial(restoring.load_restorer, usual_look=bench.look)
        model = (load_model or usual)(options)
        fills = model.wants_own_keyframes and options.guidance_scale > 0
        if options.keyframes is None and self.source.keyframes == "none" and fills:
            self.source = replace(self.source, keyframes=AUTO)
        elif options.references not in (AUTO, None) and self.source.keyframes == "none":
            raise keyframes_needed(str(options.references))  # not a model that places them itself
        if options.references == AUTO:
            options = self.options = replace(options, references=model.own_references)
        if model.keyframe_multiple > 1:
            keyed = [item.moved(model.keyframe_multiple) for item in keyed]
        is_auto = self.source.keyframes == AUTO
        if (is_auto or any(item.indices for item in keyed)) and self.source.folder is None:
            maker = (load_maker or restoring.load_maker)(options)
            if is_auto and options.keyframes is None and maker is not None and not is_own_kind(maker):
                # Somebody has to say which frames somebody's images are for.
                raise keyframes_needed(str(options.references))
            for item in keyed:
                item.maker = maker or restoring.GroundTruthMaker(item.clip.truth)
        if is_auto or (fills and any(item.indices for item in keyed)):
            keyed = [self._filled(item, model) for item in keyed]
        has_keyframes = any(item.indices for item in keyed)
        tasks = [self._task(item, model, output) for item in keyed]
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
            "model": restoring.describe_model(model),
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

    def _keyed(self, clip: BenchClip, num_clips: int) -> KeyedClip:
        """A clip with its keyframes and, where they are images of a folder, what reads them."""
        source = self.source
        folder = source.folder_maker(clip.name, num_clips) if source.folder is not None else None
        choice = source.choice(clip.name, clip.num_frames, folder.indices if folder else ())
        if choice.kind in ("default", "iframes"):
            clip.iframes(source.keyframes)  # refused before the frames are looked through
        look = clip.look_through(clip.lr_frames(self.bench), judge=True) if choice.follows_shots else None
        keyed = KeyedClip(clip, choice, partial(clip.iframes, source.keyframes), folder, look).moved(1)
        if folder is not None:
            folder.check(keyed.indices, clip.lr_size)
        return keyed

    def _filled(self, keyed: KeyedClip, model: RestorationModel) -> KeyedClip:
        """With keyframes of the model's own kind between the chosen ones, as ``sparkvsr upscale`` adds them."""
        from sparkvsr.inference.clip.own_keyframes import add_own_keyframes, completed_maker
        from sparkvsr.keyframes.select import Selection

        assert keyed.maker is not None
        look = keyed.clip.look_through(keyed.clip.lr_frames(self.bench), judge=True, follow=True)
        selection, own = add_own_keyframes(
            Selection(keyed.indices), look[0], look[1].wanted or (), keyed.maker, model, look[1].bad_frames
        )
        maker = completed_maker(keyed.maker, own, model)
        return replace(keyed, indices=selection.indices, own=own, maker=maker, look=look)

    def _task(self, keyed: KeyedClip, model: RestorationModel, output: Path) -> ClipTask:
        from sparkvsr.evaluation import restoring

        options, clip, keyframes = self.options, keyed.clip, keyed.indices
        maker = keyed.maker if keyframes else None
        plan = restoring.plan_clip(model, clip, len(keyframes), options)
        references = str(options.references) if keyframes else ""
        if maker is not None:
            references += " ".join(maker.identity(index) for index in keyframes)
        references += f" own {keyed.own}" if keyed.own else ""
        identity = "|".join(
            (__version__, model.fingerprint(), restoring.pixel_identity(model, plan.settings), str(keyframes),
             references, str(options.guidance_scale if keyframes else 0), self.bench.degradation, degrade.VERSION,
             str(self.bench.scale), clip.identity(), str(output.resolve()) if options.save_frames else "")
        )  # fmt: skip
        facts: dict[str, Any] = {
            "keyframes": list(keyframes),
            "own_keyframes": list(keyed.own),
            "lr_size": list(clip.lr_size),
            "gt_source": clip.gt.describe() if clip.gt is not None else None,
            "lr_source": clip.lr.describe() if clip.lr is not None else "made from the ground truth",
        }

        def produce() -> Iterator[tuple[Image8, Image8 | None]]:
            lr = clip.lr_frames(self.bench)
            shots, record = keyed.look or clip.look_through(lr)
            settings = replace(
                plan.settings, is_grey=record.stays_grey(keyframes, maker), own_keyframes=frozenset(keyed.own)
            )
            facts["restoring"] = restoring.describe_run(settings, shots)
            started = time.monotonic()
            frames = restoring.restored_frames(model, lr, shots, keyframes, maker, settings)
            for index, (sr, low) in enumerate(frames):
                facts["seconds_restoring"] = round(time.monotonic() - started, 3)
                if options.save_frames:
                    _save_frame(output / FRAMES_FOLDER / safe_name(clip.name) / f"{index:05d}.png", sr)
                yield sr, low

        return ClipTask(
            name=clip.name, num_frames=clip.num_frames, fps=clip.fps or self.bench.fps, produce=produce, gt=clip.gt,
            identity=identity, facts=facts, notes=clip.notes, sources=clip.identity,
        )  # fmt: skip

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


def _save_frame(path: Path, frame: Image8) -> None:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    if not done:
        msg = f"cannot encode {path}"
        raise SparkVSRError(msg)
    write_whole(path, encoded.tobytes())
