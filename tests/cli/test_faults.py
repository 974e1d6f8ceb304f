"""Failures that users of other tools reported: losses, sources destroyed, odd names and streams, closed output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from upscale_clips import ENTRY_POINT, picture, run, sparkvsr, write_clip

PLAIN = ["--model", "bicubic", "--scale", "2", "--no-keyframes"]


def one_line(result, words: str, code: int = 2) -> None:  # type: ignore[no-untyped-def]
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1, result.stderr
    assert words in lines[0]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "in.mp4", frames=10)


@pytest.fixture
def faults(shared_dir: Path) -> Path:
    return shared_dir / "faults"


# Losses


def test_losses_are_told_in_the_plan_once_and_in_every_event(faults: Path, tmp_path: Path) -> None:
    source = faults / "prores4444_alpha.mov"
    words = "h264 has no transparency: it is dropped; keep it with --codec prores, ffv1 or images"
    dry = run(source, "-o", tmp_path / "o.mov", *PLAIN, "--dry-run")
    assert f"Note     {words}" in dry.stdout
    assert not (tmp_path / "o.mov").exists()
    done = run(source, "-o", tmp_path / "o.mov", *PLAIN)
    assert done.stdout.count(words) == 1
    events = [json.loads(line) for line in run(source, "-o", tmp_path / "p.mov", *PLAIN, "--json").stdout.splitlines()]
    notes = {event["event"]: event["notes"] for event in events if "notes" in event}
    assert words in notes["plan"]
    assert notes["done"] == notes["plan"]
    kept = run(source, "-o", tmp_path / "q.mov", *PLAIN, "--codec", "prores")
    assert "transparency" not in kept.stdout


def test_captions_are_told(faults: Path, tmp_path: Path) -> None:
    assert "Note     closed captions" in run(faults / "closed_captions.mp4", "-o", tmp_path / "o.mp4", *PLAIN).stdout


def test_webm_transparency_is_read_and_kept_where_it_can_be(faults: Path, tmp_path: Path) -> None:
    source = faults / "vp9_alpha.webm"
    assert "no transparency: it is dropped" in run(source, "-o", tmp_path / "o.mp4", *PLAIN).stdout
    assert run(source, "-o", tmp_path / "o.mkv", *PLAIN, "--codec", "ffv1").exit_code == 0
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(source)) as container:
        expected = [
            frame for packet in container.demux(video=0) for frame in decoder.decode(packet if packet.size else None)
        ]
    with av.open(str(tmp_path / "o.mkv")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == len(expected) == 10
    assert frames[0].format.name.startswith("yuva")
    for ours, theirs in zip(frames, expected, strict=True):
        small = cv2.resize(_alpha(ours), (160, 90), interpolation=cv2.INTER_AREA)
        assert np.abs(small.astype(int) - _alpha(theirs)).mean() < 2


def _alpha(frame: av.VideoFrame) -> np.ndarray:
    plane = frame.planes[3]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def test_sound_that_no_output_keeps_is_transcoded(faults: Path, tmp_path: Path) -> None:
    for name, codec, word in (("o.mp4", "aac", "AAC"), ("o.mkv", "flac", "FLAC")):
        result = run(faults / "wmav2.wmv", "-o", tmp_path / name, *PLAIN)
        assert f"Note     audio stream 1 (wmav2) is transcoded to {word}: {name[1:]} cannot hold it" in result.stdout
        with av.open(str(tmp_path / name)) as container:
            assert [stream.codec_context.name for stream in container.streams.audio] == [codec]
            samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])
        assert np.abs(samples.astype(float)).max() > 0.05 * (1 if samples.dtype.kind == "f" else 2**15)


# Time


def times(path: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"video": [], "audio": []}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                found[packet.stream.type].append(float(packet.pts * packet.time_base))
    return {kind: sorted(values) for kind, values in found.items()}


@pytest.mark.parametrize("joined", [1, 2])
def test_clocks_that_are_set_anew_stay_in_step(faults: Path, tmp_path: Path, joined: int) -> None:
    source = tmp_path / "in.ts"
    source.write_bytes((faults / "restart.ts").read_bytes() * joined)
    result = run(source, "-o", tmp_path / "o.mp4", *PLAIN)
    assert result.exit_code == 0, result.output
    (note,) = [line for line in result.stdout.splitlines() if line.startswith("Note")]
    steps = 2 * joined - 1
    assert f"the clock of in.ts is set anew {steps} time" in note
    assert "partial" not in note
    found = times(tmp_path / "o.mp4")
    # Each part: 25 pictures of 40 ms from 1.48 s on, 45 packets of sound from 1.456778 s on.
    pictures = [0.04 * k for k in range(50 * joined)]
    sound = [part + k * 1024 / 44100 - 0.023222 for part in range(2 * joined) for k in range(45)]
    start = found["video"][0]
    assert [value - start for value in found["video"]] == pytest.approx(pictures, abs=0.001)
    assert len(found["audio"]) == len(sound)
    assert [value - start for value in found["audio"]] == pytest.approx(sound, abs=0.05)
    assert found["audio"][0] < 0.05


def test_clocks_that_jump_ahead_or_back_by_hours(faults: Path, tmp_path: Path) -> None:
    # The same recording, its clock moved by 10,000 s: every timestamp of the transport stream, rewritten by FFmpeg.
    late = tmp_path / "late.ts"
    with av.open(str(faults / "restart.ts")) as old, av.open(str(late), "w") as new:
        copies = {s.index: new.add_stream_from_template(s, opaque=True) for s in old.streams}
        seen = dict.fromkeys(copies, 0)
        for packet in old.demux():
            seen[packet.stream_index] += packet.size > 0
            if not packet.size or seen[packet.stream_index] > {0: 25, 1: 45}[packet.stream_index]:
                continue
            shift = round(10_000 / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = copies[packet.stream_index]
            new.mux(packet)
    for order in (("late.ts", "restart.ts"), ("restart.ts", "late.ts")):
        parts = [tmp_path / name if name == "late.ts" else faults / name for name in order]
        source = tmp_path / f"from_{order[0]}"
        source.write_bytes(b"".join(part.read_bytes() for part in parts))
        assert run(source, "-o", tmp_path / "o.mp4", "--overwrite", *PLAIN).exit_code == 0
        found = times(tmp_path / "o.mp4")
        assert len(found["video"]) == 75
        assert len(found["audio"]) == 135
        assert found["video"][-1] - found["video"][0] == pytest.approx(2.96, abs=0.001)
        assert abs(found["audio"][-1] - found["video"][-1]) < 0.07
        gaps = np.diff(found["audio"])
        assert gaps.max() < 0.08


def test_the_timecode_of_a_part_is_that_of_its_first_frame(faults: Path, tmp_path: Path) -> None:
    run(faults / "timecode.mov", "-o", tmp_path / "o.mov", "--preview", "1s@0:03", *PLAIN)
    run(faults / "timecode.mov", "-o", tmp_path / "whole.mov", *PLAIN)
    found = []
    for name in ("o.mov", "whole.mov"):
        with av.open(str(tmp_path / name)) as container:
            found.append({s.metadata.get("timecode") for s in container.streams})
    first = run(
        faults / "timecode.mov", "-o", tmp_path / "n.mov", "--preview", "1s@0:03", "--dry-run", "--json", *PLAIN
    )
    start = json.loads(first.stdout.splitlines()[-1])["shots"][0][0]
    assert found == [{f"01:00:{start // 25:02d}:{start % 25:02d}"}, {"01:00:00:00"}]
    assert start > 50


# Sources are never destroyed


def test_an_output_that_is_the_input_is_refused(clip: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(clip.read_bytes())
    (tmp_path / "soft.mp4").symlink_to(source)
    os.link(source, tmp_path / "hard.mp4")
    for name in ("in.mp4", "soft.mp4", "hard.mp4", "./in.mp4"):
        one_line(run(source, "-o", f"{tmp_path}/{name}", "--overwrite", *PLAIN), "it would be destroyed")
        result = sparkvsr("compare", source, clip, "-o", f"{tmp_path}/{name}", "--overwrite")
        one_line(result, "it would be destroyed")
        result = run(source, "-o", tmp_path / "o.mp4", "--log-file", f"{tmp_path}/{name}", *PLAIN)
        one_line(result, "--log-file")
    assert source.read_bytes() == clip.read_bytes()
    # A log beside media files that are not even inputs.
    one_line(run(clip, "-o", tmp_path / "o.mp4", "--log-file", source, *PLAIN), "no text file")
    # An output of one input that is another input.
    both = tmp_path / "both"
    both.mkdir()
    for name in ("a.mp4", "a_x2_preview.mp4"):
        (both / name).write_bytes(clip.read_bytes())
    result = run(both / "a.mp4", both / "a_x2_preview.mp4", "-o", both, "--overwrite", "--preview", "1s@0:00", *PLAIN)
    assert (both / "a_x2_preview.mp4").read_bytes() == clip.read_bytes()
    assert "it would be destroyed" in result.output or "made by an earlier run" in result.output


def test_an_output_that_is_the_video_of_the_references_is_refused(clip: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes())
    for words in (f"video:{other}", f"video:{other}@2"):
        refused = sparkvsr("upscale", clip, "-o", other, "--overwrite", "--scale", "2", "--references", words)
        one_line(refused, "is the input itself")
        assert other.read_bytes() == clip.read_bytes()


def test_digits_that_are_no_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in ("5²5.png", "5²6.png", "².png"):
        cv2.imwrite(str(folder / name), picture(0, 48, 64))
    assert run(folder, "-o", tmp_path / "out", *PLAIN).exit_code == 0
    one_line(run(folder, "-o", tmp_path / "o", "--keyframes", "²"), "is not a list of frame numbers")


def test_a_comparison_is_not_written_over_another_input(clip: Path, tmp_path: Path) -> None:
    for name in ("here/a.mp4", "there/a_x2_compare.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(clip.read_bytes())
    here, there = tmp_path / "here", tmp_path / "there"
    result = run(here / "a.mp4", there / "a_x2_compare.mp4", "-o", there, "--compare", "--overwrite", *PLAIN)
    assert result.exit_code == 1
    assert "it would be destroyed" in " ".join(result.output.split())
    assert (there / "a_x2_compare.mp4").read_bytes() == clip.read_bytes()


def images(folder: Path, numbers: list[int]) -> Path:
    folder.mkdir()
    for number in numbers:
        cv2.imwrite(str(folder / f"{number:05d}.png"), picture(number, 48, 64))
    return folder


def test_images_are_not_written_over_those_that_are_read(tmp_path: Path) -> None:
    folder = images(tmp_path / "frames", [0, 1, 2])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for output in (f"{folder}/", f"{folder}/%05d.png"):
        one_line(run(folder, "-o", output, "--overwrite", *PLAIN), "it would be destroyed")
        one_line(run(folder / "%05d.png", "-o", output, "--overwrite", *PLAIN), "it would be destroyed")
    one_line(run(folder, "-o", folder / "00001.png", "--frames", "1", "--overwrite", *PLAIN), "it would be destroyed")
    result = run(
        folder / "%05d.png", "--references", folder, "-o", folder / "00002.png", "--frames", "1", "--overwrite", *PLAIN
    )
    one_line(result, "it would be destroyed")
    one_line(
        sparkvsr("keyframes", folder, "-o", folder, "--overwrite", "--references", "bicubic"), "would be destroyed"
    )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert run(folder, "-o", f"{folder}/up_%05d.png", *PLAIN).exit_code == 0


# Sequences and stills


def test_a_sequence_with_gaps_keeps_its_numbers(tmp_path: Path) -> None:
    folder = images(tmp_path / "frames", [3, 4, 6, 9])
    result = run(folder, "-o", tmp_path / "out" / "%05d.png", *PLAIN)
    assert result.exit_code == 0, result.output
    assert "3 numbers are missing" in result.stdout
    assert "5, 7, 8" in result.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{n:05d}.png" for n in (3, 4, 6, 9)]
    part = run(folder, "-o", f"{tmp_path}/part/", "--start", "2", *PLAIN)
    assert part.exit_code == 0, part.output
    assert sorted(path.name for path in (tmp_path / "part").iterdir()) == ["00006.png", "00009.png"]
    low = cv2.resize(cv2.imread(str(tmp_path / "part" / "00009.png")), (64, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(low.astype(int) - picture(9, 48, 64)).mean() < 3


def test_images_whose_numbers_do_not_follow_each_other_are_told(tmp_path: Path) -> None:
    folder = images(tmp_path / "frames", [0, 1, 2])
    cv2.imwrite(str(folder / "00001.bmp"), picture(1, 48, 64))
    result = run(folder, "-o", f"{tmp_path}/out/", *PLAIN, "--dry-run")
    assert "(00001.bmp, then 00001.png): all 4 images are taken in this order" in " ".join(result.stdout.split())


def test_animated_pictures_are_videos_or_refused_in_plain_words(faults: Path, tmp_path: Path) -> None:
    result = run(faults / "animated_png.png", "-o", tmp_path / "o.mp4", *PLAIN)
    assert "Read     animated_png.png: 100x74, 10 frames, 10 fps" in result.stdout
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 10
        assert container.streams.video[0].average_rate == Fraction(10)
    webp = tmp_path / "a.webp"
    webp.write_bytes(b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\x3f\0\0\x2f\0\0ANIM\x06\0\0\0\0\0\0\0\0\0")
    one_line(run(webp, "-o", tmp_path / "w.mp4", *PLAIN), "is an animated WebP, which is not read; convert it", 1)


# Frames and streams


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 40), (15, 9)])
def test_the_smallest_frames_are_restored(tmp_path: Path, size: tuple[int, int]) -> None:
    source = tmp_path / "s.mkv"
    with av.open(str(source), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.height, video.width, video.pix_fmt = *size, "bgr0"
        for k in range(6):
            frame = np.full((*size, 3), (40 * k, 120, 200 - 30 * k), np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(video.encode())
    for model in ("lite", "bicubic"):
        result = run(source, "-o", tmp_path / f"{model}.mkv", "--model", model, "--codec", "ffv1")
        assert result.exit_code == 0, result.output
        with av.open(str(tmp_path / f"{model}.mkv")) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert [frame.shape for frame in frames] == [(4 * size[0], 4 * size[1], 3)] * 6
        for k, frame in enumerate(frames):
            assert np.abs(frame.astype(int) - (40 * k, 120, 200 - 30 * k)).max() < 12


def test_the_film_is_restored_and_not_a_still_before_it(faults: Path, tmp_path: Path) -> None:
    result = run(faults / "still_first.mkv", "-o", tmp_path / "o.mkv", *PLAIN)
    assert "Read     still_first.mkv: 160x90, 25 frames" in result.stdout
    with av.open(str(tmp_path / "o.mkv")) as container:
        assert [(s.width, s.height) for s in container.streams.video] == [(64, 64), (320, 180)]
        assert sum(1 for _ in container.decode(video=1)) == 25
    still = run(faults / "still_first.mkv", "-o", tmp_path / "s.mkv", "--stream", "0", *PLAIN)
    assert "still_first.mkv: 64x64" in still.stdout
    one_line(run(faults / "still_first.mkv", "-o", tmp_path / "x.mkv", "--stream", "2", *PLAIN),
             "--stream 2 is not a video stream of", 1)  # fmt: skip
    folder = run(clip_of(tmp_path), "-o", tmp_path / "y.mp4", "--stream", "7", *PLAIN)
    one_line(folder, "its video streams are 0", 1)


def clip_of(folder: Path) -> Path:
    return write_clip(folder / "c.mp4", frames=4)


def test_recovery_points_are_no_iframes(faults: Path) -> None:
    from sparkvsr.video import VideoReader, iframe_indices

    source = faults / "intra_refresh.mp4"
    with av.open(str(source)) as container:
        decoded = list(container.decode(video=0))
    expected = [k for k, frame in enumerate(decoded) if frame.pict_type == av.video.frame.PictureType.I]
    assert iframe_indices(source) == expected == [0]
    # Nor are they places to start decoding at.
    whole = [frame.pixels for frame in VideoReader(source)]
    part = [frame.pixels for frame in VideoReader(source, start=30)]
    assert all((a == b).all() for a, b in zip(whole[30:], part, strict=True))


# Names


def test_pipes_are_refused_in_plain_words_where_a_clip_is_read_twice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    one_line(run("/dev/zero", "-o", tmp_path / "o.mp4", *PLAIN), "save it to a file first", 1)
    for name in ("-", tmp_path / "pipe"):
        one_line(sparkvsr("keyframes", name, "-o", tmp_path / "refs"), "save it to a file first", 1)


def test_a_tilde_that_is_no_home_is_a_name(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("~draft.mp4").write_bytes(clip.read_bytes())
    assert run("~draft.mp4", "-o", "~out.mp4", *PLAIN, "--log-file", "~log.txt").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["~draft.mp4", "~log.txt", "~out.mp4"]
    one_line(run("~nobody/x.mp4", *PLAIN), "does not exist", 1)


def test_long_names_and_percent_signs(clip: Path, tmp_path: Path) -> None:
    for name in ("n" * 240 + ".mp4", "видео" * 23 + ".mp4", "a %03d.mp4", "100% [done] %d.mp4"):
        source = tmp_path / name
        source.write_bytes(clip.read_bytes())
        result = run(source, *PLAIN)
        assert result.exit_code == 0, result.output
        assert (tmp_path / f"{source.stem}_x2.mp4").is_file()
        made = run(source, "-o", tmp_path / f"{name[:4]}-frames" / "%05d.png", *PLAIN)
        assert made.exit_code == 0, made.output
        assert len(list((tmp_path / f"{name[:4]}-frames").glob("*.png"))) == 10
    long = tmp_path / f"{'日' * 83}..mp4"
    long.write_bytes(clip.read_bytes())
    assert len(long.name.encode()) == 254
    made = sparkvsr("eval", "--pred", long, "--gt", long, "-o", tmp_path / "scores", "--metrics", "psnr")
    assert made.exit_code == 0, made.output
    assert json.loads((tmp_path / "scores" / "results.json").read_text())["clips"][0]["name"] == long.stem
    one_line(run(clip, "-o", tmp_path / ("m" * 300 + ".mp4"), *PLAIN), "has 304 bytes, at most 255 are allowed", 1)
    one_line(run(tmp_path / ("m" * 300 + ".mp4"), *PLAIN), "name too long", 1)
    long = "m" * 300
    one_line(run(clip, "-o", tmp_path / "o.mp4", "--work", tmp_path / long, *PLAIN), "a name may have 255 bytes", 1)
    one_line(sparkvsr("clean", tmp_path / long), "a name may have 255 bytes", 1)
    one_line(run(clip, "-o", tmp_path / "o.mp4", "--model", long), "is unknown", 1)
    one_line(run(clip, "-o", tmp_path / "o.mp4", "--references", long), "is neither lite")
    tool = f"command:{sys.executable} -c 'import shutil, sys; shutil.copy(*sys.argv[1:3])' {{input}} {{output}} {long}"
    made = sparkvsr(
        "keyframes", clip, "-o", tmp_path / "refs", "--keyframes", "0", "--scale", "1", "--references", tool
    )
    assert made.exit_code == 0, made.output
    still = tmp_path / "50%d.png"
    cv2.imwrite(str(still), picture(0, 48, 64))
    assert run(still, *PLAIN).exit_code == 0
    assert (tmp_path / "50_d_x2.png").is_file()
    pattern = run(clip, "-o", tmp_path / "100% %d.png", *PLAIN)
    assert pattern.exit_code == 0, pattern.output
    assert (tmp_path / "100% 9.png").is_file()


# Output that goes nowhere


@pytest.mark.parametrize(
    ("redirection", "code", "words"),
    [
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
        (">/dev/full", 0, "stdout could not be written (No space left on device); the work was done"),
        (">/dev/full 2>/dev/full", 0, ""),
        ("--json >/dev/full", 1, "stdout could not be written (No space left on device)"),
        ("--json | head -1", 0, ""),
    ],
)
def test_work_is_finished_whoever_listens(clip: Path, tmp_path: Path, redirection: str, code: int, words: str) -> None:
    target = tmp_path / "o.mp4"
    command = [sys.executable, "-c", ENTRY_POINT, "upscale", str(clip), "-o", str(target), *PLAIN]
    script = f'set -o pipefail; "$@" {redirection}'
    done = subprocess.run(["bash", "-c", script, "-", *command], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert target.stat().st_size > 1000
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == bool(words)


@pytest.mark.parametrize(
    "command",
    ["schema >/dev/full", "schema >&-", "train --print-config >/dev/full", "upscale CLIP --dry-run >/dev/full"],
)
def test_an_answer_that_nobody_can_read_is_no_success(clip: Path, command: str) -> None:
    script = f'"{sys.executable}" -c "{ENTRY_POINT}" {command.replace("CLIP", str(clip))}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "stdout could not be written" in done.stderr
