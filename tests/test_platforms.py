"""Without POSIX: nothing of it is needed at import, and processes connect without inherited sockets.

`make windows` (mypy) finds what only POSIX has inside functions.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sparkvsr import child_processes, durable

ROOT = Path(__file__).parents[1]

# Other packages keep what they need of their own system; sparkvsr's modules must do without.
WITHOUT_POSIX = """
import builtins, importlib, pkgutil, sys
hidden = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "readline", "syslog"}
plain = builtins.__import__
def importing(name, globals=None, *more, **named):
    if name.partition(".")[0] in hidden and str((globals or {}).get("__name__")).startswith("sparkvsr"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return plain(name, globals, *more, **named)
builtins.__import__ = importing
import sparkvsr
names = ["sparkvsr", *(found.name for found in pkgutil.walk_packages(sparkvsr.__path__, "sparkvsr."))]
for name in names:
    importlib.import_module(name)
from sparkvsr.cli.main import app
try:
    app(["--help"])
except SystemExit as ending:
    print(len(names), ending.code)
try:
    exec("import fcntl", {"__name__": "sparkvsr.planted"})
except ModuleNotFoundError:
    print("hidden")
"""


def test_every_module_imports_without_posix() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_POSIX], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-1500:]
    *_, counted, planted = done.stdout.splitlines()
    assert planted == "hidden"
    number, code = counted.split()
    assert int(number) > 250
    assert code == "0"


ECHO = """
import sys
sys.path[:0] = {path!r}
from sparkvsr.child_processes import connect, TOKEN_VARIABLE
import os
lines = connect(sys.argv[1:])
while True:
    for number, line in enumerate(lines):
        line.send([line.recv(), number, TOKEN_VARIABLE in os.environ])
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that sends back what it gets."""
    (tmp_path / "echo_module.py").write_text(ECHO.format(path=[str(ROOT / "src")]))
    monkeypatch.chdir(tmp_path)  # `python -m` looks there first
    return "echo_module"


@pytest.mark.parametrize("start", [child_processes._inherited, child_processes._over_loopback])
def test_a_module_is_started_and_spoken_to(start: object, echo: str) -> None:
    process, lines = start(echo, dict(os.environ), 2)  # type: ignore[operator]
    for number, line in enumerate(lines):
        line.send("word")
        assert line.poll(30)
        assert line.recv() == ["word", number, False]  # the token is not handed on to what the module starts
    for line in lines:
        line.close()
    assert process.wait(30) is not None


def test_who_does_not_know_the_token_is_not_let_in(echo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program of the machine connects first; the module still gets its connection."""
    plain = socket.create_server

    def visited(address: tuple[str, int]) -> socket.socket:
        server = plain(address)
        stranger = socket.create_connection(server.getsockname())
        stranger.sendall(b"x" * child_processes._TOKEN_BYTES)
        strangers.append(stranger)
        return server

    strangers: list[socket.socket] = []
    monkeypatch.setattr(socket, "create_server", visited)
    process, (line,) = child_processes._over_loopback(echo, dict(os.environ), 1)
    line.send("word")
    assert line.recv()[0] == "word"
    line.close()
    process.wait(30)
    assert strangers[0].recv(1) == b""
    strangers[0].close()


def test_a_module_that_ends_at_once_is_an_error_and_no_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dies.py").write_text("raise SystemExit(7)\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConnectionError, match=r"dies did not connect \(exit code 7\)"):
        child_processes._over_loopback("dies", dict(os.environ), 1)


def test_a_file_that_somebody_reads_gets_its_name_a_little_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where an open file cannot be replaced."""
    (tmp_path / "partial").write_text("new")
    (tmp_path / "final").write_text("old")
    plain, refused = Path.replace, iter([PermissionError, PermissionError])

    def replace(self: Path, target: Path) -> Path:
        for error in refused:
            raise error
        return plain(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(PermissionError):
        durable.give_name(tmp_path / "partial", tmp_path / "final")
    monkeypatch.setattr(durable.os, "name", "nt")
    durable.give_name(tmp_path / "partial", tmp_path / "final")
    monkeypatch.undo()
    assert (tmp_path / "final").read_text() == "new"
