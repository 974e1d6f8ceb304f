"""The report of an unexpected exception: enough to find the defect, nothing about whose machine it was.

It stays on this machine; the user decides whether to pass it on. Left out are the home folder, user and host name, the
paths and names of inputs and outputs, prompts, addresses, and every environment variable that is not listed here.
Option values are shown only where they are numbers or words of this program.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import platform
import re
import socket
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath

from sparkvsr.home import expanded
from sparkvsr.printable import printable
from sparkvsr.version import __version__

from .console import SHOWN, command_line, private_paths
from .logs import last_lines

_log = logging.getLogger("sparkvsr.cli")

PACKAGES = ("torch", "torchvision", "av", "numpy", "opencv-python-headless", "safetensors", "spandrel", "diffusers",
            "lightning", "hydra-core", "scenedetect-headless", "typer", "rich", "psutil", "ray")  # fmt: skip
ENVIRONMENT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF", "LANG",
               "LC_ALL", "SPARKVSR_DEBUG", "HF_HUB_OFFLINE")  # fmt: skip

_PLAIN = re.compile(r"[\d.,:x@smhk+-]+")
_WORDS = {
    "upscale", "keyframes", "compare", "eval", "metrics", "train", "export", "models", "bench", "clean", "schema",
    "studio",
    "lite", "bicubic", "realesrgan", "auto", "on", "off", "none", "model", "sequential", "cpu", "cuda", "mps",
    "fp32", "bf16", "fp16", "fp8", "int8", "h264", "hevc", "av1", "ffv1", "prores", "wavelet", "adain", "floor",
    "exact", "gt", "demo", "REDS4", "Vid4", "UDM10", "local", "stage=1", "stage=2",
}  # fmt: skip
_REST = r"""[^\s'":;,()<>|*?]*"""
_ABSOLUTE = re.compile(rf"(?<![\w/.<>~-])(?:/(?=[^\s/])|[A-Za-z]:\\){_REST}")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]{1,10}://[^\s'\")]+")
_DERIVED = (
    r"_x\d|_\d+p|_compare|_preview|_refs|\.(?:partial|work|json|html|mp4|m4v|mkv|mov|webm|ts|avi|png|jpe?g|webp|tiff?|"
    r"bmp)\b"
)


class Redactor:
    """Takes out of a text what is nobody else's business.

    Args:
        arguments: of the command line; whatever is no option, number or word of this program is private.
        paths: further private paths, such as files found in a folder.
    """

    def __init__(self, arguments: Sequence[str] = (), paths: Iterable[str] = ()) -> None:
        self._texts: dict[str, str] = {}
        self._patterns: list[tuple[re.Pattern[str], str]] = []
        self._roots: list[str] = []
        self._count = 0
        for argument in arguments:
            name, _, value = argument.partition("=")
            if name.startswith("-") and value:
                self._hide(value)
            elif not argument.startswith("-"):
                self._hide(argument)
        for path in paths:
            self._hide(path)
        home = str(Path.home())
        with suppress(OSError):
            self._roots = [root for root in (home, str(Path.cwd())) if len(root) > 1]
        names = {PurePath(home).name: "<user>"}
        with suppress(OSError, KeyError, ImportError):
            names[getpass.getuser()] = "<user>"
        with suppress(OSError):
            names[socket.gethostname()] = "<host>"
        for name, instead in names.items():
            # "root" and the like are in half of all texts and tell nothing.
            if len(name) > 1 and name not in ("root", "user", "home", "localhost"):
                self._patterns.append((re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])"), instead))

    def __call__(self, text: str) -> str:
        """The text without private things."""
        # 1. Code is no secret; its paths must survive what follows.
        code: list[str] = []

        def set_aside(match: re.Match[str]) -> str:
            public = _public_path(match.group())
            if public is None:
                return match.group()
            code.append(public)
            return f"\0{len(code) - 1}\0"

        text = _ABSOLUTE.sub(set_aside, text)
        # 2. What is known to be private, longest first; then whatever looks like an address or a path; then names.
        # What cannot be shown is written out in some places of a trace and not in others.
        for private, instead in list(self._texts.items()):
            encoded = (json.dumps(private, ensure_ascii=False)[1:-1], json.dumps(private)[1:-1])
            for form in (private, repr(private)[1:-1], os.fsencode(private).decode(errors="replace"), *encoded):
                self._texts.setdefault(form, instead)
                self._texts.setdefault(printable(form), instead)
        for private in sorted(self._texts, key=len, reverse=True):
            text = text.replace(private, self._texts[private])
        text = _ADDRESS.sub("<address>", text)
        for root in self._roots:
            # These may hold spaces, which end what looks like a path.
            text = re.sub(re.escape(root) + r"(?![\w-])" + _REST, lambda match: "<path>" + _suffix(match.group()), text)
        text = _ABSOLUTE.sub(lambda match: "<path>" + _suffix(match.group()), text)
        for pattern, instead in self._patterns:
            text = pattern.sub(instead, text)
        return re.sub("\0(\\d+)\0", lambda match: code[int(match.group(1))], text)

    def argument(self, text: str) -> str:
        """One word of the command line as the report shows it."""
        name, equals, value = text.partition("=")
        if name.startswith("-"):
            return f"{name}={self.argument(value)}" if equals else name
        return text if _is_public(text) else self._texts.get(text, "<text>")

    def _hide(self, text: str) -> None:
        if _is_public(text) or text in self._texts or not text:
            return
        path = PurePath(text)
        looks_like_path = len(path.parts) > 1 or bool(_suffix(text)) or os.path.exists(text)  # noqa: PTH110 (any text)
        if not looks_like_path:
            self._texts[text] = f"<text of {len(text)} characters>"
            return
        self._count += 1
        suffix = _suffix(text)
        instead = f"<path{self._count}>"
        self._texts[text] = instead + suffix
        with suppress(OSError, RuntimeError, ValueError):
            full = expanded(text)
            for form in (str(full), str(full.absolute()), str(full.resolve())):
                self._texts.setdefault(form, instead + suffix)
        if len(path.name) > 2:
            self._texts.setdefault(path.name, instead + suffix)
        stem = re.escape(path.stem)
        if re.fullmatch(r"[a-z_]{1,12}", path.stem):
            # A short plain word is also a name in the code: only where it names a file that was made from it.
            self._patterns.append((re.compile(rf"(?<![A-Za-z0-9]){stem}(?={_DERIVED})"), instead))
        elif len(path.stem) > 2:
            self._patterns.append((re.compile(rf"(?<![A-Za-z0-9]){stem}(?![A-Za-z0-9])"), instead))
        for part in path.parts[:-1]:
            if part.strip("./\\~") and not _is_public(part):
                self._patterns.append((re.compile(rf"(?<![\w-]){re.escape(part)}(?=[/\\])"), "<folder>"))


