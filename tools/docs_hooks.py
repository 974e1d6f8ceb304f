"""What MkDocs asks while it builds the site (mkdocs.yml): a page for each command, generated from the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

import command_pages

FOLDER = "commands"


def on_config(config: Any) -> Any:
    """Fill in the pages of the commands where the table of contents says ``commands/``."""
    pages = command_pages.pages()
    for section in config.nav:
        if isinstance(section, dict) and section.get("Commands") == f"{FOLDER}/":
            section["Commands"] = [
                {" ".join(page.words[1:]) or "sparkvsr": f"{FOLDER}/{command_pages.markdown_name(page)}"}
                for page in pages
            ]
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Add them to the files of the site."""
    for page in command_pages.pages():
        name = f"{FOLDER}/{command_pages.markdown_name(page)}"
        files.append(File.generated(config, name, content=command_pages.markdown(page)))
    return files
