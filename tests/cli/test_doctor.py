"""`sparkvsr doctor`: what it finds is there, and what is broken is said and ends in exit code 1."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from upscale_clips import sparkvsr

from sparkvsr import doctor
from sparkvsr.doctor import Finding
from sparkvsr.version import __version__


def test_it_says_what_works_here() -> None:
    result = sparkvsr("doctor", "--quick", "--json")
    assert result.exit_code == 0, result.stdout
    listing = json.loads(result.stdout)
    found = {(item["section"], item["name"]): item for item in listing["findings"]}
    assert listing["ok"] is True
    assert found["Installed", "sparkvsr"]["text"].startswith(__version__)
    assert {found["Encoders", codec]["state"] for codec in ("h264", "hevc", "ffv1", "prores")} == {"ok"}
    assert "cores" in found["Devices", "cpu"]["text"]
    assert "psnr_y" in found["Metrics", "ready"]["text"]
    assert found["Reference makers", "detail"]["state"] == "ok"
    assert ("Speed", "lite") not in found
    assert all(item["advice"] for item in listing["findings"] if item["state"] != "ok" and item["section"] != "Models")


def test_what_is_broken_is_said_and_does_not_hide_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("Devices", "cpu", "ok", "2 cores")
        msg = "libcudart.so.13: cannot open shared object file"
        raise ImportError(msg)

    for name in ("_encoders", "_makers", "_metrics", "_models"):
        monkeypatch.setattr(doctor, name, lambda: iter(()))
    monkeypatch.setattr(doctor, "_devices", broken)
    version_of = doctor._version_of
    monkeypatch.setattr(doctor, "_version_of", lambda name: None if name == "av" else version_of(name))
    result = sparkvsr("doctor", "--quick")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert "  BROKEN  av: is not there" in lines
    assert "            pip install av, or install sparkvsr again" in lines
    assert "  BROKEN  broken: ImportError: libcudart.so.13: cannot open shared object file" in lines
    assert any(line.startswith("  ok      memory:") for line in lines)
    assert lines[-1].startswith("Broken: av, broken;")


@pytest.mark.parametrize(
    ("fps", "word"), [(30, "real time"), (10, "fast"), (3, "usable for clips"), (0.1, "very slow")]
)
def test_speed_classes(fps: float, word: str) -> None:
    assert doctor.speed_class(fps) == word
