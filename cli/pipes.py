"""`-`, `/dev/stdin`, `/dev/stdout` and named pipes of `sparkvsr upscale`."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparkvsr.errors import ConfigError, DecodeError
from sparkvsr.home import expanded

from .console import Reporter, print_error
from .start import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from sparkvsr.inference.options import UpscaleOptions
    from sparkvsr.models.interface import RestorationModel
    from sparkvsr.video.pipes import FrameFormat, PipeReader, PipeSink, PipeWriter

PIPES = "Pipes"
EXIT_READER_GONE = 141
"""What a shell reports of a program that a broken pipe ended (128 + SIGPIPE)."""

_STDIN, _STDOUT = ("-", "/dev/stdin", "/dev/fd/0"), ("-", "/dev/stdout", "/dev/fd/1")

InputFormat = Annotated[
    str | None,
    typer.Option(
        "--input-format",
        metavar="FORMAT",
        help="Of raw frames without a header: PIXELFORMAT:WIDTHxHEIGHT:FPS, e.g. yuv420p:640x360:30000/1001; behind it "
        "may stand :full or :limited, and :bt601, :bt709, :bt2020, :pq or :hlg.",
        rich_help_panel=PIPES,
    ),
]
OutputFormat = Annotated[
    str | None,
    typer.Option(
        "--output-format",
        metavar="FORMAT",
        help="What -o - writes: y4m (default) or mkv (with --codec, colour tags and, from a file, sound).",
        rich_help_panel=PIPES,
    ),
]


def is_pipe_input(text: str) -> bool:
    """Whether an input passes only once."""
    return text in _STDIN or _is_stream(text)


def is_pipe_output(text: str | None) -> bool:
    """Whether the result goes into a pipe."""
    return text is not None and (text in _STDOUT or _is_stream(text))


def check_pipes(
    inputs: Sequence[str], output: str | None, input_format: str | None, output_format: str | None, *, several: bool
) -> bool:
    """Whether this run has a pipe on one side; refuses what does not go together.

    Args:
        inputs, output, input_format, output_format: as given.
        several: whether several devices or a dry run were asked for.

    Raises:
        ConfigError: with what to do.
    """
    reads = [text for text in inputs if is_pipe_input(text)]
    writes = is_pipe_output(output)
    if output_format is not None and not writes:
        msg = f"--output-format {output_format} is for -o -; the suffix of -o FILE says what a file becomes"
        raise ConfigError(msg)
    if not reads and input_format is None and not writes:
        return False
    if len(inputs) > 1:
        msg = f"{len(inputs)} inputs were given; a pipe takes one clip, and so does --input-format"
        raise ConfigError(msg)
    if reads and output is None:
        msg = f"{reads[0]} has no name that a result could be named after; give -o FILE, or -o - for a pipe"
        raise ConfigError(msg)
    if several:
        msg = "--devices, --ray and --dry-run need files on both sides; leave them out, or save the clip first"
        raise ConfigError(msg)
    return True


@contextmanager
def kept_stdout(output: str | None) -> Iterator[int | None]:
    """The descriptor for the result where it goes into a pipe; all that is printed goes to stderr from here on.

    Raises:
        ConfigError: stdout is a terminal.
    """
    if not is_pipe_output(output):
        yield None
        return
    assert output is not None
    sys.stdout.flush()
    if output not in _STDOUT:
        descriptor = os.open(output, os.O_WRONLY)
    elif os.isatty(1):
        msg = "-o - writes the frames to stdout, which is a terminal; pipe it into a program, or give -o FILE"
        raise ConfigError(msg)
    else:
        descriptor = os.dup(1)
    # Also what libraries print: one line among the frames would spoil them.
    printed = os.dup(1)
    os.dup2(2, 1)
    try:
        yield descriptor
    finally:
        sys.stdout.flush()
        os.dup2(printed, 1)
        os.close(printed)
        os.close(descriptor)


def upscale_pipe(
    source: str,
    output: str | None,
    descriptor: int | None,
    options: UpscaleOptions,
    formats: tuple[str | None, str | None],
    report: Reporter,
) -> None:
    """Upscale with a pipe on one side or both.

    Args:
        source: the input as given.
        output: as given.
        descriptor: see ``kept_stdout``.
        options: for the run.
        formats: of input and output, as given.
        report: gets the events.

    Raises:
        SparkVSRError: as ``sparkvsr.upscale``.
    """
    try:
        _upscale_pipe(source, output, descriptor, options, formats, report)
    except KeyboardInterrupt:
        what = "the frames before were handed on" if descriptor is not None else "nothing is left"
        print_error(f"interrupted; {what}")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _upscale_pipe(
    source: str,
    output: str | None,
    descriptor: int | None,
    options: UpscaleOptions,
    formats: tuple[str | None, str | None],
    report: Reporter,
) -> None:
    from sparkvsr.inference.stream.job import check_stream_options
    from sparkvsr.inference.stream.spool import spooled
    from sparkvsr.inference.upscale import load_for
    from sparkvsr.video.pipes import (
        OUTPUT_FORMATS,
        Y4M_MAGIC,
        PipeReader,
        PipeWriter,
        check_output_format,
        parse_input_format,
    )

    container = formats[1] or OUTPUT_FORMATS[0]
    if descriptor is not None:
        check_output_format(container, options.encode)
    fmt = None if formats[0] is None else parse_input_format(formats[0])
    with ExitStack() as stack:
        writer = None if descriptor is None else PipeWriter(descriptor)
        if fmt is None and not is_pipe_input(source):
            assert writer is not None
            _from_file(expanded(source), writer, container, options, load_for(options), report)
            return
        reader = PipeReader(_open_input(source, stack), "stdin" if source in _STDIN else Path(source).name)
        if not reader.peek(1):
            msg = f"{reader.name} is empty: the program before it sent nothing; see what it says"
            raise DecodeError(msg)
        if fmt is None and reader.peek(len(Y4M_MAGIC)) != Y4M_MAGIC:
            path = stack.enter_context(spooled(reader, report))
            if writer is not None:
                _from_file(path, writer, container, options, load_for(options), report)
            else:
                _file_to_file(path, output, options, report)
            return
        check_stream_options(options)
        _from_stream(reader, fmt, output, writer, container, options, report)


def _open_input(source: str, stack: ExitStack) -> int:
    if source in _STDIN:
        if os.isatty(0):
            msg = (
                "- reads a clip from stdin, which is a terminal; pipe one in: ffmpeg -i in.mkv -f yuv4mpegpipe - | ..."
            )
            raise ConfigError(msg)
        return 0
    try:
        descriptor = os.open(expanded(source), os.O_RDONLY)
    except OSError as exc:
        msg = f"{source} cannot be opened: {exc.strerror}; check the path"
        raise ConfigError(msg) from exc
    stack.callback(os.close, descriptor)
    return descriptor


def _from_stream(
    reader: PipeReader,
    fmt: FrameFormat | None,
    output: str | None,
    writer: PipeWriter | None,
    container: str,
    options: UpscaleOptions,
    report: Reporter,
) -> None:
    from sparkvsr.inference.stream.job import upscale_stream
    from sparkvsr.inference.upscale import as_output, load_for
    from sparkvsr.video import VideoInfo, check_output
    from sparkvsr.video.pipes import PipeSource, read_y4m_header
    from sparkvsr.video.pipes.sinks import FileSink, open_sink

    target = None if writer is not None or output is None else as_output(output)
    if target is not None:
        check_output(target, options.overwrite, options.encode)
    source = PipeSource(
        reader,
        fmt or read_y4m_header(reader),
        start=options.start,
        frames=options.frames,
        deinterlace=options.deinterlace,
    )

    def open_it(info: VideoInfo, size: tuple[int, int]) -> PipeSink:
        if writer is not None:
            return open_sink(container, writer, info, size, options.encode)
        assert target is not None
        return FileSink(target, info, size, options.encode, overwrite=options.overwrite)

    upscale_stream(source, open_it, options, load_for(options), report, "stdout" if target is None else str(target))


def _from_file(
    path: Path, writer: PipeWriter, container: str, options: UpscaleOptions, model: RestorationModel, report: Reporter
) -> None:
    from sparkvsr.inference.clip.job import UpscaleJob
    from sparkvsr.inference.stream.from_file import upscale_into_pipe
    from sparkvsr.video.pipes import open_sink

    def open_it(job: UpscaleJob) -> PipeSink:
        clip = job.clip
        return open_sink(
            container, writer, clip.info, (clip.size.height, clip.size.width), clip.encode, clip.clip_range
        )

    upscale_into_pipe(path, open_it, options, model, report, "stdout")


def _file_to_file(path: Path, output: str | None, options: UpscaleOptions, report: Reporter) -> None:
    from sparkvsr.inference.clip.job import prepare
    from sparkvsr.inference.upscale import as_output, load_for, run

    assert output is not None
    run(prepare(path, as_output(output), options, load_for(options), report), report)


def _is_stream(text: str) -> bool:
    """A named pipe, such as the /dev/fd/63 of a shell's <(...), or a socket. Devices like /dev/zero never end."""
    try:
        kind = Path(text).stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)
