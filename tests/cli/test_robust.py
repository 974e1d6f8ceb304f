"""Names full of control characters, two runs into one output, many failing inputs, and other ordinary conditions."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from upscale_clips import ENTRY_POINT, picture, run, sparkvsr, write_clip

FAST = ("--model", "bicubic", "--scale", "2", "--no-keyframes")
HOSTILE = "a\x1b[31mred\x07 \x9b2J \u202egpj.\u2066 \nError: forged\u2028 b"
RAW = "\x1b\x07\x9b\u202e\u2066\u2028"


def shown_is_plain(text: str) -> bool:
    return not any(char in text for char in RAW)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "in.mp4", frames=8)


def command(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command as users start it."""
    return subprocess.run(
        [sys.executable, "-c", ENTRY_POINT, *map(os.fspath, arguments)],
        capture_output=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )


def test_names_are_shown_with_their_control_characters_written_out(clip: Path, tmp_path: Path) -> None:
    source = tmp_path / f"{HOSTILE}.mp4"
    source.write_bytes(clip.read_bytes())
    log = tmp_path / "run.log"
    result = run(source, "-o", tmp_path / f"{HOSTILE}.mkv", *FAST, "-vv", "--log-file", log)
    assert result.exit_code == 0, ascii(result.output)
    assert shown_is_plain(result.output)
    assert r"\x1b[31mred\x07" in result.output
    assert r"\u202egpj" in result.output
    assert not any(line.startswith("Error: forged") for line in result.output.splitlines())
    text = log.read_text()
    assert shown_is_plain(text)
    assert not any(line.startswith("Error: forged") for line in text.splitlines())
    missing = run(tmp_path / f"{HOSTILE}.avi", "-o", tmp_path / "x.mp4", *FAST)
    assert missing.exit_code == 2  # its name holds a bracket: a pattern that matches nothing
    assert shown_is_plain(missing.output)
    assert len(missing.stderr.strip().splitlines()) == 1
    two = sparkvsr("compare", source, clip, "-o", tmp_path / "both.html")
    assert two.exit_code == 0
    assert shown_is_plain(two.output)
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert not [char for char in page if unicodedata.category(char) in ("Cc", "Cf") and char not in "\n\t"]
    made = sparkvsr("keyframes", clip, "-o", tmp_path / f"refs{HOSTILE}", "--keyframes", "0", "--references", "bicubic")
    assert made.exit_code == 0
    assert shown_is_plain(made.output)
    assert not [line for line in made.output.splitlines() if line.startswith("Error")]


def test_joined_characters_and_other_scripts_are_left_alone() -> None:
    from importlib import import_module

    printable = import_module("sparkvsr.printable").printable
    for text in ("Übung 日本語.mp4", "👨\u200d👩\u200d👧.mp4", "نمی\u200cخواهم", "a b\u00a0c"):
        assert printable(text) == text
    assert printable("a\r\n\tb") == r"a\r\n\tb"
    assert printable("a\n\tb\x1b", keep_lines=True) == "a\n\tb\\x1b"


