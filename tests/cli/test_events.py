"""`--json`: every event of every command fits the schema that ships, and the page about them names all of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from upscale_clips import check_event, run, sparkvsr, write_clip

from sparkvsr.hooks import for_input
from sparkvsr.inference.events import event_schema

ROOT = Path(__file__).resolve().parents[2]
BASELINE = ["--model", "bicubic", "--references", "bicubic", "--json"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "in.mp4", frames=12)


def names(text: str) -> list[str]:
    return [json.loads(line)["event"] for line in text.splitlines()]


def test_the_command_prints_a_valid_schema() -> None:
    result = sparkvsr("schema")
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema == event_schema()
    assert {part["$ref"].removeprefix("#/$defs/") for part in schema["oneOf"]} == set(schema["$defs"])


@pytest.mark.parametrize(
    "change", [{"done": -1}, {"done": "5"}, {"extra": 1}, {"event": "unknown"}, {"total": "many"}, {"fps": "fast"}]
)
def test_the_schema_refuses_what_does_not_fit(change: dict[str, object]) -> None:
    event: dict[str, object] = {"event": "progress", "done": 5, "total": 10, "fps": 2.5, "seconds_left": None}
    check_event(event)
    with pytest.raises((jsonschema.ValidationError, AssertionError)):
        check_event({**event, **change})
    del event["done"]
    with pytest.raises(jsonschema.ValidationError):
        check_event(event)


def test_all_commands_write_only_events_of_the_schema(clip: Path, tmp_path: Path) -> None:
    # The helper that runs the command checks each line.
    seen: set[str] = set()
    out, refs = tmp_path / "out.mp4", tmp_path / "refs"
    runs = [
        ["upscale", clip, "-o", out, *BASELINE, "--compare"],
        ["upscale", clip, "-o", out, *BASELINE],
        ["upscale", clip, clip, tmp_path / "none.mp4", "-o", tmp_path / "many", *BASELINE],
        ["upscale", clip, tmp_path / "none.mp4", "-o", tmp_path / "many", *BASELINE],
        ["keyframes", clip, "-o", refs, "--references", "bicubic", "--json"],
        ["keyframes", clip, "--check", refs, "--json"],
        ["compare", clip, out, "-o", tmp_path / "both.html", "--json"],
    ]
    codes = []
    for arguments in runs:
        result = sparkvsr(*arguments)  # type: ignore[arg-type]
        codes.append(result.exit_code)
        seen |= set(names(result.stdout))
    assert codes == [0, 1, 1, 1, 0, 0, 0]
    # `resume` and `workers` are seen by the tests of resume and scale-out, which run through the same helper, `stream`
    # by those of pipes.
    assert set(event_schema()["$defs"]) - seen <= {"resume", "workers", "note", "analysis", "stream"}


def test_a_failed_run_ends_with_an_error_event(tmp_path: Path) -> None:
    result = run(tmp_path / "none.mp4", *BASELINE)
    assert result.exit_code == 1
    event = json.loads(result.stdout.splitlines()[-1])
    assert (event["event"], event["kind"]) == ("error", "DecodeError")
    assert event["error"] in result.stderr


def test_every_event_names_its_input(clip: Path, tmp_path: Path) -> None:
    result = run(clip, "-o", tmp_path / "out.mp4", *BASELINE)
    assert {json.loads(line)["input"] for line in result.stdout.splitlines()} == {str(clip)}
    seen: list[dict[str, object]] = []
    for_input(seen.append, Path("a.mp4"))({"event": "note", "text": "x"})
    assert seen == [{"event": "note", "text": "x", "input": "a.mp4"}]


def test_the_page_names_every_event_and_key() -> None:
    page = (ROOT / "docs" / "events.md").read_text()
    listed = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE))
    schema = event_schema()["$defs"]
    assert set(listed) == set(schema)
    for name, keys in listed.items():
        assert set(re.findall(r"`(\w+)`", keys)) == set(schema[name]["properties"]) - {"event", "input"}, name
