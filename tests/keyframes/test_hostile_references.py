"""Hostile reference folders end in our own errors and write nowhere else: a short benchmarks/fuzz_references.py."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from sparkvsr.errors import KeyframeError
from sparkvsr.keyframes.folder_writing import check_folder
from sparkvsr.keyframes.manifest import read_manifest

NUM_INPUTS = 60
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_many_hostile_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # the worker process imports it by its name, too
    fuzzer = importlib.import_module("fuzz_references")
    outcomes = [(number, outcome) for number, outcome, _, _ in fuzzer.fuzz(NUM_INPUTS, 11, tmp_path)]
    assert not [entry for entry in outcomes if entry[1] not in ("used", "refused")]
    assert {outcome for _, outcome in outcomes} == {"used", "refused"}


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_list_that_is_no_file_is_refused_and_does_not_hang(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "keyframes.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(KeyframeError, match="is not a file"):
        read_manifest(tmp_path)


def test_frames_are_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "refs").mkdir()
    (tmp_path / "refs" / "lr").symlink_to(tmp_path / "precious")
    with pytest.raises(KeyframeError, match="is a link"):
        check_folder(tmp_path / "refs", overwrite=True)