def test_a_crash_report_holds_no_name_however_it_is_written(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    source = tmp_path / f"secret{HOSTILE}.mp4"
    source.write_bytes(clip.read_bytes())

    def broken(*arguments: object, **options: object) -> None:
        msg = f"cannot do {source} or {str(source)!r} or {json.dumps(str(source))}"
        logging.getLogger("sparkvsr.test").warning("about %s", source)
        raise RuntimeError(msg)

    monkeypatch.setattr("sparkvsr.inference.clip.job.read_through", broken)
    result = run(source, "-o", tmp_path / "out.mp4", *FAST)
    assert result.exit_code == 1
    (report,) = (tmp_path / "state" / "sparkvsr").iterdir()
    text = report.read_text()
    assert "secret" not in text
    assert "31mred" not in text
    assert shown_is_plain(text)


def test_two_runs_into_one_output_do_not_mix(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparkvsr.inference.clip.work import ClipWork

    out = tmp_path / "out" / "%05d.png"
    finish, seen = ClipWork.finish, []

    def meanwhile(self: ClipWork) -> object:
        if not seen:
            seen.append(command("upscale", clip, "-o", out, "--work", tmp_path / "work2", *FAST))
        return finish(self)

    monkeypatch.setattr(ClipWork, "finish", meanwhile)
    assert run(clip, "-o", out, "--work", tmp_path / "work1", *FAST).exit_code == 0
    assert seen[0].returncode == 1
    assert b"another sparkvsr writes" in seen[0].stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{index:05d}.png" for index in range(8)]
    # Nobody holds it any more.
    assert run(clip, "-o", out, "--work", tmp_path / "work2", "--overwrite", *FAST).exit_code == 0


def test_a_lock_that_a_killed_run_left_holds_nobody_up(clip: Path, tmp_path: Path) -> None:
    from sparkvsr.output_lock import OutputLock

    lock = OutputLock(tmp_path / "out.mp4")
    lock.path.touch()
    assert run(clip, "-o", tmp_path / "out.mp4", *FAST).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_failing_inputs_leave_no_memory_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fails with a large array in a frame of its traceback."""
    from sparkvsr.errors import DecodeError
    from sparkvsr.inference.batch import upscale_many
    from sparkvsr.inference.options import UpscaleOptions
    from sparkvsr.models.registry import load_model

    def failing(path: Path, *arguments: object, **options: object) -> None:
        held = np.ones(4_000_000, np.uint8)
        try:
            msg = f"inner {len(held)}"
            raise ValueError(msg)
        except ValueError as exc:
            msg = f"{path} is bad"
            raise DecodeError(msg) from exc

    monkeypatch.setattr("sparkvsr.inference.batch.prepare", failing)
    paths = [tmp_path / f"{k}.mp4" for k in range(60)]
    model = load_model("bicubic")
    before = psutil.Process().memory_info().rss
    kept = list(upscale_many(paths, None, UpscaleOptions(model="bicubic"), lambda event: None, model=model))
    assert [outcome.status for outcome in kept] == ["failed"] * 60
    assert psutil.Process().memory_info().rss - before < 60 * 2**20  # 240 MB were they kept
    assert kept[0].error is not None
    assert kept[0].error.__traceback__ is not None  # where it happened can still be told


def test_a_folder_where_a_segment_should_be_is_one_line(clip: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    assert run(clip, "-o", tmp_path / "out.mp4", "--work", work, *FAST).exit_code == 0
    for suffix in (".mkv", ".json"):
        for path in (work / "segments").glob(f"*{suffix}"):
            path.unlink()
            path.mkdir()
        result = run(clip, "-o", tmp_path / "out.mp4", "--work", work, "--overwrite", *FAST)
        assert result.exit_code == 1
        assert "is a folder where the work folder keeps a file" in " ".join(result.stderr.split())


def test_a_work_folder_of_a_newer_release_is_left_alone(clip: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    assert run(clip, "-o", tmp_path / "out.mp4", "--work", work, *FAST).exit_code == 0
    marker = work / "sparkvsr-work.json"
    marker.write_text('{"format": 99}\n')
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    result = run(clip, "-o", tmp_path / "out.mp4", "--work", work, "--overwrite", *FAST)
    assert result.exit_code == 1
    assert "newer sparkvsr (format 99" in " ".join(result.stderr.split())
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before


def test_names_that_are_no_text_can_be_compared_and_measured(clip: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"a\xff\xfe<b>|x.mp4")
    odd.write_bytes(clip.read_bytes())
    for output in ("both.mp4", "both.html"):
        done = command("compare", odd, clip, "-o", tmp_path / output)
        assert done.returncode == 0, done.stderr
    done = command("eval", "--pred", odd, "--gt", clip, "-o", tmp_path / "results", "--metrics", "psnr")
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "results" / "results.json").read_text())["clips"]) == 1


def test_clip_names_are_text_in_results_md() -> None:
    from sparkvsr.evaluation.tables import markdown_table

    rows = markdown_table(["clip"], [["<script>x</script>"], ["a|b\nc"], ["[l](http://x) `c`"]])
    assert rows[2] == "| &lt;script&gt;x&lt;/script&gt; |"
    assert rows[3] == r"| a\|b c |"
    assert rows[4] == r"| \[l\](http://x) \`c\` |"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_not_scored(tmp_path: Path, value: float) -> None:
    for name, number in (("pred", value), ("gt", 0.5)):
        (tmp_path / name).mkdir()
        image = picture(0, 48, 64).astype(np.float32) / 255
        image[3, 4, 1] = number
        cv2.imwrite(str(tmp_path / name / "000.tiff"), image)
    arguments = ("--pred", tmp_path / "pred", "--gt", tmp_path / "gt", "-o", tmp_path / "r", "--metrics", "psnr")
    result = sparkvsr("eval", *arguments)
    assert result.exit_code == 1
    assert "NaN or infinity" in " ".join(result.stderr.split())
    cv2.imwrite(str(tmp_path / "pred" / "000.tiff"), np.full((48, 64, 3), 0.5, np.float32))
    assert sparkvsr("eval", *arguments).exit_code == 0


def test_a_log_file_on_a_full_disk_is_said_once_and_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    from importlib import import_module

    handler = import_module("sparkvsr.cli.logs").LogFileHandler("/dev/full", encoding="utf-8")
    for number in range(3):
        handler.emit(logging.LogRecord("sparkvsr", logging.INFO, __file__, 1, f"line {number}", None, None))
    assert capsys.readouterr().err == (
        "Warning: --log-file /dev/full cannot be written any more (No space left on device); the log ends there\n"
    )


def test_a_full_disk_of_the_work_folder_names_the_work_folder() -> None:
    from sparkvsr.errors import EncodeError
    from sparkvsr.inference.clip.render import _SegmentEncoder

    encoder = _SegmentEncoder.__new__(_SegmentEncoder)

    def full(item: object) -> None:
        msg = "cannot write x: the disk of /w is full; free some space or give another --output"
        raise EncodeError(msg)

    encoder._take = full  # type: ignore[method-assign]
    with pytest.raises(EncodeError, match="give another --work"):
        encoder.take(None)  # type: ignore[arg-type]


def test_a_picture_of_eval_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparkvsr.errors import EncodeError
    from sparkvsr.evaluation.whole_files import write_whole

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(EncodeError, match="No space left on device"):
        write_whole(tmp_path / "x.jpg", b"x" * 100)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("variable", ["", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_threads_sleep_unless_the_user_chose(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "active" if "POLICY" in variable else "123")
    code = (
        "import os, sys\nsys.argv[1:] = ['--version']\n"
        "from importlib.metadata import entry_points as e\n"
        "try: next(iter(e(group='console_scripts', name='sparkvsr'))).load()()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules\n"
        "print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    expected = {"": "0 None", "GOMP_SPINCOUNT": "123 None", "OMP_WAIT_POLICY": "None active"}[variable]
    assert out.splitlines()[-1] == expected

    from sparkvsr.inference.workers import local_worker
    from sparkvsr.inference.workers.tasks import WorkerSettings

    given: dict[str, str] = {}

    class StartedError(Exception):
        pass

    def popen(words: object, *, env: dict[str, str], **options: object) -> None:
        given.update(env)
        raise StartedError

    monkeypatch.setattr(local_worker.subprocess, "Popen", popen)
    with pytest.raises(StartedError):
        local_worker.LocalWorker(WorkerSettings("cpu"), "worker-0")._start()
    assert f"{given.get('GOMP_SPINCOUNT')} {given.get('OMP_WAIT_POLICY')}" == expected


def test_a_worker_that_died_says_how() -> None:
    from sparkvsr.inference.workers.local_worker import LocalWorker
    from sparkvsr.inference.workers.tasks import WorkerSettings

    worker = LocalWorker(WorkerSettings("cpu"), "worker-0")
    for code, words in (
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("exit(3)", "exit code 3"),
    ):
        worker._process = subprocess.Popen([sys.executable, "-c", code])
        assert worker._how_it_ended() == words


@pytest.mark.parametrize("delay", [0.6, 1.2, 1.8])
def test_ctrl_c_while_libraries_load_exits_130(clip: Path, tmp_path: Path, delay: float) -> None:
    words = ["upscale", str(clip), "-o", str(tmp_path / "out.mp4"), "--devices", "2", *FAST]
    process = subprocess.Popen(
        [sys.executable, "-c", ENTRY_POINT, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    time.sleep(delay)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    if process.returncode == -signal.SIGINT:
        pytest.skip("came before the command had started")
    assert process.returncode == 130, error
    assert not (tmp_path / "out.mp4").exists()


def test_a_limit_on_address_space_counts_as_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from sparkvsr.models.device import free_memory

    used = psutil.Process().memory_info().vms
    monkeypatch.setattr(resource, "getrlimit", lambda what: (used + 2**30, used + 2**30))
    assert 0 < free_memory(torch.device("cpu")) <= 2**30 + 2**26


def test_running_out_of_memory_is_one_line(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (MemoryError("std::bad_alloc"), RuntimeError("DefaultCPUAllocator: can't allocate memory: x")):

        def out_of_memory(*arguments: object, error: Exception = error, **options: object) -> None:
            raise error

        monkeypatch.setattr("sparkvsr.inference.clip.job.read_through", out_of_memory)
        result = run(clip, "-o", tmp_path / "out.mp4", *FAST)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: memory ran out; use a smaller --tile")
        assert "a defect" not in result.stderr


def test_control_characters_are_no_business_of_json(clip: Path, tmp_path: Path) -> None:
    source = tmp_path / f"{HOSTILE}.mp4"
    source.write_bytes(clip.read_bytes())
    result = run(source, "-o", tmp_path / "out.mp4", *FAST, "--json")
    assert result.exit_code == 0
    assert result.stdout.isascii()
    assert json.loads(result.stdout.splitlines()[0])["input"] == str(source)


def test_a_gif_that_declares_too_much_is_refused_by_its_header(tmp_path: Path) -> None:
    side = (16000).to_bytes(2, "little") * 2
    frame = b"\x2c\x00\x00\x00\x00" + side + b"\x00\x02\x16" + bytes(22) + b"\x00\x3b"
    (tmp_path / "a.gif").write_bytes(b"GIF89a" + side + b"\x80\x00\x00\x00\x00\x00\xff\xff\xff" + frame)
    started = time.monotonic()
    result = run(tmp_path / "a.gif", "-o", tmp_path / "out.mp4", *FAST)
    assert result.exit_code == 1
    assert "declares a GIF of 16000x16000" in " ".join(result.stderr.split())
    assert time.monotonic() - started < 5
