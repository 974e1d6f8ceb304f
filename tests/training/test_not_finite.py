"""NaN and Inf stop a run; its good checkpoints stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from sparkvsr.data.samples import TrainBatch
from sparkvsr.errors import TrainingError
from sparkvsr.training.callbacks import StepCheckpoint
from sparkvsr.training.checkpoints import network_state, read_checkpoint
from sparkvsr.training.finite import check_gradients, check_terms
from sparkvsr.training.step_terms import StepTerms

from .conftest import SMALL

ALONE: Any = SimpleNamespace(world_size=1, precision_plugin=SimpleNamespace())


def batch(*names: str, frames: int = 2) -> TrainBatch:
    """Clips of grey frames."""
    count = len(names)
    shape = (count, frames, 3, 4, 4)
    numbers = torch.arange(count)
    keyframes = torch.zeros(count, 0, 3, 4, 4)
    indices = torch.zeros(count, 0, dtype=torch.int64)
    times = torch.arange(frames).expand(count, frames)
    return TrainBatch(torch.zeros(shape), torch.zeros(shape), keyframes, indices, numbers, times, list(names))


def test_a_bad_term_is_named_with_step_and_clips() -> None:
    terms = {"mse": torch.tensor(float("nan")), "dists": torch.tensor(1.0), "loss": torch.tensor(float("nan"))}
    given = batch("good.mp4", "bad.mp4")
    with pytest.raises(TrainingError, match=r"^step 7: mse is nan, with the clips good.mp4, bad.mp4$"):
        check_terms(terms, given, 7, ALONE)
    given.hr[1, 0, 0, 0, 0] = float("inf")
    with pytest.raises(TrainingError, match=r"the pixels of bad.mp4 are not numbers themselves"):
        check_terms(terms, given, 7, ALONE)
    check_terms({"loss": torch.tensor(3.0)}, given, 7, ALONE)


def test_a_bad_gradient_is_named_and_a_good_one_measured() -> None:
    network = nn.Linear(2, 1, bias=False)
    network.weight.grad = torch.tensor([[3.0, 4.0]])
    assert check_gradients(network, ["a"], 1, ALONE) == pytest.approx(5.0)
    network.weight.grad = torch.tensor([[3.0, float("inf")]])
    with pytest.raises(TrainingError, match=r"step 2: the gradient of weight .* with the clips a"):
        check_gradients(network, ["a"], 2, ALONE)
    # fp16's scaler meets overflows now and then, and deals with them.
    scaled: Any = SimpleNamespace(world_size=1, precision_plugin=SimpleNamespace(scaler=object()))
    assert check_gradients(network, ["a"], 2, scaled) is None


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    network = nn.Linear(2, 1)
    nn.init.constant_(network.bias, float("nan"))
    adapter = SimpleNamespace(network=network)
    trainer: Any = SimpleNamespace(
        world_size=1, global_step=4, is_global_zero=True, lightning_module=SimpleNamespace(adapter=adapter)
    )
    callback = StepCheckpoint(tmp_path, 1, 3, print)
    with pytest.raises(TrainingError, match="after step 4: the weights of bias"):
        callback._save_checkpoint(trainer, str(tmp_path / "step-000004.ckpt"))
    assert not list(tmp_path.iterdir())


def test_a_run_stops_with_its_last_good_checkpoint(
    train_small: Callable[..., tuple[Path, Any]], tmp_path: Path
) -> None:
    small = ("stage=1", *SMALL, "data.validation=null", "callbacks.checkpoint_every=1", "trainer.max_steps=3")
    with pytest.raises(TrainingError) as caught:
        train_small(*small, "optimizer.learning_rate=1e30")
    text = str(caught.value)
    good = tmp_path / "run" / "step-000001.ckpt"
    assert text.startswith("the run stopped. step 2: latent_mse is nan, with the clips synthetic ")
    assert f"sparkvsr train ckpt={good} optimizer.learning_rate=..." in text
    state = network_state(read_checkpoint(good))
    assert all(bool(torch.isfinite(value).all()) for value in state.values())
    assert (tmp_path / "run" / "last.ckpt").resolve() == good.resolve()
    assert not (tmp_path / "run" / "model").exists()


def test_a_steps_terms_are_means_over_its_micro_batches_only() -> None:
    terms = StepTerms(by_kind=True)
    terms.add(
        {"mse": torch.tensor(1.0), "frame_difference": torch.tensor(5.0), "loss": torch.tensor(6.0)}, batch("a"), 0.1
    )
    terms.add({"mse": torch.tensor(2.0), "loss": torch.tensor(2.0)}, batch("b", frames=1), 0.1)
    assert terms.clips == ["a", "b"]
    means = terms.take(ALONE)
    assert means == {"mse": 1.5, "frame_difference": 5.0, "loss_clips": 6.0, "loss_stills": 2.0, "loss": 4.0}
    assert list(means)[-1] == "loss"
    terms.add({"mse": torch.tensor(3.0), "loss": torch.tensor(3.0)}, batch("c", frames=1), 0.1)
    assert terms.take(ALONE) == {"mse": 3.0, "loss_stills": 3.0, "loss": 3.0}


class Together:
    """What of a strategy of several processes is used."""

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        count = torch.tensor(int(decision))
        torch.distributed.all_reduce(count)
        return int(count) == 2 if all else int(count) > 0


def meet_nan(rank: int, folder: str, answers: Any) -> None:
    """One of two processes, of which the second one meets NaN."""
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    trainer: Any = SimpleNamespace(world_size=2, precision_plugin=SimpleNamespace(), strategy=Together())
    fine = {"loss": torch.tensor(1.0)}
    check_terms(fine, batch("a.mp4"), 1, trainer)
    try:
        check_terms({"loss": torch.tensor(float("nan") if rank else 1.0)}, batch(f"{rank}.mp4"), 2, trainer)
    except TrainingError as exc:
        answers.put(str(exc))


def test_all_processes_stop_together_and_name_the_clip(tmp_path: Path) -> None:
    context = torch.multiprocessing.get_context("fork")
    answers = context.Queue()
    workers = [context.Process(target=meet_nan, args=(rank, str(tmp_path), answers)) for rank in range(2)]
    for worker in workers:
        worker.start()
    texts = [answers.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(timeout=60)
    assert texts == ["step 2: loss is nan, with the clips 1.mp4"] * 2
