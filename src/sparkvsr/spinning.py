"""How OpenMP's threads wait, which has to be decided before torch loads."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def sleep_between_tasks(environment: MutableMapping[str, str] | None = None) -> None:
    """Let the threads of OpenMP sleep instead of spin while they wait for each other, unless the user chose.

    On a machine that does other things, too, threads that spin take the cores from those that work.

    Args:
        environment: of a process to be started; None is this one.
    """
    target = os.environ if environment is None else environment
    if not any(name in target for name in WAITING):
        target["GOMP_SPINCOUNT"] = "0"
