"""Checkpoint files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from sparkvsr.errors import EncodeError
from sparkvsr.video.durable import replace_durably, temporary_path


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint aside, on the same disk, and gives it its name when all of it is there.

    Lightning's own way writes into the system's folder for temporary files and copies from there, which a full disk or
    a kill may cut.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write one file.

        Raises:
            EncodeError: the disk is full, or the folder may not be written.
        """
        del storage_options
        final = Path(path)
        aside = temporary_path(final, "partial")
        data = io.BytesIO()
        torch.save(checkpoint, data)
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                file.write(data.getbuffer())
            replace_durably(aside, final)
        except OSError as exc:
            with suppress(OSError):
                aside.unlink()
            msg = (
                f"checkpoint {final} cannot be written ({exc.strerror}); free some space and go on with ckpt=auto, or "
                "start again elsewhere with paths.output_dir=..."
            )
            raise EncodeError(msg) from exc
