"""Print what CI installs, pinned: the dependencies of sparkvsr and its tools, down to the last, as installed here.

    .venv/bin/python .ci/constraints.py > .ci/constraints.txt      # or: make constraints

torch, torchvision and what only they bring (CUDA) are left out: the right build differs from platform to platform.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PLATFORM = re.compile(r"torch|torchvision|triton|nvidia-.*|cuda-.*|setuptools|pip|sparkvsr")


def collect(name: str, extras: set[str], found: dict[str, str], visited: set[tuple[str, str]]) -> None:
    """Note the installed versions of all that a package needs."""
    for line in distribution(name).requires or ():
        need = Requirement(line)
        key = canonicalize_name(need.name)
        if need.marker and not any(need.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            continue
        try:
            version = distribution(key).version
        except PackageNotFoundError:
            print(f"{key} is not installed, so it is not pinned", file=sys.stderr)
            continue
        if not PLATFORM.fullmatch(key):
            found[key] = version
        if (key, str(sorted(need.extras))) not in visited:
            visited.add((key, str(sorted(need.extras))))
            collect(key, need.extras, found, visited)


if __name__ == "__main__":
    versions: dict[str, str] = {}
    collect("sparkvsr", {"dev", "metrics", "lora", "ray"}, versions, set())
    print("# Written by .ci/constraints.py; `make constraints` writes it again.")
    for name, version in sorted(versions.items()):
        print(f"{name}=={version}")
