"""Checkpoints of every strategy, in the layouts the strategies write."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
import torch

from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.models.registry import load_model
from sparkvsr.training.checkpoints import find_checkpoint, network_state, newest_run, read_checkpoint, read_header

STATE = {"adapter.network.weight": torch.arange(6.0).view(2, 3), "adapter.network.bias": torch.ones(2)}
PLAIN = {"weight": STATE["adapter.network.weight"], "bias": STATE["adapter.network.bias"]}


def same(state: dict[str, torch.Tensor]) -> bool:
    return set(state) == set(PLAIN) and all(torch.equal(state[key].float(), PLAIN[key]) for key in PLAIN)


def test_plain_and_wrapped_names(tmp_path: Path) -> None:
    for number, prefix in enumerate(("", "module.", "_forward_module.", "_forward_module.module.")):
        path = tmp_path / f"{number}.ckpt"
        torch.save({"state_dict": {prefix + key: value for key, value in STATE.items()}}, path)
        assert same(network_state(read_checkpoint(path)))


def test_moving_average_is_preferred_unless_refused() -> None:
    checkpoint = {"state_dict": STATE, "sparkvsr": {"ema": {"weight": torch.zeros(2, 3)}}}
    assert float(network_state(checkpoint)["weight"].abs().max()) == 0
    assert same(network_state(checkpoint, ema=False))
    # With LoRA the average holds what was trained only.
    assert torch.equal(network_state(checkpoint)["bias"], PLAIN["bias"])


def deepspeed_folder(path: Path, dtype: torch.dtype) -> Path:
    """The layout that DeepSpeed writes, without the optimiser's files."""
    (path / "checkpoint").mkdir(parents=True)
    (path / "latest").write_text("checkpoint")
    module = {key: value.to(dtype) for key, value in STATE.items()}
    torch.save({"module": module, "global_step": 3}, path / "checkpoint" / "mp_rank_00_model_states.pt")
    return path


def test_deepspeed_folder_in_float32_needs_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    folder = deepspeed_folder(tmp_path / "last.ckpt", torch.float32)
    assert find_checkpoint(folder) == folder
    assert read_header(folder)["global_step"] == 3
    assert same(network_state(read_checkpoint(folder)))


def test_deepspeed_folder_in_16_bit_is_not_taken_for_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = deepspeed_folder(tmp_path / "last.ckpt", torch.bfloat16)
    with monkeypatch.context() as patched:
        patched.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(WeightsError, match="pip install deepspeed"):
            read_checkpoint(folder)
    if importlib.util.find_spec("deepspeed") is not None:
        with pytest.raises(WeightsError, match="are all files there"):
            read_checkpoint(folder)
    (folder / "checkpoint" / "mp_rank_00_model_states.pt").unlink()
    with pytest.raises(WeightsError, match="neither FSDP's .metadata nor DeepSpeed's"):
        read_checkpoint(folder)


def test_fsdp_sharded_folder(tmp_path: Path) -> None:
    import torch.distributed.checkpoint as dcp

    folder = tmp_path / "last.ckpt"
    dcp.save({"model": dict(STATE)}, checkpoint_id=folder, no_dist=True)
    torch.save({"global_step": 3}, folder / "meta.pt")
    assert read_header(folder) == {"global_step": 3}
    assert same(network_state(read_checkpoint(folder)))
    shard = next(folder.glob("*.distcp"))
    shard.unlink()
    os.mkfifo(shard)  # would be waited for
    with pytest.raises(WeightsError, match=r"distcp is no file"):
        read_checkpoint(folder)


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"kept from us")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(WeightsError, match=r"cannot be read .*Permission denied"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_pipes_and_sockets_are_not_waited_for(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    os.mkfifo(run / "last.ckpt")
    for path in (run / "last.ckpt", Path("/dev/zero")):
        with pytest.raises(ConfigError, match="is a pipe, socket or device; give the folder of a run"):
            find_checkpoint(path)
        with pytest.raises(WeightsError, match=r"is no folder \(a pipe, socket or device\); --model takes"):
            load_model(path)
    with pytest.raises(WeightsError, match="--model '' is unknown"):
        load_model("")
    for read in (read_header, read_checkpoint):
        with pytest.raises(WeightsError, match="it is a file of another kind, or cut short"):
            read(find_checkpoint(run))


def test_a_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, ("raise SystemExit",)

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_checkpoint(tmp_path / "evil.ckpt")


def test_where_checkpoints_are_looked_for(tmp_path: Path) -> None:
    run = tmp_path / "2026_stage1"
    run.mkdir()
    with pytest.raises(ConfigError, match=r"holds no \*.ckpt"):
        find_checkpoint(run)
    (run / "step-000002.ckpt").touch()
    (run / "step-000010.ckpt").touch()
    assert find_checkpoint(run).name == "step-000010.ckpt"
    assert newest_run(tmp_path, 1) is None
    (run / "last.ckpt").touch()
    assert find_checkpoint(run).name == "last.ckpt"
    assert newest_run(tmp_path, 1) == run
    assert newest_run(tmp_path, 2) is None


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    with pytest.raises(WeightsError, match="no state_dict"):
        read_checkpoint(tmp_path / "other.ckpt")
    with pytest.raises(WeightsError, match="no weights under"):
        network_state({"state_dict": {"something": torch.ones(1)}})


@pytest.mark.parametrize("data", [b"", b"hello\n" * 9, b"\x89PNG\r\n\x1a\n", b"PK\x03\x04cut short"])
def test_files_of_other_kinds_are_no_checkpoints(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="it is a file of another kind, or cut short"):
        read_checkpoint(path)
