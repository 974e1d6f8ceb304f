"""How a run tells what it is doing: a hook that gets plain events. It never prints.

=========== ========================================================================================
event       keys
=========== ========================================================================================
start       output_dir, stage, model, parameters, trained_parameters, steps, first_step, samples_per_step
note        text
step        step, total, terms (by name), loss_mean and relative_mean (last 50 steps;
            relative: over the loss of the LR clip left as it is, NaN if not measured),
            learning_rate, samples_per_second, seconds_left
validation  step, psnr, psnr_bicubic
checkpoint  path
done        output_dir, step, seconds, model_folder (None if none was written), interrupted,
            skipped (how many clips could not be used)
=========== ========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Event = dict[str, Any]
Hook = Callable[[Event], None]


def silent(event: Event) -> None:
    """The default hook: ignore everything."""
