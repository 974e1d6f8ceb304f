"""Files that strangers hand over end in one line whatever they hold, and full disks too; one test for each way."""

from __future__ import annotations

import copy
import errno
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from sparkvsr.config import compose_config
from sparkvsr.errors import ConfigError, EncodeError, OutputExistsError, SparkVSRError, WeightsError
from sparkvsr.evaluation.bench import load_bench
from sparkvsr.evaluation.html_page import comparison_page
from sparkvsr.evaluation.plain_values import misfit
from sparkvsr.evaluation.record import FORMAT, read_record, write_json
from sparkvsr.evaluation.side_by_side import compare_runs
from sparkvsr.keyframes.makers.cache import ImageCache
from sparkvsr.models.lite.weights import embedded_folder, load_propagator
from sparkvsr.plain_json import parse_object

RECORD: dict[str, Any] = {
    "format": FORMAT,
    "run": {"kind": "files", "pred": "a.mp4", "gt": "b.mp4"},
    "protocol": "frames as stored",
    "metrics": {"psnr": {"status": "ok", "mean": 30.0, "protocol": "rgb", "higher_is_better": True}},
    "clips": [{"name": "a", "frames": 2, "metrics": {"psnr": {"mean": 30.0}}}],
    "warnings": [],
    "published": [{"title": "t", "source": "s", "rows": {"x": {"PSNR": 30.5}}}],
}


def one_line(error: BaseException) -> str:
    text = str(error)
    assert text
    assert "\n" not in text
    assert len(text) < 2000
    return text


def test_a_whole_result_is_read(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(RECORD))
    assert "30.5" in comparison_page(compare_runs([tmp_path, tmp_path]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.pop("run"), "run is missing"),
        (lambda r: r["run"].pop("gt"), "run.gt is missing"),
        (lambda r: r["metrics"]["psnr"].update(mean=10**400), "metrics.psnr.mean is 1000"),
        (lambda r: r["metrics"]["psnr"].update(mean="best"), "metrics.psnr.mean is 'best', not a number"),
        (lambda r: r.update(metrics=[]), "metrics is a list, not a mapping"),
        (lambda r: r["clips"].append(7), r"clips\[1\] is 7, not a mapping"),
        (lambda r: r["clips"][0].update(frames=True), r"clips\[0\].frames is True, not a whole number"),
        (lambda r: r["clips"][0]["metrics"].clear(), r"clips\[0\].metrics.psnr is missing"),
        (lambda r: r["published"][0]["rows"]["x"].update(PSNR="high"), r"published\[0\].rows.x.PSNR is 'high'"),
        (lambda r: r.update(format="x" * 5000), "not a result of this version"),
    ],
)
def test_results_of_others_are_judged_before_they_are_used(tmp_path: Path, change: Any, words: str) -> None:
    record = copy.deepcopy(RECORD)
    change(record)
    (tmp_path / "results.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=words) as caught:
        read_record(tmp_path)
    one_line(caught.value)


@pytest.mark.parametrize("text", [b"[" * 50_000, b"\xff\xfe", b"[]", b'{"a":' * 20_000, b"", b"NaN"])
def test_what_is_no_json_object_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - that it is one is the point
        parse_object(text)
    one_line(caught.value)


def test_a_shape_tells_the_first_place() -> None:
    shape = {"a": (int, None), "b?": [{"*": float}]}
    assert misfit({"a": None, "b": [{"x": 1, "y": 2.5}], "other": object()}, shape) is None
    assert misfit({"a": "1"}, shape) == "a is '1', not a whole number"
    assert misfit({"a": 1, "b": [{"x": float("nan")}]}, shape) == "b[0].x is nan, not a number"
    assert misfit(3, shape) == "it is 3, not a mapping"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"title: \xff", "not UTF-8"),
        (b"[" * 30_000, "not valid YAML"),
        (b"title: 2001-99-99", "not valid YAML"),
        (b"3: x\ntitle: [a]", "unknown or missing keys: 3"),
        (b"{scale}", "scale is a mapping, not a whole number"),
        (b"{size}", "the size of gt_size is"),
    ],
)
def test_benches_of_others(tmp_path: Path, data: bytes, words: str) -> None:
    good = (
        "title: t\nkind: paired\ndegradation: bicubic\nmetrics: default\nprimary: psnr\ngt_folders: [GT]\n"
        "lr_folders: [LQ]\nget: nowhere\n"
    )
    text = {b"{scale}": good + "scale: {a: 1}\n", b"{size}": good + "scale: 4\ngt_size: [5]\n"}.get(data)
    file = tmp_path / "bench.yaml"
    file.write_bytes(data if text is None else text.encode())
    with pytest.raises(ConfigError, match=words) as caught:
        load_bench(str(file))
    one_line(caught.value)


