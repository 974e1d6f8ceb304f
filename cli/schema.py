"""`sparkvsr schema`: what the lines of `--json` look like."""

from __future__ import annotations

import json
import sys


def schema() -> None:
    """Print the JSON Schema of the events that `--json` writes, one a line.

    Example: sparkvsr schema > events.schema.json
    """
    from sparkvsr.inference.events import event_schema

    sys.stdout.write(json.dumps(event_schema(), indent=1) + "\n")
