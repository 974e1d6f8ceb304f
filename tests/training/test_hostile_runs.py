"""Runs, checkpoints and model folders from strangers are data: payloads that only touch a file are never run."""

from __future__ import annotations

import copy
import importlib.util
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from lightning.pytorch.strategies import SingleDeviceStrategy

from sparkvsr.config import compose_config, plain
from sparkvsr.errors import ConfigError, EncodeError, SparkVSRError, WeightsError
from sparkvsr.output_lock import OutputLock
from sparkvsr.training.checkpoints import load_network_state, read_header
from sparkvsr.training.export import export_model
from sparkvsr.training.resume import check_kind, compose_run
from sparkvsr.training.trusted_targets import check_targets

from .conftest import SMALL, SMALL_LITE

TRAIN_FSDP = ("trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=1", "trainer.precision=32-true")
TRAIN_ZERO = ("trainer=deepspeed", "trainer.accelerator=cpu", "trainer.devices=1", "trainer.precision=32-true")
WEIGHTS = {"adapter.network.weight": torch.ones(2)}


class Payload:
    """Touches a file when it is unpickled, and nothing else."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.marker,)


def test_the_payload_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def in_file(folder: Path, evil: Payload) -> Path:
    torch.save({"state_dict": WEIGHTS, "sparkvsr": evil}, folder / "last.ckpt")
    return folder


def in_plain_pickle(folder: Path, evil: Payload) -> Path:
    (folder / "last.ckpt").write_bytes(pickle.dumps(evil))
    return folder


def sharded(folder: Path, values: dict[str, Any] | None = None) -> Path:
    """A sharded checkpoint as a run writes it."""
    shards = folder / "last.ckpt"
    dcp.save({"state_dict": dict(WEIGHTS), **(values or {})}, checkpoint_id=shards, no_dist=True)
    torch.save({"global_step": 3}, shards / "meta.pt")
    return shards


def in_fsdp_metadata(folder: Path, evil: Payload) -> Path:
    (sharded(folder) / ".metadata").write_bytes(pickle.dumps(evil))
    return folder


def in_fsdp_metadata_field(folder: Path, evil: Payload) -> Path:
    file = sharded(folder) / ".metadata"
    metadata = pickle.loads(file.read_bytes())
    metadata.planner_data["model"] = evil
    file.write_bytes(pickle.dumps(metadata))
    return folder


def in_fsdp_shard(folder: Path, evil: Payload) -> Path:
    sharded(folder, {"optimizer_0": {"param_groups": evil}})
    return folder


def in_fsdp_meta_file(folder: Path, evil: Payload) -> Path:
    torch.save({"global_step": 3, "sparkvsr": evil}, sharded(folder) / "meta.pt")
    return folder


def deepspeed(folder: Path, model: Any, optimizer: Any) -> Path:
    tagged = folder / "last.ckpt" / "checkpoint"
    tagged.mkdir(parents=True)
    (folder / "last.ckpt" / "latest").write_text("checkpoint")
    torch.save(model, tagged / "mp_rank_00_model_states.pt")
    torch.save(optimizer, tagged / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    return folder


def in_deepspeed_model(folder: Path, evil: Payload) -> Path:
    return deepspeed(folder, {"module": WEIGHTS, "sparkvsr": evil}, {})


def in_deepspeed_optimizer(folder: Path, evil: Payload) -> Path:
    half = {name: tensor.half() for name, tensor in WEIGHTS.items()}
    return deepspeed(folder, {"module": half, "global_step": 1}, {"optimizer_state_dict": evil})


WAYS = [
    in_file,
    in_plain_pickle,
    in_fsdp_metadata,
    in_fsdp_metadata_field,
    in_fsdp_shard,
    in_fsdp_meta_file,
    in_deepspeed_model,
    in_deepspeed_optimizer,
]


class DefaultTrainer:
    """What `check_kind` looks at, of the trainer that nobody chose."""

    strategy = SingleDeviceStrategy()


@pytest.mark.parametrize("entry", ["export", "init", "ckpt"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_run_folder_of_a_stranger_runs_nothing(
    tmp_path: Path, way: Callable[[Path, Payload], Path], entry: str
) -> None:
    run, marker = tmp_path / "foreign", tmp_path / "ran"
    run.mkdir()
    checkpoint = way(run, Payload(marker)) / "last.ckpt"

    def enter() -> None:
        if entry == "export":
            export_model(run, tmp_path / "out")
        elif entry == "init":
            load_network_state(run, None)  # type: ignore[arg-type]  # no model folder, so the adapter is not asked
        else:
            check_kind(read_header(checkpoint), DefaultTrainer, checkpoint)  # type: ignore[arg-type]

    with pytest.raises(SparkVSRError) as caught:
        enter()
    assert not marker.exists()
    assert not (tmp_path / "out").exists()
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    ("way", "trainer"),
    [(in_fsdp_metadata, TRAIN_FSDP), (in_fsdp_metadata_field, TRAIN_FSDP), (in_fsdp_shard, TRAIN_FSDP)]
    + ([(in_deepspeed_optimizer, TRAIN_ZERO)] if importlib.util.find_spec("deepspeed") else []),
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_going_on_by_the_strategy_that_reads_such_folders_runs_nothing(
    tmp_path: Path, way: Callable[[Path, Payload], Path], trainer: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The strategy's own reading, which Lightning and DeepSpeed do."""
    from lightning.pytorch.strategies import DeepSpeedStrategy, ModelParallelStrategy

    from sparkvsr.training.build import build
    from sparkvsr.training.strategies import ShardedStrategy

    marker = tmp_path / "ran"
    checkpoint = way(tmp_path, Payload(marker)) / "last.ckpt"
    strategy = build(compose_config([*trainer]).trainer.strategy, "trainer.strategy")

    def read(self: object, path: Path, weights_only: bool | None = None) -> dict[str, Any]:
        """What the packages do with such a folder."""
        if isinstance(self, ShardedStrategy):
            state: dict[str, Any] = {"optimizer_0": {"param_groups": 1}}
            dcp.load(state, checkpoint_id=path, no_dist=True)
        else:
            torch.load(next((path / "checkpoint").glob("*optim_states.pt")), weights_only=False)
        return {}

    base = ModelParallelStrategy if isinstance(strategy, ShardedStrategy) else DeepSpeedStrategy
    monkeypatch.setattr(base, "load_checkpoint", read)
    with pytest.raises(WeightsError):
        strategy.load_checkpoint(checkpoint, weights_only=True)
    assert not marker.exists()


