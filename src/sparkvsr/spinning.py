"""How OpenMP's threads wait, which has to be decided before torch loads."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def sleep_between_tasks(environment: MutableMapping[str, str]) -> None:
    """Let the threads of OpenMP sleep instead of spin while they wait for each other, unless the user chose.

    On a machine that does other things, too, threads that spin take the cores from those that work.

    Args:
        environment: of this process or of one to be started; changed in place.
    """
    if not any(name in environment for name in WAITING):
        environment["GOMP_SPINCOUNT"] = "0"


def worker_environment() -> dict[str, str]:
    """The environment of this process for one that computes."""
    environment = dict(os.environ)
    sleep_between_tasks(environment)
    return environment
