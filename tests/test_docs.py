"""What is written can be followed by a reader who has this repository and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = {".py", ".yaml", ".yml", ".md", ".json", ".toml", ".txt", ".html", ".jinja", ".css", ".js", ""}
SHIPPED = (
    "src",
    "cli",
    "conf",
    "docs",
    "benchmarks",
    "tools",
    "docker",
    "integrations",
    ".ci",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
)

PRIVATE = {
    "a document that is not in the repository": re.compile(
        r"\bguide(?:'s|s)?\s+(?:\d|sections?\b|metrics_perf|\")|\bguide/|\bguide\.md|\(guide\b", re.IGNORECASE
    ),
    "a folder outside the repository": re.compile(r"\.\./shared"),
    "an absolute path of one machine": re.compile(r"(?<![\w./~}$-])/(?:work|tmp|home|root|mnt|scratch|Users)/\w"),
}


def files(*names: str) -> list[Path]:
    found = []
    for name in names:
        path = ROOT / name
        inside = path.rglob("*") if path.is_dir() else [path]
        found += [p for p in inside if p.is_file() and p.suffix in TEXT and "__pycache__" not in p.parts]
    return sorted(found)


def faults(text: str) -> list[str]:
    return [f"{what}: {line.strip()}" for line in text.splitlines() for what, rx in PRIVATE.items() if rx.search(line)]


def test_nothing_cites_what_a_stranger_does_not_have() -> None:
    found = {str(p.relative_to(ROOT)): faults(p.read_text("utf-8")) for p in files(*SHIPPED) if p.exists()}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_tests_reach_shared_data_by_the_fixture_only() -> None:
    allowed = {ROOT / "tests" / "conftest.py", Path(__file__)}
    found = {str(p.relative_to(ROOT)): faults(p.read_text("utf-8")) for p in files("tests") if p not in allowed}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "one slot early (guide 2.5 and 10.1 no. 2)",
        "# Guide 4.5. kind: mse",
        "71 % of the work (guide metrics_perf B2)",
        'guidance_scale: see guide "2.8": 0 is blind',
        "described in guide/method.md",
        "--clips ../shared/data/public/gt",
        'default=Path("/work/scratch/results")',
        "default=/home/somebody/clips",
    ],
)
def test_planted_references_are_refused(line: str) -> None:
    assert faults(line)


@pytest.mark.parametrize(
    "line", ["which frames guide the restoration", "--guidance 2", "runs/work/x", "see ~/work/x", "a user guide"]
)
def test_ordinary_words_are_not(line: str) -> None:
    assert not faults(line)


# --- docs/method.md: every citation resolves ---

_CITED = re.compile(r"docs/method\.md((?:,? (?:and |to )?\d(?:\.\d+)?(?![\d%]))+)")


def sections() -> list[str]:
    return re.findall(r"^#{2,3} (\d+(?:\.\d+)?)\b", (ROOT / "docs" / "method.md").read_text("utf-8"), re.MULTILINE)


def citations(text: str) -> list[str]:
    flowing = re.sub(r"\s*\n\s*#?\s*", " ", text)  # a citation may be broken over two lines, or two comments
    return [number for found in _CITED.findall(flowing) for number in re.findall(r"\d+(?:\.\d+)?", found)]


def test_sections_of_the_method_have_one_number_each() -> None:
    numbers = [number for number in sections() if "." in number]
    assert len(numbers) > 30
    assert len(set(numbers)) == len(numbers)


def test_citations_of_the_method_resolve() -> None:
    known, found = set(sections()), []
    for path in files(*SHIPPED, "tests"):
        if path.exists() and path != Path(__file__):
            found += [(str(path.relative_to(ROOT)), number) for number in citations(path.read_text("utf-8"))]
    assert len(found) > 50
    assert [(name, number) for name, number in found if number not in known] == []


def test_citations_are_found_however_they_are_written() -> None:
    text = "(docs/method.md 2.2, 2.3, 3.3) docs/method.md\n    # 4.5 and docs/method.md 8.2 to 8.4; docs/method.md 9.9."
    assert citations(text) == ["2.2", "2.3", "3.3", "4.5", "8.2", "8.4", "9.9"]


# --- links ---


def test_links_between_the_pages_resolve() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8"))
        local = [target for target in targets if not re.match(r"[a-z]+:", target)]
        broken += [f"{page.relative_to(ROOT)}: {target}" for target in local if not (page.parent / target).exists()]
    assert broken == []