def test_a_shard_cannot_be_read_from_outside_the_folder(tmp_path: Path) -> None:
    import dataclasses

    file = sharded(tmp_path) / ".metadata"
    metadata = pickle.loads(file.read_bytes())
    metadata.storage_data = {
        key: dataclasses.replace(place, relative_path="../../other") for key, place in metadata.storage_data.items()
    }
    file.write_bytes(pickle.dumps(metadata))
    with pytest.raises(WeightsError, match="points out of its folder"):
        export_model(tmp_path, tmp_path / "out")


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    """The configuration of a small run, as plain values."""
    config: dict[str, Any] = plain(compose_config([*SMALL_LITE]))
    return config


def checkpoint_with(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A run of `lite` whose stored configuration was changed."""
    from sparkvsr.training.build import build_adapter

    composed = compose_config([*SMALL_LITE])
    config = plain(composed)
    state = {f"adapter.network.{key}": value for key, value in build_adapter(composed).network.state_dict().items()}
    change(config)
    folder.mkdir(exist_ok=True)
    torch.save({"state_dict": state, "global_step": 2, "sparkvsr": {"config": config}}, folder / "last.ckpt")
    return folder


def set_target(key: str, name: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        *parents, last = key.split(".")
        node = config
        for parent in parents:
            node = node[parent]
        node[last] = {"_target_": name, **values}

    return change


@pytest.mark.parametrize(
    "key", ["model", "model.propagator", "model.cases", "loss", "degradation", "logger.csv", "seed", "optimizer.build"]
)
def test_a_stored_configuration_chooses_no_code(small: dict[str, Any], key: str) -> None:
    own = "sparkvsr.losses.pixel.PixelLoss"
    for name in (
        "pathlib.Path.touch",
        "os.system",
        "torch.load",
        "torch.hub.load",
        "torch.save",
        "torch.nn.modules.module.os.system",
        "torch.utils.cpp_extension.load",
        "torchvision.models.resnet18",
        "kornia.feature.DISK",
        "diffusers.DiffusionPipeline.from_pretrained",
        "lightning.pytorch.Trainer.save_checkpoint",
        "sparkvsr.training.export.export_model",
        "sparkvsr.training.run.write_records",
        "sparkvsr.data.skips.SkipReport",
        "hydra.utils.call",
    ):
        config = copy.deepcopy(small)
        set_target(key, name)(config)
        with pytest.raises(ConfigError, match="may not choose which code is run"):
            check_targets(config, "x", advice="")
        config = copy.deepcopy(small)
        set_target(key, own, deep=[{"deeper": {"_target_": name}}])(config)
        with pytest.raises(ConfigError, match="may not choose which code is run"):
            check_targets(config, "x", own=[own], advice="")


@pytest.mark.parametrize("beside", [False, True], ids=["in the checkpoint", "config.yaml"])
def test_export_of_such_a_run_writes_nothing(tmp_path: Path, beside: bool) -> None:
    marker = tmp_path / "ran"
    evil = set_target("model", "pathlib.Path.write_text", self=str(marker), data="ran")
    run = checkpoint_with(tmp_path / "run", evil)
    if beside:
        from omegaconf import OmegaConf

        kept = torch.load(run / "last.ckpt", weights_only=True)
        OmegaConf.save(OmegaConf.create(kept["sparkvsr"].pop("config")), run / "config.yaml")
        torch.save(kept, run / "last.ckpt")
    with pytest.raises(ConfigError, match=r"model names 'pathlib.Path.write_text'.*--trust-target pathlib"):
        export_model(run, tmp_path / "out")
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


def test_export_reads_no_secrets_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    run = checkpoint_with(tmp_path / "run", lambda config: config.update(init="${oc.env:SECRET}"))
    with pytest.raises(ConfigError, match="no plain value"):
        export_model(run, tmp_path / "out")


def test_own_code_is_exported_when_the_user_names_it(tmp_path: Path) -> None:
    name = "sparkvsr.training.adapters.lite.LiteAdapter"
    run = checkpoint_with(tmp_path / "run", lambda config: None)
    with OutputLock(tmp_path / "out"), pytest.raises(EncodeError, match="another sparkvsr writes"):
        export_model(run, tmp_path / "out")
    assert export_model(run, tmp_path / "out").is_dir()
    run = checkpoint_with(tmp_path / "own", set_target("model", name))
    with pytest.raises(ConfigError, match=f"--trust-target {name}"):
        export_model(run, tmp_path / "out2")
    with pytest.raises(ConfigError, match="missing"):  # now it is called, and this one needs arguments
        export_model(run, tmp_path / "out2", own_targets=[name])


def started_with(folder: Path, *overrides: str, config_dir: str | None = None) -> Path:
    """A checkpoint of a run that was started with these."""
    folder.mkdir(exist_ok=True)
    origin = {"overrides": list(overrides), "config_dir": config_dir}
    torch.save({"state_dict": WEIGHTS, "global_step": 1, "sparkvsr": {"origin": origin}}, folder / "last.ckpt")
    return folder / "last.ckpt"


def test_a_run_of_a_newer_version_is_named_as_such(tmp_path: Path) -> None:
    checkpoint = started_with(tmp_path / "run", *SMALL_LITE, "model.attention_heads=4")
    with pytest.raises(ConfigError, match=r"last\.ckpt cannot be .*unknown key 'model\.attention_heads'.* written by"):
        compose_run([f"ckpt={checkpoint}"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model._target_=os.system", r"type it again \(model._target_=os.system\)"),
        ("+degradation.deep={_target_:os.system}", "degradation.deep"),
        ("loss._target_=torch.load", "torch.load"),
        ("keyframes.isr.upscaler='command:touch /x'", "keyframes.isr.upscaler"),
        ("keyframes.isr.upscaler='http://127.0.0.1/'", "keyframes.isr.upscaler"),
        ("logger.csv.save_dir=/etc", "outside its run folder"),
        ("logger.csv.version='../../x'", "outside its run folder"),
        ("logger.csv._target_=lightning.pytorch.loggers.WandbLogger", "WandbLogger"),
        ("logger=wandb", "type logger=wandb to allow it"),
        ("keyframes.isr.folder=${oc.env:HOME}", "environment"),
        ("hydra.searchpath=[file:///x]", "Hydra's own settings"),
    ],
)
def test_a_checkpoint_to_go_on_with_chooses_no_code(tmp_path: Path, override: str, words: str) -> None:
    checkpoint = started_with(tmp_path / "run", *SMALL_LITE, override)
    with pytest.raises(ConfigError, match=words):
        compose_run([f"ckpt={checkpoint}"])
    if "hydra" not in override and "environment" not in words:
        config, _ = compose_run([f"ckpt={checkpoint}", override])  # typed, it is the user's own choice
        assert config.ckpt == str(checkpoint)


def test_a_folder_of_configurations_counts_as_own_only_where_it_is_named(tmp_path: Path) -> None:
    own = tmp_path / "conf"
    (own / "model").mkdir(parents=True)
    (own / "model" / "mine.yaml").write_text("_target_: mine.build\n")
    (own / "data").mkdir()
    (own / "data" / "mine.yaml").write_text("defaults:\n  - synthetic\n  - _self_\nnum_workers: 7\n")
    checkpoint = started_with(tmp_path / "run", "model=mine", "data=mine", config_dir=str(own))
    with pytest.raises(ConfigError, match=r"names 'mine.build'.*by --config-dir"):
        compose_run([f"ckpt={checkpoint}"])
    config, _ = compose_run([f"ckpt={checkpoint}"], own)
    assert config.model._target_ == "mine.build"
    # Values alone need no naming.
    checkpoint = started_with(tmp_path / "run", "data=mine", config_dir=str(own))
    assert compose_run([f"ckpt={checkpoint}"])[0].data.num_workers == 7


def test_everything_that_is_shipped_may_be_stored() -> None:
    from .test_config import FILL, rows

    for stage in (1, 2):
        for row in rows():
            check_targets(compose_config([f"stage={stage}", *row, *FILL]), "x", advice="")
    own = plain(compose_config([]))
    own["optimizer"]["build"]["_target_"] = "torch.optim.SGD"
    own["optimizer"]["schedule"]["_target_"] = "torch.optim.lr_scheduler.CosineAnnealingLR"
    own["trainer"]["strategy"] = {"_target_": "lightning.pytorch.strategies.DDPStrategy"}
    own["degradation"] = {
        "_target_": "sparkvsr.degradation.mixed.MixedDegradation",
        "parts": {"a": {"_target_": "sparkvsr.degradation.bicubic.BicubicDegradation"}},
        "after": [{"_target_": "torchvision.transforms.GaussianBlur"}, {"_target_": "torch.nn.Identity"}],
    }
    check_targets(own, "x", advice="")


def test_a_folder_checkpoint_with_another_trainer_is_one_line(train_small: Callable[..., Any], tmp_path: Path) -> None:
    sharded(tmp_path)
    with pytest.raises(ConfigError, match=r"written by trainer=fsdp, this run has trainer=cpu, gpu or ddp.*init="):
        train_small("stage=1", *SMALL, "logger=none", "trainer.max_steps=4", f"ckpt={tmp_path / 'last.ckpt'}")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@pytest.mark.parametrize("suffix", [".pt", ".PT", ".pth", ".ckpt"])
def test_a_torchscript_archive_is_not_run(tmp_path: Path, suffix: str) -> None:
    from sparkvsr.keyframes.references import make_reference_maker

    class Program(torch.nn.Module):
        def __init__(self, marker: str) -> None:
            super().__init__()
            self.marker, self.w = marker, torch.zeros(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

        @torch.jit.export
        def __getstate__(self):  # type: ignore[no-untyped-def]
            return (self.marker, self.w, self.training)

        @torch.jit.export
        def __setstate__(self, state: tuple[str, torch.Tensor, bool]):  # type: ignore[no-untyped-def]
            self.marker = state[0]
            self.training = state[2]
            self.w = torch.from_file(state[0], True, 4)

    marker = tmp_path / "ran"
    path = tmp_path / f"program{suffix}"
    torch.jit.script(Program(str(marker))).save(str(path))
    torch.jit.load(str(path))
    assert marker.exists()  # the payload works
    marker.unlink()
    with pytest.raises(WeightsError):
        make_reference_maker(str(path))
    with pytest.raises(WeightsError):
        export_model(path, tmp_path / "out")
    assert not marker.exists()


def test_model_and_data_folders_of_strangers_run_nothing(tmp_path: Path) -> None:
    from sparkvsr.data.keyframe_images import IsrReferences
    from sparkvsr.models.cogvideox.networks.lora_files import merge_lora
    from sparkvsr.models.registry import load_model

    marker = tmp_path / "ran"
    evil = pickle.dumps(Payload(marker))
    model = tmp_path / "model"
    model.mkdir()
    for name in ("propagator.safetensors", "keyframe_upscaler.safetensors", "lora.safetensors"):
        (model / name).write_bytes(evil)
    with pytest.raises(SparkVSRError):
        load_model(model)
    with pytest.raises(SparkVSRError):
        merge_lora(torch.nn.Linear(2, 2), model / "lora.safetensors")
    # A cached reference that holds objects.
    isr = IsrReferences(1.0, "bicubic", tmp_path / "cache")
    lr = torch.zeros(1, 3, 8, 8)
    isr.make(lr, (16, 16))
    (cached,) = (tmp_path / "cache").rglob("*.npy")
    np.save(cached, np.array([Payload(marker)], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="pickle"):
        isr.make(lr, (16, 16))
    assert not marker.exists()


@pytest.mark.parametrize("index", [{"_class_name": ["evil", "Pipe"]}, {"_class_name": "X", "unet": ["evil", "Net"]}])
def test_a_pipeline_that_brings_code_is_refused(
    tmp_path: Path, index: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    from sparkvsr.models.image_pipeline import load_image_pipeline

    (tmp_path / "evil.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "evil.py").write_text((tmp_path / "evil.py").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(WeightsError, match="code that the folder brings along"):
        load_image_pipeline(str(tmp_path))
    assert not (tmp_path / "ran").exists()