def crash_message(exc: BaseException) -> str:
    """Write the report of an exception, and give the line that names it.

    The line shows the type only: the exception's own text may name private things.
    """
    name = getattr(exc, "kind", type(exc).__name__)
    _log.error("unexpected exception", exc_info=exc, extra=SHOWN)
    try:
        report = write_report(exc, command_line, private_paths)
    except Exception as failure:  # noqa: BLE001  (nothing is worse than a crash of the crash report)
        return f"unexpected {name}: a defect of sparkvsr; no report could be written ({failure}), --debug shows it"
    return f"unexpected {name}: a defect of sparkvsr; a report without private paths is in {report}, please pass it on"


def write_report(exc: BaseException, arguments: Sequence[str], paths: Iterable[str] = ()) -> Path:
    """Write the report of an exception.

    Args:
        exc: with its traceback.
        arguments: of the command line, without the program's name.
        paths: inputs and outputs that are not in ``arguments``.

    Returns:
        The file, in the user's state folder or, where that cannot be written, in the folder for temporary files.
    """
    text = report_text(exc, Redactor(arguments, paths), arguments)
    name = f"crash-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    for folder in (state_folder(), Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / name
            with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError:
            continue
        return path
    msg = "neither the state folder nor the folder for temporary files can be written"
    raise OSError(msg)


def state_folder() -> Path:
    """Where reports go: ``$XDG_STATE_HOME/sparkvsr``, by default ``~/.local/state/sparkvsr``."""
    given = os.environ.get("XDG_STATE_HOME")
    base = Path(given) if given and Path(given).is_absolute() else Path.home() / ".local" / "state"
    return base / "sparkvsr"


def report_text(exc: BaseException, redact: Redactor, arguments: Sequence[str]) -> str:
    """The report as text."""
    trace = "".join(traceback.format_exception(exc))
    lines = [
        "Crash report of sparkvsr. Paths, names and texts of yours were taken out; read it before you pass it on.",
        "",
        f"error       {redact(f'{type(exc).__name__}: {exc}')}",
        f"command     sparkvsr {' '.join(redact.argument(argument) for argument in arguments)}",
        f"sparkvsr    {__version__}",
        f"python      {platform.python_version()} ({platform.python_implementation()})",
        f"system      {platform.system()} {platform.release()}, {platform.machine()}",
        *_machine(),
        "",
        "packages    " + ", ".join(_versions()),
        "environment " + (", ".join(f"{name}={os.environ[name]}" for name in ENVIRONMENT if name in os.environ) or "-"),
        "",
        redact(trace).rstrip(),
        "",
        "Last lines of the log:",
        *(redact(line) for line in last_lines()),
    ]
    return printable("\n".join(lines), keep_lines=True) + "\n"


def _machine() -> list[str]:
    """Processor, memory and GPU, as far as they can be told without importing anything that was not imported."""
    lines = [f"cpu         {os.cpu_count()} cores"]
    with suppress(Exception):
        import psutil

        memory = psutil.virtual_memory()
        lines.append(f"memory      {memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB free")
    torch = sys.modules.get("torch")
    with suppress(Exception):
        if torch is not None:
            count = torch.cuda.device_count()
            gpus = ", ".join(torch.cuda.get_device_name(k) for k in range(count)) or "none"
            lines.append(f"gpu         {gpus}; {torch.get_num_threads()} threads of torch")
    return lines


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return found


def _is_public(text: str) -> bool:
    return text in _WORDS or bool(_PLAIN.fullmatch(text))


def _suffix(text: str) -> str:
    """``.mp4`` of a path; nothing where it says more than a type."""
    suffix = PurePath(text).suffix
    return suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,5}", suffix) else ""


def _public_path(text: str) -> str | None:
    """A file of Python, of sparkvsr or of a package, named from there on; None for everything else."""
    here = Path(__file__).resolve().parent.parent
    roots = {
        str(here / "src" / "sparkvsr"): "sparkvsr",
        str(here / "cli"): "sparkvsr/cli",
        str(Path(__file__).resolve().parent): "sparkvsr/cli",
        sysconfig.get_path("stdlib"): "python",
    }
    for mark in ("site-packages", "dist-packages"):
        before, found, below = text.partition(mark + os.sep)
        if before and found:
            return "<packages>/" + below.replace("\\", "/")
    for root, name in roots.items():
        if text.startswith(root + os.sep):
            return f"<{name}>" + text[len(root) :].replace("\\", "/")
    return None
