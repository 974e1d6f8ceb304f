"""`-v`, `-vv`, `--log-file`: where the log goes; and that the library by itself writes nowhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from upscale_clips import run, sparkvsr, write_clip

BASELINE = ["--model", "bicubic", "--references", "bicubic"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "in.mp4", frames=12)


@pytest.fixture(autouse=True)
def _kept_handlers() -> Iterator[None]:
    logger = logging.getLogger("sparkvsr")
    handlers, level = [*logger.handlers], logger.level
    yield
    for handler in [*logger.handlers]:
        if handler not in handlers:
            handler.close()
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_silent_by_default(clip: Path, tmp_path: Path) -> None:
    result = run(clip, "-o", tmp_path / "out.mp4", *BASELINE)
    assert result.stderr == ""


def test_v_tells_steps_and_vv_details(clip: Path, tmp_path: Path) -> None:
    once = run(clip, "-o", tmp_path / "out.mp4", "-v", *BASELINE)
    assert "rendered frames 0 to 11" in once.stderr
    assert "joined 1 segments" in once.stderr
    assert "stored segment" not in once.stderr
    twice = run(clip, "-o", tmp_path / "out.mp4", "-vv", "--overwrite", *BASELINE)
    assert "stored segment" in twice.stderr
    assert "event {" not in twice.stderr  # the user has them on stdout


def test_json_stays_alone_on_stdout(clip: Path, tmp_path: Path) -> None:
    result = run(clip, "-o", tmp_path / "out.mp4", "-vv", "--json", *BASELINE)
    assert result.exit_code == 0
    assert all(line.startswith("{") for line in result.stdout.splitlines())
    assert "rendered frames" in result.stderr


def test_log_file_is_appended_with_times_and_errors(clip: Path, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "run.txt"
    assert run(clip, "-o", tmp_path / "out.mp4", "--log-file", log, *BASELINE).exit_code == 0
    first = log.read_text()
    assert "INFO sparkvsr.cli" in first
    assert "upscale" in first.splitlines()[0]
    assert 'event {"event": "done"' in first
    result = run(clip, "-o", tmp_path / "out.mp4", "--log-file", log, *BASELINE)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    text = log.read_text()
    assert text.startswith(first)
    assert "ERROR sparkvsr.cli" in text
    assert "Traceback" in text  # where the error comes from is for the file only


def test_a_log_file_that_cannot_be_written_is_refused(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(clip, "-o", tmp_path / "out.mp4", "--log-file", tmp_path / "file" / "log.txt", *BASELINE)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: --log-file")
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    ("name", "text", "is_log"),
    [
        ("keyframes.json", '{"frames": []}', False),
        ("notes.md", "# mine", False),
        ("empty.json", "", True),
        ("cron.txt", "started", True),
        ("odd.name", "2026-01-02T03:04:05.678 INFO sparkvsr.cli [MainProcess MainThread] before", True),
    ],
)
def test_a_log_is_not_appended_to_what_is_none(tmp_path: Path, name: str, text: str, is_log: bool) -> None:
    (tmp_path / name).write_text(text)
    result = sparkvsr("schema", "--log-file", tmp_path / name)
    assert (result.exit_code == 0) is is_log, result.output
    if not is_log:
        result = sparkvsr("models", "--log-file", tmp_path / name)
        assert result.exit_code == 2
        assert "is no log: it would be damaged" in " ".join(result.stderr.split())
        assert (tmp_path / name).read_text() == text


@pytest.mark.parametrize("command", ["upscale", "keyframes", "compare", "eval", "metrics", "train", "models"])
def test_every_command_has_the_options(command: str) -> None:
    help_text = sparkvsr(command, "--help").stdout
    assert "--log-file" in help_text
    assert "-v" in help_text


def test_the_library_writes_nothing(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import sparkvsr as library

    library.upscale(clip, tmp_path / "out.mp4", model="bicubic", references="bicubic", compare=True)
    with pytest.raises(library.errors.SparkVSRError):
        library.upscale(clip, tmp_path / "out.mp4", model="bicubic")
    assert capfd.readouterr() == ("", "")
