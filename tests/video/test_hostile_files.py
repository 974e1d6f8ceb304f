"""Damaged and hostile files end in our own errors: a small run of benchmarks/fuzz_decode.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

NUM_INPUTS = 100
FUZZER = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz_decode.py"


@pytest.fixture(scope="module")
def fuzzer():
    spec = importlib.util.spec_from_file_location("fuzz_decode", FUZZER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_decode"] = module  # the worker process imports it by this name
    spec.loader.exec_module(module)
    return module


def test_a_hundred_damaged_files(tmp_path: Path, fuzzer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FUZZER.parent))
    outcomes = [(name, outcome) for name, outcome, _, _ in fuzzer.fuzz(NUM_INPUTS, 7, tmp_path)]
    bad = [entry for entry in outcomes if entry[1] not in ("read", "refused")]
    assert not bad
    assert {outcome for _, outcome in outcomes} == {"read", "refused"}  # the damage is neither nothing nor everything
