"""An exception that nobody expected: one line, exit code 1, and a report without private things."""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from upscale_clips import write_clip


def crash(folder: Path, *arguments: str, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(folder / "home" / "anna"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"USER": "anna", "LOGNAME": "anna", "API_KEY": "S3CRET"}
    environment.pop("XDG_STATE_HOME", None)
    (folder / "home" / "anna").mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
        cwd=folder,
    )


def broken_entry_point(where: str) -> str:
    return (
        "import sys\n"
        "from importlib.metadata import entry_points\n"
        "run = next(iter(entry_points(group='console_scripts', name='sparkvsr'))).load()\n"
        "import sparkvsr.inference.clip.work as module\n"
        "def broken(self):\n"
        f"    raise KeyError({where})\n"
        "module.ClipWork.missing = broken\n"
        "sys.exit(run())\n"
    )


@pytest.fixture
def holiday(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "anna" / "holiday pics"
    folder.mkdir(parents=True)
    return write_clip(folder / "Anna &c Ämel at the beach.mp4", frames=8)


def test_report_has_what_is_needed_and_nothing_private(tmp_path: Path, holiday: Path) -> None:
    text = "f'no {self.job.info.path} of anna in /srv/anna/diary.txt, https://example.org/?key=S3CRET'"
    done = crash(
        tmp_path,
        *("upscale", str(holiday), "--model", "bicubic", "--references", "bicubic", "--crf=20", "--scale", "2", "-v"),
        *("-o", "secret result.mp4"),
        code=broken_entry_point(text),
    )
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    assert "unexpected KeyError" in lines[0]
    report = re.search(r"is in (\S+\.txt)", lines[0])
    assert report is not None
    path = Path(report.group(1))
    assert path.parent == tmp_path / "home" / "anna" / ".local" / "state" / "sparkvsr"
    content = path.read_text()

    # What a developer needs.
    for wanted in (
        "KeyError",
        "Traceback",
        "in broken",
        "<sparkvsr>/inference/upscale.py",
        f"torch {version('torch')}",
    ):
        assert wanted in content, wanted
    assert "--crf=20 --scale 2" in content
    assert "upscale <path1>.mp4 --model bicubic" in content
    assert "Last lines of the log:" in content
    assert "frames to render" not in content  # it broke before that line
    assert "looked through in" in content
    # What is nobody's business.
    for private in (
        "anna",
        "Anna",
        "beach",
        "holiday",
        "S3CRET",
        "example.org",
        "/srv",
        "diary",
        "secret",
        str(tmp_path),
    ):
        assert private not in content, (private, content)
    assert socket.gethostname() not in content
    # The output does not appear, nor does the work folder stay.
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["home"]


def test_report_goes_elsewhere_when_the_home_cannot_be_written(tmp_path: Path, holiday: Path) -> None:
    (tmp_path / "home" / "anna" / ".local").write_text("a file")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    code = f"import tempfile; tempfile.tempdir = {str(temporary)!r}\n" + broken_entry_point("'x'")
    done = crash(tmp_path, "upscale", str(holiday), "--model", "bicubic", code=code)
    assert done.returncode == 1
    assert len(list(temporary.glob("crash-*.txt"))) == 1


def test_one_crashing_input_does_not_stop_the_rest(tmp_path: Path, holiday: Path) -> None:
    write_clip(holiday.parent / "second.mp4", frames=8)
    code = (
        broken_entry_point("'x'")
        .replace("module.ClipWork.missing = broken", "")
        .replace(
            "sys.exit(run())",
            "good = module.ClipWork.missing\n"
            "module.ClipWork.missing = lambda self: broken(self) if 'Anna' in self.job.info.path.name else good(self)\n"
            "sys.exit(run())",
        )
    )
    done = crash(tmp_path, "upscale", str(holiday.parent), "-o", "out", "--model", "bicubic", "--scale", "1", code=code)
    assert done.returncode == 1
    assert "1 of 2 inputs failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["second_x1.mp4"]


def test_debug_shows_the_traceback(tmp_path: Path, holiday: Path) -> None:
    done = crash(tmp_path, "--debug", "upscale", str(holiday), "--model", "bicubic", code=broken_entry_point("'x'"))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert not (tmp_path / "home" / "anna" / ".local").exists()


def redactor(*arguments: str, paths: tuple[str, ...] = ()) -> object:
    from importlib.metadata import entry_points

    module = sys.modules[next(iter(entry_points(group="console_scripts", name="sparkvsr"))).load().__module__]
    crash_module = sys.modules[module.__name__.replace(".main", ".crash")]
    return crash_module.Redactor(arguments, paths)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cannot read /data/films/a.mkv: no", "cannot read <path>.mkv: no"),
        ('File "/usr/lib/x/site-packages/av/open.py", line 3', 'File "<packages>/av/open.py", line 3'),
        ("see C:\\Users\\anna\\a.mp4", "see <path>.mp4"),
        ("sparkvsr.video.reader: video_x4.mp4, .video_x4.mp4.work",
         "sparkvsr.video.reader: <path1>_x4.mp4, .<path1>_x4.mp4.work"),
        ("ratio 3/4 at 29.97", "ratio 3/4 at 29.97"),
        ("got a prompt: a face of my son", "got a prompt: <text of 16 characters>"),
        ("clips/video.mp4", "<path1>.mp4"),
        ("in clips/other", "in <folder>/other"),
        (f"host {socket.gethostname()}", "host <host>"),
    ],
)  # fmt: skip
def test_redaction(text: str, expected: str) -> None:
    redact = redactor("upscale", "clips/video.mp4", "--prompt", "a face of my son", "--scale", "2")
    assert redact(text) == expected  # type: ignore[operator]


def test_user_name_is_left_out_unless_it_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "mia")
    redact = redactor("upscale")
    assert redact("by mia, miaow") == "by <user>, miaow"  # type: ignore[operator]
