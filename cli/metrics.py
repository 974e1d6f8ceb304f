"""`sparkvsr metrics`: what can be measured here, what is missing, and getting it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparkvsr.errors import MetricError
from sparkvsr.printable import printable
from sparkvsr.units import human_bytes

from .console import DownloadBar

if TYPE_CHECKING:
    from sparkvsr.metrics.readiness import Readiness
    from sparkvsr.pretrained.weights import WeightStore


def metrics(
    get: Annotated[
        str | None,
        typer.Option(
            "--get",
            metavar="NAMES",
            help="Fetch the weights of these metrics (lpips_alex,dists or a group) into the user's cache; says where "
            "from and under which licence, checks the sums.",
        ),
    ] = None,
    weights_dir: Annotated[
        Path | None,
        typer.Option("--weights-dir", help="Folder searched first for metric weights; with --get, taken from there."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """List every metric: ready, or what is missing (file, folder, checksum, size, licence, cost).

    Looks at installed packages and folders only: without --get nothing is downloaded.
    """
    from sparkvsr.metrics.catalogue import METRICS
    from sparkvsr.metrics.readiness import probe
    from sparkvsr.pretrained.weights import WeightStore

    store = WeightStore(weights_dir)
    if get is not None:
        if as_json:
            raise typer.BadParameter("it lists, --get fetches; use one of them", param_hint="--json")  # noqa: EM101
        _get(get, store)
        return
    states = [probe(spec, store) for spec in METRICS.values()]
    if as_json:
        _list_as_json(states, store)
    else:
        _list(states, store)


def _get(names: str, store: WeightStore) -> None:
    """Fetch what the named metrics need, one line for each file; a failure does not stop the rest."""
    from sparkvsr.metrics.catalogue import select_metrics
    from sparkvsr.metrics.readiness import probe
    from sparkvsr.pretrained.weights import WEIGHTS

    chosen = select_metrics(names)
    failures: dict[str, str] = {}
    wanted = {name: named for spec, named in reversed(chosen) for name in reversed(spec.weights)}
    for name, named in reversed(wanted.items()):
        if "non-commercial" in WEIGHTS[name].licence and not named:
            sys.stdout.write(
                f"{name:<14} left out of the group, its licence: {WEIGHTS[name].licence}; name it to get it\n"
            )
            continue
        try:
            _get_weights(name, store)
        except MetricError as exc:
            failures[name] = str(exc)
    sys.stdout.write("\n")
    states = [(probe(spec, store), named) for spec, named in chosen]
    for state, _ in states:
        sys.stdout.write(f"{state.spec.name:<14} {state.status}\n")
        for need in state.needs if state.status == "package missing" else ():
            sys.stdout.write(f"{'':14} needs {need}\n")
    missing = [state.spec.name for state, named in states if named and not state.ready]
    if failures or missing:
        told = "; ".join(f"{name}: {failure}" for name, failure in failures.items())
        what = f"not ready: {', '.join(missing)}. " if missing else ""
        raise MetricError(what + (told or "what they need stands above"))


def _get_weights(name: str, store: WeightStore) -> None:
    from sparkvsr.pretrained.weights import WEIGHTS

    found, word = store.find(name), "there already"
    taken = store.take_over(name)
    if taken is not None:
        found, word = taken, "copied"
    if found is None:
        origin = store.origin(name)
        if origin:
            sys.stdout.write(f"{name:<14} fetching {origin}\n")
            sys.stdout.flush()
        with DownloadBar(name) as bar:
            found, word = store.download(name, bar.update), "fetched"
    size, path = human_bytes(found.path.stat().st_size), printable(str(found.path))
    sys.stdout.write(f"{name:<14} {word}: {path} ({size}, sha256 {found.sha256[:8]}... is right)\n")
    sys.stdout.write(f"{'':14} licence: {WEIGHTS[name].licence}\n")


def _list_as_json(states: list[Readiness], store: WeightStore) -> None:
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


def _list(states: list[Readiness], store: WeightStore) -> None:
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
