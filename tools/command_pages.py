"""Every command as a page: Markdown for the documentation site, man pages for packagers. Generated from the commands.

python tools/command_pages.py --man man/man1        # or: make man
python tools/command_pages.py --markdown folder
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer.main
from sparkvsr.cli.main import app

from sparkvsr.version import __version__

FIRST_PANEL = "Options"
EXIT_CODES = (
    ("0", "Done."),
    ("1", "The work failed; one line on stderr says why. Of several inputs: at least one failed."),
    ("2", "Wrong usage: an option or value that cannot be."),
    ("3", "eval: a metric that was asked for by name is not ready."),
    ("130", "Interrupted. The same command goes on where it stopped."),
)


@dataclass(frozen=True)
class Page:
    """One command.

    Attributes:
        words: such as ``("sparkvsr", "upscale")``.
        text: what it does, paragraphs separated by empty lines; the first line is the summary.
        usage: without "Usage:".
        panels: options by heading, each as written and what it does.
        commands: subcommands and their summaries.
    """

    words: tuple[str, ...]
    text: str
    usage: str
    panels: dict[str, list[tuple[str, str]]]
    commands: list[tuple[str, str]]

    @property
    def summary(self) -> str:
        """The first sentence of the text."""
        first = self.text.split("\n\n")[0]
        return re.split(r"(?<=\.) ", " ".join(first.split()))[0].rstrip(".")


def pages() -> list[Page]:
    """``sparkvsr`` and every command that is not hidden, in the order of ``--help``."""
    root = typer.main.get_command(app)
    return list(_walk(root, root.make_context("sparkvsr", [], resilient_parsing=True), ("sparkvsr",)))


def _walk(command: Any, context: Any, words: tuple[str, ...]) -> Iterator[Page]:
    below = {name: item for name, item in getattr(command, "commands", {}).items() if not item.hidden}
    yield Page(
        words,
        re.sub(r"\n{3,}", "\n\n", (command.help or "").replace("\b", "")).strip(),
        " ".join(command.get_usage(context).split()).removeprefix("Usage: "),
        _panels(command, context),
        [(name, (item.help or "").strip().split("\n")[0]) for name, item in below.items()],
    )
    for name, item in below.items():
        inner = item.make_context(name, [], parent=context, resilient_parsing=True)
        yield from _walk(item, inner, (*words, name))


def _panels(command: Any, context: Any) -> dict[str, list[tuple[str, str]]]:
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and not getattr(parameter, "hidden", False):
            is_argument = parameter.param_type_name == "argument"
            panel = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or FIRST_PANEL
            panels.setdefault(panel, []).append((record[0], " ".join((record[1] or "").split())))
    return panels


def markdown(page: Page) -> str:
    """A page of the documentation site."""
    lines = [f"# {' '.join(page.words)}", "", *(_escaped(part) for part in page.text.split("\n")), ""]
    lines += ["```", page.usage, "```", ""]
    for title, records in page.panels.items():
        lines += [f"## {title}", "", "| | |", "|---|---|"]
        lines += [f"| {_code(names)} | {_escaped(text)} |" for names, text in records]
        lines.append("")
    if page.commands:
        lines += ["## Commands", "", "| | |", "|---|---|"]
        lines += [
            f"| [`{' '.join((*page.words, name))}`]({'-'.join((*page.words[1:], name))}.md) | {_escaped(text)} |"
            for name, text in page.commands
        ]
        lines.append("")
    if len(page.words) == 1:
        lines += ["## Exit codes", "", "| | |", "|---|---|", *(f"| {code} | {text} |" for code, text in EXIT_CODES), ""]
    return "\n".join(lines)


def markdown_name(page: Page) -> str:
    """Its file: ``index.md`` for ``sparkvsr``, ``eval-run.md`` and the like for the others."""
    return f"{'-'.join(page.words[1:]) or 'index'}.md"


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def _escaped(text: str) -> str:
    return re.sub(r"([|<>*_\[\]])", r"\\\1", text)


def man(page: Page) -> str:
    """A man page in section 1."""
    name = "-".join(page.words)
    lines = [f'.TH "{name.upper()}" "1" "" "sparkvsr {__version__}" "SparkVSR"', ".SH NAME"]
    lines += [f"{name} \\- {_roff(page.summary)}", ".SH SYNOPSIS", f".B {_roff(page.usage)}", ".SH DESCRIPTION"]
    for number, paragraph in enumerate(page.text.split("\n\n")):
        lines += [".PP"] if number else []
        lines.append(_roff(" ".join(paragraph.split())))
    for title, records in page.panels.items():
        lines.append(f'.SH "{_roff(title.upper())}"')
        for names, text in records:
            lines += [".TP", f".B {_roff(names)}", _roff(text) or "\\&"]
    if page.commands:
        lines.append(".SH COMMANDS")
        for command, text in page.commands:
            lines += [".TP", f".BR {_roff('-'.join((*page.words, command)))} (1)", _roff(text)]
    if len(page.words) == 1:
        lines.append('.SH "EXIT STATUS"')
        for code, text in EXIT_CODES:
            lines += [".TP", f".B {code}", _roff(text)]
    others = [".BR sparkvsr (1)"] if len(page.words) > 1 else [".BR sparkvsr-upscale (1)"]
    return "\n".join([*lines, '.SH "SEE ALSO"', *others]) + "\n"


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text)


def main() -> None:
    """Write pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--man", type=Path, help="folder for sparkvsr.1, sparkvsr-upscale.1, ...")
    parser.add_argument("--markdown", type=Path, help="folder for index.md, upscale.md, ...")
    arguments = parser.parse_args()
    for folder, name, text in (
        (arguments.man, lambda page: f"{'-'.join(page.words)}.1", man),
        (arguments.markdown, markdown_name, markdown),
    ):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            made = pages()
            for page in made:
                (folder / name(page)).write_text(text(page), encoding="utf-8")
            print(f"{len(made)} pages in {folder}")


if __name__ == "__main__":
    main()
