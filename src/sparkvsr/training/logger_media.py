"""What loggers get besides numbers: the configuration, and validation clips in whatever form each one takes."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from torch import Tensor

from sparkvsr.video.pixels import to_uint8

_log = logging.getLogger(__name__)


class ConfigToLoggers(Callback):
    """Hands the run's configuration to every logger, before its first number.

    Args:
        config: plain values.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning's hook; loggers themselves write on the first process only."""
        del pl_module
        for logger in trainer.loggers:
            logger.log_hyperparams(self._config)


def show_clip(logger: Logger, name: str, strip: Tensor, frames: Tensor, video: Path, step: int, fps: int) -> list[str]:
    """Give a validation clip to a logger, as a picture and as a video, where it takes such.

    Args:
        logger: any of Lightning's, or one's own with ``log_image`` or ``log_video`` in their manner.
        name: of the clip.
        strip: ``(3, H, W)`` float in [0, 1]: some frames beside each other.
        frames: ``(F, 3, H, W)`` float in [0, 1].
        video: the same as a file.
        step: of the run.
        fps: of the video.

    Returns:
        What was given: ``image``, ``video``.
    """
    given = []
    key = f"validation/{name}"
    taker: Any = logger
    experiment: Any = getattr(logger, "experiment", None)
    try:
        # Weights & Biases, and whoever follows its signatures: lists, one entry per item.
        if callable(getattr(taker, "log_image", None)):
            taker.log_image(key, [_bytes_of(strip)], step=step)
            given.append("image")
        if callable(getattr(taker, "log_video", None)):
            taker.log_video(key, [str(video)], step=step, format=["mp4"])
            given.append("video")
        if given:
            return given
        if callable(getattr(experiment, "add_image", None)):  # TensorBoard
            experiment.add_image(key, strip, step)
            given.append("image")
            if importlib.util.find_spec("moviepy") is not None:  # it makes the GIF
                experiment.add_video(key, to_uint8(frames[None]), step, fps=fps)
                given.append("video")
        elif callable(getattr(experiment, "log_artifact", None)) and hasattr(logger, "run_id"):  # MLflow
            place = f"validation/step-{step:06d}"
            experiment.log_image(taker.run_id, _bytes_of(strip), f"{place}/{name}.png")
            given.append("image")
            experiment.log_artifact(taker.run_id, str(video), artifact_path=place)
            given.append("video")
    except Exception as exc:  # noqa: BLE001  (a picture less in a log is no reason to end a run of days)
        _log.warning("%s did not take a validation clip: %s", type(logger).__name__, str(exc).split("\n")[0])
    return given


def _bytes_of(picture: Tensor) -> Any:
    return to_uint8(picture).permute(1, 2, 0).numpy()
