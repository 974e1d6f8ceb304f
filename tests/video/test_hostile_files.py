"""Damaged and hostile files end in our own errors: a small run of benchmarks/fuzz_decode.py."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

NUM_INPUTS = 100
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_a_hundred_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # the worker process imports it by its name, too
    fuzzer = importlib.import_module("fuzz_decode")
    outcomes = [(name, outcome) for name, outcome, _, _ in fuzzer.fuzz(NUM_INPUTS, 7, tmp_path)]
    bad = [entry for entry in outcomes if entry[1] not in ("read", "refused")]
    assert not bad
    assert {outcome for _, outcome in outcomes} == {"read", "refused"}  # the damage is neither nothing nor everything
