"""`sparkvsr metrics`: what can be measured here, and what is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def metrics(
    weights_dir: Annotated[
        Path | None, typer.Option("--weights-dir", help="Folder searched first for metric weights.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """List every metric: ready, or what is missing (file, folder, checksum, size, licence, cost).

    Looks at installed packages and folders only: nothing is downloaded.
    """
    from sparkvsr.metrics.catalogue import METRICS
    from sparkvsr.metrics.readiness import probe
    from sparkvsr.pretrained.weights import WeightStore

    store = WeightStore(weights_dir)
    states = [probe(spec, store) for spec in METRICS.values()]
    if as_json:
        listing = {
            state.spec.name: {
                "status": state.status,
                "needs": list(state.needs),
                "group": state.spec.group,
                "kind": state.spec.kind,
                "summary": state.spec.summary,
                "protocol": state.spec.protocol,
                "needs_gt": state.spec.needs_gt,
                "seconds_per_clip" if state.spec.once_a_clip else "seconds_per_720p_frame": state.spec.seconds,
                "licence": state.spec.licence,
                "weights": {
                    name: {"path": str(found.path), "sha256": found.sha256}
                    for name in state.spec.weights
                    if (found := store.find(name)) is not None
                },
            }
            for state in states
        }
        sys.stdout.write(json.dumps(listing, indent=1) + "\n")
        return
    group = ""
    titles = {
        "default": "--metrics default (always there)",
        "offline": "--metrics offline (small packages and weights)",
        "weights": "--metrics all (large weights)",
        "extra": "only by name",
    }
    for state in states:
        spec = state.spec
        if spec.group != group:
            group = spec.group
            sys.stdout.write(f"\n{titles[group]}\n")
        cost = f"{spec.seconds * 1000:.0f} ms" if spec.seconds < 1 else f"{spec.seconds:g} s"
        cost += " a clip" if spec.once_a_clip else ""
        gt = "" if spec.needs_gt else ", needs no ground truth"
        sys.stdout.write(f"  {spec.name:<14} {state.status:<16} {cost:>11}  {spec.summary}{gt}\n")
        for name in spec.weights:
            found = store.find(name)
            if found is not None:
                sys.stdout.write(f"{'':19}has    {found.path} (sha256 {found.sha256[:8] or 'unknown'}...)\n")
        for need in state.needs:
            sys.stdout.write(f"{'':19}needs  {need}\n")
        if spec.licence:
            sys.stdout.write(f"{'':19}note   {spec.licence}\n")
    sys.stdout.write("\nTimes are for one 1280x720 frame on one CPU core, unless they say a clip.\n")
