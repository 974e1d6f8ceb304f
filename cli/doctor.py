"""`sparkvsr doctor`: what works here, and what to do about the rest."""

from __future__ import annotations

import json as json_module
import sys
from typing import Annotated

import typer

from sparkvsr.printable import printable

_MARKS = {"ok": "ok      ", "missing": "missing ", "broken": "BROKEN  "}


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Leave the measured run out.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say what is installed and works: devices, encoders, weights, memory, disk, speed; and what to do about the rest.

    Nothing is changed or downloaded. Exit code 1 where something is broken that is needed.
    """
    from sparkvsr.doctor import Finding, examine

    found: list[Finding] = []
    section = ""
    for finding in examine(quick=quick):
        found.append(finding)
        if json:
            continue
        if finding.section != section:
            sys.stdout.write(f"{'' if not section else chr(10)}{finding.section}\n")
            section = finding.section
        sys.stdout.write(printable(f"  {_MARKS[finding.state]}{finding.name}: {finding.text}") + "\n")
        if finding.advice and finding.state != "ok":
            sys.stdout.write(printable(f"            {finding.advice}") + "\n")
        sys.stdout.flush()
    broken = [finding.name for finding in found if finding.state == "broken"]
    if json:
        listing = {"ok": not broken, "findings": [finding.to_dict() for finding in found]}
        sys.stdout.write(json_module.dumps(listing, indent=1) + "\n")
    else:
        missing = sum(finding.state == "missing" for finding in found)
        end = f"Broken: {', '.join(broken)}" if broken else "Nothing that is needed is broken"
        sys.stdout.write(f"\n{end}; {missing} optional things are missing.\n")
    if broken:
        raise typer.Exit(1)
