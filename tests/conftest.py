"""Fixtures every test may use: the shared folder (or a skip that CI forbids), no network, kept random state."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_sessionstart() -> None:
    """Let Ctrl-C reach tests and what they start: a shell has what runs in the background ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """``../shared`` beside the checkout; a skip without it, a failure where CI says that it must be there."""
    folder = REPOSITORY.parent / "shared"
    if (folder / "golden" / "README.md").is_file():
        return folder
    if os.environ.get("SPARKVSR_REQUIRE_SHARED") == "1":
        pytest.fail(f"SPARKVSR_REQUIRE_SHARED=1, but {folder} is not there")
    pytest.skip("needs ../shared")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections to anything but this machine: nothing here may depend on a network."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in (
            "127.0.0.1",
            "localhost",
            "::1",
            "0.0.0.0",
        ):
            msg = f"a test tried to reach {host!r}"
            raise OSError(msg)
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _kept_random_state() -> Iterator[None]:
    """Every test starts from the same random state and leaves it as it was."""
    import torch

    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (third-party code draws from the global state)
    torch.manual_seed(0)
    yield
    random.setstate(python_state)
    np.random.set_state(numpy_state)  # noqa: NPY002
    torch.set_rng_state(torch_state)


@pytest.fixture(scope="session")
def timing_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `sparkvsr.inference.clip.timing` keeps its rates in tests."""
    return tmp_path_factory.mktemp("cache") / "timing"


@pytest.fixture(autouse=True)
def _own_timing_folder(timing_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test leaves the speed of this machine in the user's cache, or is told of it."""
    from sparkvsr.inference.clip import timing

    monkeypatch.setattr(timing, "user_cache", lambda *parts: timing_folder.parent.joinpath(*parts))
    shutil.rmtree(timing_folder, ignore_errors=True)
