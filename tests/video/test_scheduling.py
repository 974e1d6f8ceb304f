"""Opening an encoder leaves the scheduling of the process as it was."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sparkvsr.video.scheduling import kept_scheduling

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="scheduling policies of Linux")


def test_what_was_changed_inside_is_put_back_and_older_threads_are_left_alone() -> None:
    """SCHED_BATCH stands in for the encoder's SCHED_FIFO: everybody may choose it."""
    done = threading.Event()
    seen: dict[str, int] = {}

    def wait(name: str) -> None:
        seen[name] = threading.get_native_id()
        ready.set()
        done.wait(30)

    def start(name: str) -> None:
        ready.clear()
        threading.Thread(target=wait, args=(name,), daemon=True).start()
        assert ready.wait(30)

    def opens_an_encoder() -> None:
        start("before")
        with kept_scheduling():
            os.sched_setscheduler(seen["before"], os.SCHED_BATCH, os.sched_param(0))
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            start("inside")
            during.append(os.sched_getscheduler(seen["inside"]))
        after.update({name: os.sched_getscheduler(thread) for name, thread in (seen | {"own": 0}).items()})

    ready, during, after = threading.Event(), [], {}
    # In a thread of its own, so that a failure leaves the tests' own thread alone.
    opener = threading.Thread(target=opens_an_encoder)
    opener.start()
    opener.join(60)
    done.set()
    own = os.sched_getscheduler(0)
    assert during == [os.SCHED_BATCH]
    assert after == {"before": os.SCHED_BATCH, "inside": own, "own": own}


def may_be_real_time() -> bool:
    program = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_av1_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    """It raises itself and the process to SCHED_FIFO 99 where that is permitted."""
    if not may_be_real_time():
        pytest.skip("real-time scheduling is not permitted here, so the encoder cannot take it")
    program = f"""
import os, torch
from sparkvsr.video import EncodeOptions, VideoWriter
def policies():
    threads = [int(name) for name in os.listdir("/proc/self/task")]
    return {{(os.sched_getscheduler(t), os.sched_getparam(t).sched_priority) for t in threads}}
before = policies()
with VideoWriter({str(tmp_path / "o.mkv")!r}, source=None, size=(64, 64), options=EncodeOptions("av1")) as writer:
    writer.write(torch.rand(3, 64, 64))
    print(policies() == before, len(os.listdir("/proc/self/task")) > 2)
    writer.write(torch.rand(3, 64, 64))
print(policies() == before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == ["True True", "True"]