@pytest.mark.parametrize("text", ["learning_rate: '", "\0", "[" * 5000, "7"])
def test_groups_of_a_users_configuration_that_are_no_yaml(tmp_path: Path, text: str) -> None:
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        compose_config(["model=lite", "debug=quick", "optimizer=mine"], config_dir=tmp_path)
    one_line(caught.value)


@pytest.mark.parametrize("about", [[], {"format": "?"}, {"config": {"blocks": 10**9}}, {"config": "x"}])
def test_headers_of_weights_say_what_they_are_for(tmp_path: Path, about: Any) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(embedded_folder() / "propagator.safetensors", framework="pt") as file:
        kept = json.loads(file.metadata()["lite"])
    text = json.dumps({**kept, **about} if isinstance(about, dict) else about)
    save_file({"a": torch.ones(1)}, tmp_path / "propagator.safetensors", metadata={"lite": text})
    with pytest.raises(WeightsError) as caught:
        load_propagator(tmp_path)
    one_line(caught.value)


def test_a_message_is_one_line_and_never_long() -> None:
    assert str(SparkVSRError("a name\nof two lines")) == r"a name\nof two lines"
    assert str(OutputExistsError("a name\nof two lines", Path())) == r"a name\nof two lines"
    text = str(SparkVSRError(f"start {'x' * 10_000} what to do"))
    assert len(text) < 1500
    assert text.startswith("start xxx")
    assert text.endswith("what to do")


def test_results_on_a_full_disk_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json({"a": 1}, tmp_path / "results.json")

    def full(self: Path, data: bytes) -> None:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(EncodeError, match="No space left on device"):
        write_json({"a": 2}, tmp_path / "results.json")
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert json.loads((tmp_path / "results.json").read_text()) == {"a": 1}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/x.ckpt"), "the disk is full (/data/x.ckpt)"),
        (RuntimeError("[enforce fail at inline_container.cc] PytorchStreamWriter failed writing file"), "the disk is"),
        (ValueError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (OSError(errno.EIO, "Input/output error"), None),
    ],
)
def test_a_full_disk_is_no_defect(error: Exception, words: str | None) -> None:
    from sparkvsr.cli.main import _full_disk

    wrapped = RuntimeError("while saving")
    wrapped.__cause__ = error
    for one in (error, wrapped):
        place = _full_disk(one)
        assert (place is None) == (words is None)
        assert words is None or f"the disk is full{place}".startswith(words)


def test_answers_that_cannot_be_kept_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    cache = ImageCache(tmp_path / "file" / "cache")
    with caplog.at_level(logging.WARNING, "sparkvsr"):
        for _ in range(3):
            cache.put("a" * 64, torch.zeros(3, 4, 4))
    assert caplog.text.count("cannot be kept") == 1


def test_export_replaces_nothing_but_an_exported_model(tmp_path: Path) -> None:
    from sparkvsr.training.export import export_model

    run, thesis = tmp_path / "run", tmp_path / "documents"
    run.mkdir()
    thesis.mkdir()
    (run / "last.ckpt").write_bytes(b"weights")
    (thesis / "thesis.txt").write_text("precious")
    for folder, words in ((run, "would be deleted"), (tmp_path, "would be deleted"), (thesis, "holds other files")):
        with pytest.raises(ConfigError, match=words):
            export_model(run, folder, overwrite=True)
    assert (run / "last.ckpt").read_bytes() == b"weights"
    assert (thesis / "thesis.txt").read_text() == "precious"


def test_what_is_written_is_not_what_is_read_or_written_elsewhere(tmp_path: Path) -> None:
    import cv2
    import numpy as np
    from upscale_clips import sparkvsr

    file = tmp_path / "results.json"
    file.write_text(json.dumps(RECORD))
    result = sparkvsr("eval", "report", file, "-o", file)
    assert result.exit_code == 2
    assert "would be destroyed" in " ".join(result.stderr.split())
    assert json.loads(file.read_text()) == RECORD
    cv2.imwrite(str(tmp_path / "in.png"), np.zeros((16, 16, 3), np.uint8))
    out = tmp_path / "out.png"
    result = sparkvsr("upscale", tmp_path / "in.png", "-o", out, "--log-file", out, "--model", "bicubic")
    assert result.exit_code == 2
    assert "of the same command" in " ".join(result.stderr.split())
    assert not out.exists()


def test_a_checkpoint_on_a_full_disk_is_the_old_one_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparkvsr.training import whole_checkpoints

    file, writer = tmp_path / "run" / "step-000002.ckpt", whole_checkpoints.WholeCheckpointIO()
    writer.save_checkpoint({"state_dict": {"a": torch.ones(2)}}, file)

    def full(partial: Path, final: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(whole_checkpoints, "replace_durably", full)
    with pytest.raises(EncodeError, match="free some space"):
        writer.save_checkpoint({"state_dict": {"a": torch.zeros(2)}}, file)
    assert [path.name for path in file.parent.iterdir()] == ["step-000002.ckpt"]
    assert torch.load(file, weights_only=True)["state_dict"]["a"].tolist() == [1.0, 1.0]
