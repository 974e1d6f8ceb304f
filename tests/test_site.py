"""The documentation site, the README, the man pages and the Dockerfiles: built and looked at as a reader gets them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import command_pages  # noqa: E402


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with every warning (broken link, page without a place, unknown anchor) as an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_is_complete_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {str(path.relative_to(site)): path.read_text("utf-8") for path in site.rglob("*.html")}
    for page in command_pages.pages():
        assert f"commands/{command_pages.markdown_name(page)}".replace(".md", ".html") in pages
    assert "--guidance" in pages["commands/upscale.html"]
    assert 'id="sparkvsr.inference.frames.upscale_frames"' in pages["python.html"]
    loading = re.compile(
        r"<(?:script|img|iframe|link rel=.(?:stylesheet|preconnect|preload).)[^>]*(?:src|href)=.https?:"
    )
    assert {name: loading.findall(text) for name, text in pages.items() if loading.search(text)} == {}
    styles = [path for path in site.rglob("*.css") if re.search(r"url\(.?https?:", path.read_text("utf-8"))]
    assert styles == []


def test_the_readme_is_short_and_begins_with_a_picture() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) < 120
    assert "![" in next(line for line in lines[1:] if line)
    commands = re.findall(r"```sh\n(.*?)```", "\n".join(lines), re.DOTALL)[0]
    assert len(commands.splitlines()) == 2
    named = set(re.findall(r"\(docs/(\w+\.md)\)", "\n".join(lines)))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"} <= named


def test_commands_in_the_pages_exist() -> None:
    """Every `sparkvsr WORD` of the pages is a command, and its long options are options of it."""
    known: dict[str, set[str]] = {}
    for page in command_pages.pages():
        options = {
            word for rows in page.panels.values() for names, _ in rows for word in re.findall(r"--[\w-]+", names)
        }
        known.setdefault(" ".join(page.words[1:2]), set()).update(options)
    wrong = []
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for block in re.findall(r"```(?:sh|powershell)\n(.*?)```", path.read_text("utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                found = re.match(r"(?:\.venv/bin/)?sparkvsr (\S+)(.*)", line.partition(" #")[0].strip())
                if found is None or found[1] in ("train",):
                    continue
                command = "" if found[1].startswith("-") else found[1]
                options = re.findall(r"(?<=\s)--[a-z][\w-]*", f" {found[1]} {found[2]}".split("'")[0])
                wrong += [
                    f"{path.name}: {line.strip()}: {word}" for word in options if word not in known.get(command, set())
                ]
                wrong += [f"{path.name}: {line.strip()}"] if command not in known else []
    assert wrong == []


def test_man_pages_are_well_formed(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "command_pages.py"), "--man", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"sparkvsr.1", "sparkvsr-upscale.1", "sparkvsr-eval-report.1"} <= names
    text = (tmp_path / "sparkvsr-upscale.1").read_text("utf-8")
    assert "\n.SH NAME\nsparkvsr-upscale \\- Upscale" in text
    assert "\\-\\-guidance" in text
    for path in tmp_path.iterdir() if shutil.which("groff") else ():
        done = subprocess.run(["groff", "-man", "-ww", "-Tascii", "-z", str(path)], capture_output=True, check=True)
        assert done.stderr == b"", path.name


def test_a_shell_completes_commands_and_options() -> None:
    words = {"_SPARKVSR_COMPLETE": "complete_bash", "COMP_WORDS": "sparkvsr upscale --gui", "COMP_CWORD": "2"}
    # The program's name decides which variable is looked at.
    code = "import sys; sys.argv = ['sparkvsr']; from sparkvsr.cli.main import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **words},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["--guidance"]


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_dockerfiles_are_sound(name: str) -> None:
    path = ROOT / "docker" / f"Dockerfile.{name}"
    text = path.read_text("utf-8")
    steps = re.findall(r"^([A-Z]+) (.*)$", text, re.MULTILINE)
    copied = [word for step, rest in steps if step == "COPY" for word in rest.split()[:-1]]
    assert copied
    assert all((ROOT / word).exists() for word in copied)
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == let_through
    assert [rest for step, rest in steps if step == "USER"] == ["1000"]
    assert ":latest" not in text
    linter = Path(sys.executable).with_name("hadolint")
    program = str(linter) if linter.exists() else shutil.which("hadolint")
    if program is not None:
        done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_citation_has_what_it_needs() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert f'__version__ = "{citation["version"]}"' in (ROOT / "src" / "sparkvsr" / "version.py").read_text()
