"""Composition: every option of every group, stages as diffs, refusals with the nearest right ones."""

from __future__ import annotations

import inspect
import json
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from sparkvsr.config import check_plain_path, compose_config, config_from_dict, config_text, load_config, plain
from sparkvsr.errors import ConfigError
from sparkvsr.training.resume import compose_run

FILL = ["++data.root=/x", "++data.image_root=/x", "++model.path=/x"]


def rows() -> list[tuple[str, ...]]:
    """Sets of overrides, one option of each group in each, that together take every option of every group."""
    groups = {}
    for group in resources.files("sparkvsr.conf").iterdir():
        if group.is_dir() and group.name not in ("recipe", "loss_recipe", "bench", "stage", "__pycache__"):
            names = sorted(f.name[:-5] for f in group.iterdir() if f.name.endswith(".yaml") and f.name[0] != "_")
            if names:
                groups[group.name] = names
    longest = max(len(names) for names in groups.values())
    return [
        tuple(f"{group}={names[i % len(names)]}" for group, names in sorted(groups.items())) for i in range(longest)
    ]


def targets(node: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = []
    if isinstance(node, dict):
        if "_target_" in node:
            found.append((path, node))
        for key, value in node.items():
            found += targets(value, f"{path}.{key}" if path else key)
    return found


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("row", rows(), ids=lambda row: row[2])
def test_every_option_composes_and_fits_its_constructor(row: tuple[str, ...], stage: int) -> None:
    config = plain(compose_config([f"stage={stage}", *row, *FILL]))
    for path, node in targets(config):
        module, _, name = node["_target_"].rpartition(".")
        signature = inspect.signature(getattr(import_module(module), name))
        if any(p.kind == p.VAR_KEYWORD for p in signature.parameters.values()):
            continue
        # `path` was filled in for every model above, `start_from` belongs to the experiment of another one; training
        # takes `degradation.device` for itself (sample_making.py).
        elsewhere = {"path", "start_from"} | ({"device"} if path == "degradation" else set())
        unknown = {key for key in node if not key.startswith("_")} - set(signature.parameters) - elsewhere
        assert not unknown, f"{path}: {node['_target_']} does not take {unknown}"


NAMES = ["a=b", "x (1)", "it's", "a#b", "a{b}", "wow!", "1,2", "видео", "日本", "a[1]", "a&b;c~d", 'say "x"', "a%d",
         "back\\slash", "end\\", "`x", "a\nb", " both ", "str(x)", "range(1,3)", "$HOME", "1:30"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_paths_with_signs_of_their_own_are_only_paths(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    texts = [f"data.root={folder}", f"init={folder}", f"paths.output_dir={folder}", f"data.image_root={name}"]
    config = compose_config(["data=folder", *texts])
    assert (config.data.root, config.init, config.paths.output_dir) == (str(folder),) * 3
    assert config.data.image_root == name, "relative, and not there"
    (folder / "data").mkdir()
    (folder / "data" / "mine.yaml").write_text("defaults: [folder]\nroot: /y\n")
    assert compose_config(["data=mine"], config_dir=folder).data.root == "/y"


@pytest.mark.parametrize("name", ["2024", "1e5", "true", "-1", "0x10", "1_000", "nan"])
def test_paths_that_look_like_numbers_are_paths(name: str) -> None:
    keys = ("data.root", "ckpt", "paths.output_dir", "model.start_from", "data.precompute.teacher",
            "data.precompute.shards", "keyframes.isr.upscaler")  # fmt: skip
    config = compose_config(["data=folder", *(f"{key}={name}" for key in keys)])
    assert {key: OmegaConf.select(config, key) for key in keys} == dict.fromkeys(keys, name)


def test_numbers_are_numbers() -> None:
    assert compose_config(["trainer.max_steps=2024"]).trainer.max_steps == 2024


@pytest.mark.parametrize("text", ["ckpt=", "init= ", "ckpt=''"])
def test_a_checkpoint_without_a_name_starts_no_new_run(text: str) -> None:
    with pytest.raises(ConfigError, match="names nothing"):
        compose_run([text])


@pytest.mark.parametrize("key", ["paths.output_dir", "data.root", "model.start_from"])
def test_a_path_of_a_variable_that_is_not_set_is_not_this_folder(key: str) -> None:
    for text in (f"{key}=", f"{key}= ", f"{key}=''"):
        with pytest.raises(ConfigError, match=f"{key}= names nothing"):
            compose_config(["data=folder", text])


def test_lists_and_quotes_still_mean_what_they_did() -> None:
    assert compose_config(["data=folder", "data.root='/a=b'"]).data.root == "/a=b"
    assert compose_config(["data=folder", "data.root=null", "data.image_root=/x"]).data.root is None
    with pytest.raises(ConfigError, match=r"the value of trainer\.max_steps cannot be read: \[1"):
        compose_config(["trainer.max_steps=[1"])
    with pytest.raises(
        ConfigError, match=r"root=a\$\{x\}: \$\{x\} stands for the value of another key, and there is none"
    ):
        compose_config(["data=folder", "data.root=a${x}"])
    with pytest.raises(ConfigError, match=r"^ckpt: /a\$\{x\} holds '\$\{'"):
        check_plain_path(Path("/a${x}"), "ckpt")
    with pytest.raises(ConfigError, match="names several values"):
        compose_config(["trainer.max_steps=1,2"])


def test_a_stage_is_a_diff_and_explicit_overrides_win() -> None:
    first, second = compose_config(["stage=1", "model=tiny"]), compose_config(["stage=2", "model=tiny"])
    assert (first.stage, second.stage) == (1, 2)
    assert first.loss._target_.endswith("LatentLoss")
    assert second.loss._target_.endswith("PixelLoss")
    own = compose_config(["stage=2", "loss=latent", "trainer.max_steps=99", "data.num_frames=17"])
    assert own.loss._target_.endswith("LatentLoss")
    assert (own.trainer.max_steps, own.data.num_frames) == (99, 17)


def test_what_a_model_asks_of_a_loss_follows_the_loss_that_is_chosen() -> None:
    assert compose_config(["stage=1"]).loss.kind == "charbonnier"
    second = compose_config(["stage=2"]).loss
    assert (second.kind, second.dists_weight, second.frame_difference_weight) == ("charbonnier", 0, 0.1)
    assert compose_config(["stage=2", "loss=latent"]).loss == {
        "_target_": "sparkvsr.losses.latent.LatentLoss",
        "kind": "charbonnier",
    }
    assert compose_config(["stage=2", "model=tiny"]).loss.dists_weight == 0
    assert compose_config(["stage=2", "loss.kind=mse", "loss.dists_weight=0.5"]).loss.dists_weight == 0.5
    assert "recommended" not in compose_config(["stage=2"])


def test_stored_configurations_name_things_where_they_are_now(tmp_path: Path) -> None:
    old = {
        "model": {"_target_": "sparkvsr.training.adapters.cogvideox.build_nano_adapter", "seed": 3},
        "keyframes": {
            "augmentation": {"_target_": "sparkvsr.data.references.ReferenceAugmentation"},
            "isr": {"_target_": "sparkvsr.data.references.IsrReferences", "ratio": 0.0, "folder": "???"},
        },
        "callbacks": [{"_target_": "sparkvsr.data.references.IsrReferences"}, None],
        "loss": {"_target_": "sparkvsr.losses.latent.LatentLoss"},
        "logger": {},
        "init": None,
    }
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(old))
    for config in (config_from_dict(old), load_config(file)):
        assert config.model._target_ == "sparkvsr.training.adapters.nano.build_nano_adapter"
        assert config.keyframes.isr._target_ == "sparkvsr.data.keyframe_images.IsrReferences"
        assert config.callbacks[0]._target_ == "sparkvsr.data.keyframe_images.IsrReferences"
        assert config.loss._target_ == "sparkvsr.losses.latent.LatentLoss"
        for _, node in targets({"keyframes": plain(config.keyframes.augmentation), "model": plain(config.model)}):
            module, _, name = node["_target_"].rpartition(".")
            assert callable(getattr(import_module(module), name))


def test_the_papers_numbers() -> None:
    first = compose_config(["stage=1", "model=cogvideox", "model.path=/x"])
    assert plain(first.data.crop) == [320, 640]
    assert (first.data.num_frames, first.trainer.max_steps, first.optimizer.learning_rate) == (33, 10_000, 2e-5)
    second = compose_config(["stage=2", "model=cogvideox", "model.path=/x"])
    assert (second.data.num_frames, second.trainer.max_steps, second.optimizer.learning_rate) == (2, 500, 5e-6)
    assert (second.data.image_ratio, second.loss.dists_weight, second.loss.frame_difference_weight) == (0.5, 1, 1)
    assert second.trainer.gradient_clip_val == 0.1
    assert plain(second.optimizer.build.betas) == [0.9, 0.95]


def test_lite_needs_no_perceptual_weights() -> None:
    assert compose_config(["stage=2"]).loss.dists_weight == 0


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["trainer.max_step=5"], r"trainer.max_steps"),
        (["max_steps=5"], r"trainer.max_steps"),
        (["optimizer.lr=1"], r"did you mean optimizer.learning_rate"),
        (["loss.dist_weight=1"], r"did you mean loss.dists_weight \(of stage=2\)"),
        (["model=cogvideox"], r"model.path=\.\.\."),
        (["sed=5"], r"did you mean seed"),
        (["modle=lite"], r"model"),
        (["model=lit"], r"did you mean lite\? there is cogvideox, detail, lite, tiny"),
        (["stage=3"], r"there is 1, 2"),
        (["trainer=2"], r"there is auto, cpu"),
        (["~nothing"], r"nothing"),
        (["trainer.max_steps=abc"], r"abc is not a whole number"),
        (["data.augment=3"], r"true or false"),
        (["data.crop=64"], r"a list like"),
        (["optimizer.learning_rate=fast"], r"is not a number"),
        (["data=folder"], r"data.root=\.\.\."),
        (["stage=1,2"], r"train --multirun makes one run of each"),
        (["just words"], r"cannot be read"),
        (["hydra.run.dir=x"], r"--config-dir"),
    ],
)
def test_wrong_overrides_name_the_nearest_right_ones(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        compose_config(overrides)
    assert "\n" not in str(caught.value)


def test_own_groups_come_from_config_dir(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text("defaults:\n  - synthetic\n  - _self_\nnum_workers: 7\n")
    assert compose_config(["data=mine"], config_dir=tmp_path).data.num_workers == 7
    with pytest.raises(ConfigError, match="no such folder"):
        compose_config([], config_dir=tmp_path / "nothing")


def test_the_text_has_no_interpolation_left() -> None:
    text = config_text(compose_config(["stage=2"]))
    assert "${" not in text
    assert "stage: 2" in text
