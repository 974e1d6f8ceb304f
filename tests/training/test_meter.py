"""Figures of a run's use of its device, and what loggers get besides numbers."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

from sparkvsr.data.samples import TrainSample, collate
from sparkvsr.training.logger_media import ConfigToLoggers, show_clip
from sparkvsr.training.meter import PEAK_TFLOPS, StepMeter, known_peak

CPU = torch.device("cpu")


def test_arithmetic_and_waiting_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=CPU))
    module: Any = None
    meter = StepMeter(peak_tflops=1e-6)
    meter.on_train_start(trainer, module)
    batch = collate([TrainSample(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 16, 16), torch.zeros(0, 3, 16, 16), [])])
    weight = torch.ones(64, 64, requires_grad=True)
    for number in range(2):
        now[0] += 1.0  # waiting for data
        meter.on_train_batch_start(trainer, module, batch, number)
        (torch.ones(8, 64) @ weight).sum().backward()
        now[0] += 3.0
        meter.on_train_batch_end(trainer, module, None, batch, number)
    figures = meter.take(CPU)
    # Forward and the gradient of the weight, 2 operations a product; counted once, used twice.
    assert figures["tflops"] == pytest.approx(2 * 2 * (2 * 8 * 64 * 64) / 8 / 1e12)
    assert figures["utilisation"] == pytest.approx(figures["tflops"] / 1e-6)
    assert figures["data_wait"] == pytest.approx(0.25)
    now[0] += 1.0
    assert meter.take(CPU)["tflops"] == 0, "each figure is of the steps since the last time"


def test_a_step_that_is_counted_is_rounded_like_any_other() -> None:
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=CPU))
    module: Any = None
    meter = StepMeter()
    meter.on_train_start(trainer, module)
    batch = collate([TrainSample(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 16, 16), torch.zeros(0, 3, 16, 16), [])])
    torch.manual_seed(0)
    given, weight = torch.randn(64, 64), torch.randn(64, 64)
    gradients = []
    for number in range(2):  # the first is counted
        meter.on_train_batch_start(trainer, module, batch, number)
        leaf = given.clone().requires_grad_()
        (torch.nn.functional.silu(leaf @ weight) * weight).sum().backward()
        meter.on_train_batch_end(trainer, module, None, batch, number)
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)


def test_known_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    assert known_peak(torch.device("cuda")) == PEAK_TFLOPS["H100"]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 PCIe")
    assert known_peak(torch.device("cuda")) == PEAK_TFLOPS["H100 PCIe"]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Something Else")
    assert known_peak(torch.device("cuda")) is None
    assert known_peak(CPU) is None


class Recorder:
    """Stands for a logger or its experiment; keeps what it is given."""

    def __init__(self, *names: str, **attributes: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        for name in names:
            setattr(self, name, lambda *args, name=name, **kwargs: self.calls.append((name, *args)))
        for name, value in attributes.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ("logger", "kinds"),
    [
        (Recorder("log_image", "log_video", experiment=None), ["image", "video"]),  # as WandbLogger
        (Recorder(experiment=Recorder("add_image")), ["image"]),  # as TensorBoardLogger
        (Recorder(experiment=Recorder("log_image", "log_artifact"), run_id="7"), ["image", "video"]),  # as MLFlowLogger
        (Recorder(experiment=Recorder()), []),  # as CSVLogger
    ],
)
def test_clips_go_to_the_loggers_that_take_them(logger: Any, kinds: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    frames = torch.rand(2, 3, 8, 8)
    assert show_clip(logger, "clip0", frames[0], frames, Path("clip0.mp4"), 5, 8) == kinds
    calls = logger.calls or (logger.experiment.calls if logger.experiment else [])
    assert len(calls) == len(kinds)
    assert all("validation/" in str(call) or "clip0.mp4" in str(call) for call in calls)


def test_a_logger_that_fails_ends_no_run(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        msg = "no network"
        raise ConnectionError(msg)

    logger: Any = SimpleNamespace(log_image=refuse, experiment=None)
    frames = torch.rand(2, 3, 8, 8)
    assert show_clip(logger, "clip0", frames[0], frames, Path("x.mp4"), 5, 8) == []
    assert "did not take a validation clip: no network" in caplog.text


def test_every_logger_gets_the_configuration(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="logs", version="csv")
    trainer = Trainer(logger=logger, accelerator="cpu", default_root_dir=tmp_path, enable_progress_bar=False)
    ConfigToLoggers({"stage": 1, "data": {"crop": [64, 64]}}).on_train_start(trainer, None)  # type: ignore[arg-type]
    logger.save()
    text = (tmp_path / "logs" / "csv" / "hparams.yaml").read_text()
    assert "stage: 1" in text
    assert "crop" in text
