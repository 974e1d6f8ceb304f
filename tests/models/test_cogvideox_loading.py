"""Folders, shards, LoRAs, number types, the prompt embedding, the hub; and each refusal with its words."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from cogvideox_nano import TEXT_DIM, TOKENS, TRANSFORMER, VAE, moving_gradient, one_thread, write_nano  # noqa: F401
from safetensors.torch import load_file, save_file

from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.models.cogvideox import load, load_cogvideox
from sparkvsr.models.cogvideox.networks.hub import local_models
from sparkvsr.models.cogvideox.networks.lora_files import merge_lora
from sparkvsr.models.cogvideox.networks.precision import Int8Linear, choose_precision
from sparkvsr.models.cogvideox.networks.prompt import (
    EMBEDDING_FILE,
    EMBEDDING_FOLDER,
    EMBEDDING_KEY,
    load_prompt_embedding,
)
from sparkvsr.models.cogvideox.networks.weight_files import build_transformer, load_weights, open_folder
from sparkvsr.models.cogvideox.offload import Residency

WEIGHTS = "diffusion_pytorch_model.safetensors"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nano(tmp_path_factory.mktemp("nano") / "model")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(original, tmp_path / "model"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite(path: Path, change: Any) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


# --- what loads ---


def test_sharded_and_single_files_load_alike(original: Path, tmp_path: Path) -> None:
    sharded = load_cogvideox(write_nano(tmp_path / "sharded", shards=3))
    single = load_cogvideox(original)
    for name, tensor in single.pipeline.transformer.state_dict().items():
        assert torch.equal(sharded.pipeline.transformer.state_dict()[name], tensor)
    assert sharded.name == "sharded"
    assert sharded.dtype is torch.float32


def test_weights_are_cast_as_they_come_and_nothing_stays_on_meta(original: Path) -> None:
    model = load_cogvideox(original, precision="bf16")
    for network in (model.pipeline.transformer, model.pipeline.vae.vae):
        for tensor in network.state_dict().values():
            assert tensor.dtype is torch.bfloat16
            assert tensor.device.type == "cpu"
    lr = moving_gradient(9, 8, 8)
    exact = load_cogvideox(original).restore(lr, scale=2)
    # bf16 has 8 bits; the same picture within a few of its steps.
    assert (model.restore(lr, scale=2) - exact).abs().mean() < 0.03


def test_loading_makes_no_second_copy(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what was read, one tensor at a time is there beside the parameters."""
    from sparkvsr.models.cogvideox.networks import weight_files as loading

    read: list[weakref.ref[torch.Tensor]] = []
    original_tensors = loading._tensors

    def watched(shard: Path) -> Any:
        for name, tensor in original_tensors(shard):
            read.append(weakref.ref(tensor))
            assert sum(one() is not None for one in read) <= 2  # the last one, and this
            yield name, tensor

    monkeypatch.setattr(loading, "_tensors", watched)
    checked = open_folder(original)
    network = load_weights(build_transformer(checked.transformer), checked.shards["transformer"], torch.float32)
    assert len(read) == len(network.state_dict())


def test_the_import_is_light() -> None:
    code = "import sys, sparkvsr.models.cogvideox; print('diffusers' in sys.modules, 'transformers' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


def test_local_models_lists_folders_without_reading_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "vae" / WEIGHTS).unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-cache"))
    models = {model.path.name: model for model in local_models([tmp_path, tmp_path / "model", tmp_path / "missing"])}
    assert set(models) == {"model", "broken"}
    assert models["model"].usable
    assert models["model"].size_bytes > 100_000
    assert models["model"].parameters > 10_000
    assert "GiB" in models["model"].needs
    assert not models["broken"].usable
    assert "no weights" in models["broken"].needs


def test_fingerprint_changes_with_weights_and_options(folder: Path) -> None:
    first = load_cogvideox(folder).fingerprint()
    assert load_cogvideox(folder).fingerprint() == first
    assert load_cogvideox(folder, colour="none").fingerprint() != first
    assert load_cogvideox(folder, slot="exact").fingerprint() != first
    assert load_cogvideox(folder, carry=False).fingerprint() != first
    loaded = load_cogvideox(folder)
    rewrite(folder / "transformer" / WEIGHTS, lambda tensors: tensors["proj_out.bias"].add_(1))
    second = load_cogvideox(folder).fingerprint()
    assert second != first
    assert loaded.fingerprint() == first  # of what was read, whatever lies there now
    rewrite(folder / EMBEDDING_FOLDER / EMBEDDING_FILE, lambda tensors: tensors[EMBEDDING_KEY].add_(1))
    assert load_cogvideox(folder).fingerprint() not in (first, second)


def test_a_loaded_model_does_not_hang_on_its_files(folder: Path) -> None:
    """What safetensors gives is the file itself: cut short in use, it would end the process."""
    path = folder / "transformer" / WEIGHTS
    bias = load_file(path)["proj_out.bias"].clone()
    network = load_weights(build_transformer(TRANSFORMER), (path,), bias.dtype)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(network.proj_out.bias, bias)


def test_weights_that_change_while_they_are_read_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = load.build_vae

    def change_and_build(config: dict[str, Any]) -> Any:
        rewrite(folder / "transformer" / WEIGHTS, lambda tensors: tensors["proj_out.bias"].add_(1))
        return build(config)

    monkeypatch.setattr(load, "build_vae", change_and_build)
    with pytest.raises(WeightsError, match="was changed while it was read"):
        load_cogvideox(folder)


# --- folders that do not ---


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: shutil.rmtree(f), "does not exist; it needs transformer/"),
        (lambda f: shutil.rmtree(f / "transformer"), "is not a model folder: transformer/config.json is missing"),
        (lambda f: (f / "vae" / WEIGHTS).unlink(), "vae has no weights"),
        (lambda f: (f / "vae" / "config.json").unlink(), "vae/config.json is missing"),
        (lambda f: (f / "scheduler" / "scheduler_config.json").write_text("{"), "cannot be read as a JSON object"),
        (lambda f: (f / "scheduler" / "scheduler_config.json").write_text("[]"), "it holds a list, not an object"),
        (lambda f: edit(f / "transformer" / "config.json", in_channels=16), "this is the text-to-video base"),
        (lambda f: edit(f / "transformer" / "config.json", in_channels=48), "has in_channels=48, SparkVSR needs 32"),
        (lambda f: edit(f / "transformer" / "config.json", patch_size_t=None), "has patch_size_t=None"),
        (lambda f: edit(f / "transformer" / "config.json", _class_name="WanTransformer3DModel"), "of class WanTrans"),
        (
            lambda f: edit(f / "transformer" / "config.json", use_rotary_positional_embeddings=False),
            "has no rotary embedding",
        ),
        (lambda f: edit(f / "vae" / "config.json", latent_channels=4), "has latent_channels=4, SparkVSR needs 16"),
        (lambda f: edit(f / "transformer" / "config.json", num_layers=3), "missing tensors .transformer_blocks.2"),
        (lambda f: edit(f / "transformer" / "config.json", num_layers=1), "unexpected tensors .transformer_blocks.1"),
        (lambda f: edit(f / "transformer" / "config.json", time_embed_dim=8), "config.json asks for"),
        (lambda f: (f / "transformer" / WEIGHTS).write_bytes(b"damaged"), "cannot be read as safetensors"),
        (lambda f: (f / EMBEDDING_FOLDER / EMBEDDING_FILE).write_bytes(b"damaged"), "delete it or copy it again"),
        (
            lambda f: save_file({"other": torch.zeros(2)}, f / EMBEDDING_FOLDER / EMBEDDING_FILE),
            "it needs the key 'prompt_embedding'",
        ),
        (
            lambda f: save_file({EMBEDDING_KEY: torch.zeros(77, 16)}, f / EMBEDDING_FOLDER / EMBEDDING_FILE),
            r"the prompt embedding is \(77, 16\); this transformer needs \(4, 16\)",
        ),
        (lambda f: shutil.rmtree(f / EMBEDDING_FOLDER), "nor a text_encoder/ to compute it with"),
    ],
)
def test_a_broken_folder_is_refused_in_one_line(
    spoil: Any, words: str, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spoil(folder)
    with pytest.raises(WeightsError, match=words) as caught:
        load_cogvideox(folder)
    assert str(folder) in str(caught.value)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = write_nano(tmp_path / "model", shards=3)
    (folder / "transformer" / "diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"lacks 1 of 3 shards \(diffusion_pytorch_model-00002-of-00003"):
        load_cogvideox(folder)


def test_the_hub_out_of_reach_says_what_to_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="could not be fetched from the hub") as caught:
        load_cogvideox("owner/sparkvsr-weights-that-are-not-here")
    assert "scheduler/scheduler_config.json" in str(caught.value)


# --- options ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "fp4"}, "precision='fp4' is unknown; use bf16"),
        ({"precision": "bf16", "dtype": torch.float32}, "contradicts dtype"),
        ({"dtype": torch.float64}, "is not supported"),
        ({"offload": "disk"}, "offload='disk' is unknown; use auto"),
        ({"vae_tiling": "yes"}, "vae_tiling='yes' is unknown; use auto, on, off"),
        ({"colour": "grey"}, "colour='grey' is unknown; use none"),
        ({"slot": "ceil"}, "slot='ceil' is unknown; use 'floor'"),
    ],
)
def test_unknown_options_are_refused(options: dict[str, Any], words: str, original: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        load_cogvideox(original, **options)


def test_a_type_the_device_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    cuda = torch.device("cuda")
    with pytest.raises(ConfigError, match="cuda has no bfloat16; use precision fp16 or fp32"):
        choose_precision("bf16", None, cuda)
    assert choose_precision(None, None, cuda).dtype is torch.float16
    with pytest.raises(ConfigError, match="cannot hold fp8 weights"):
        choose_precision("fp8", torch.float16, torch.device("mps"))
    assert choose_precision(None, None, CPU).name == "fp32"


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_eight_bit_weights_stay_close(precision: str, original: Path) -> None:
    model = load_cogvideox(original, precision=precision, dtype=torch.float32, colour="none")
    weights = model.pipeline.transformer.state_dict()
    small = torch.int8 if precision == "int8" else torch.float8_e4m3fn
    assert weights["transformer_blocks.1.attn1.to_q.weight"].dtype is small
    assert weights["transformer_blocks.1.ff.net.2.weight"].dtype is small
    assert weights["transformer_blocks.1.norm1.linear.weight"].dtype is torch.float32
    assert weights["patch_embed.proj.weight"].dtype is torch.float32
    lr = moving_gradient(9, 8, 8)
    exact = load_cogvideox(original, colour="none").restore(lr, scale=2)
    restored = model.restore(lr, scale=2)
    assert not torch.equal(restored, exact)
    # int8 keeps 7 bits of each row's largest weight, fp8 three bits of every weight.
    assert (restored - exact).abs().max() < (0.02 if precision == "int8" else 0.08)


def test_int8_linear_is_within_half_a_step() -> None:
    linear = torch.nn.Linear(32, 8)
    values = torch.eye(32)
    difference = (Int8Linear(linear)(values) - linear(values)).abs()
    assert (difference <= linear.weight.abs().amax(1) / 127 / 2 + 1e-6).all()


def test_offload_on_the_cpu_is_a_note(original: Path) -> None:
    model = load_cogvideox(original, offload="model")
    assert model.residency.notes == ("offload model: nothing to do on the CPU",)
    plan = model.plan((8, 8), (16, 16), 9, guided_passes=1, memory_bytes=4 << 30)
    assert model.residency.notes[0] in plan.notes


def test_swapping_keeps_one_network_on_the_device() -> None:
    class Recorder(torch.nn.Module):
        home = "cpu"

        def to(self, device: Any) -> Any:  # type: ignore[override]
            self.home = torch.device(device).type
            return self

    networks = {"transformer": Recorder(), "vae": Recorder()}
    residency = Residency(networks, torch.device("cuda"), "auto")
    assert residency.can_swap
    with residency("vae", False):
        assert networks["vae"].home == "cuda"
    with residency("transformer", True):
        assert (networks["transformer"].home, networks["vae"].home) == ("cuda", "cpu")
    with residency("vae", True):
        assert (networks["transformer"].home, networks["vae"].home) == ("cpu", "cuda")


# --- LoRA ---


def lora_tensors(prefix: str, down: str = "lora_A", up: str = "lora_B") -> dict[str, torch.Tensor]:
    name = f"{prefix}transformer_blocks.0.attn1.to_q"
    return {f"{name}.{down}.weight": torch.ones(2, 32), f"{name}.{up}.weight": torch.full((32, 2), 0.5)}


@pytest.mark.parametrize("prefix", ["transformer.", "base_model.model.", ""])
def test_loras_are_merged(prefix: str, original: Path, tmp_path: Path) -> None:
    save_file(lora_tensors(prefix), tmp_path / "lora.safetensors")
    key = "transformer_blocks.0.attn1.to_q.weight"
    plain = load_cogvideox(original).pipeline.transformer.state_dict()[key]
    model = load_cogvideox(original, lora=[tmp_path / "lora.safetensors"])
    assert torch.allclose(model.pipeline.transformer.state_dict()[key], plain + 1.0)
    assert model.fingerprint() != load_cogvideox(original).fingerprint()


def test_alpha_scales_a_lora(original: Path, tmp_path: Path) -> None:
    key = "transformer_blocks.0.attn1.to_q"
    checked = open_folder(original)

    def merged(folder: Path, tensors: dict[str, torch.Tensor]) -> float:
        network = load_weights(build_transformer(checked.transformer), checked.shards["transformer"], torch.float32)
        before = network.get_submodule(key).weight.clone()  # type: ignore[operator]
        save_file(tensors, folder / "lora.safetensors")
        assert merge_lora(network, folder / "lora.safetensors") == 1
        return float((network.get_submodule(key).weight - before).mean())  # type: ignore[operator]

    down_up = lora_tensors("", "lora_down", "lora_up")
    assert merged(tmp_path, {**down_up, f"{key}.alpha": torch.tensor(4.0)}) == pytest.approx(2.0, abs=1e-5)
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 1}')
    assert merged(tmp_path, down_up) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"weight": torch.zeros(2)}, "holds no LoRA"),
        ({"unet.down.lora_A.weight": torch.zeros(2, 2)}, "changes 1 layers this transformer lacks .unet.down"),
        ({"transformer_blocks.0.attn1.to_q.lora_A.weight": torch.zeros(2, 32)}, "has only one of its two"),
        (
            {
                "transformer_blocks.0.attn1.to_q.lora_A.weight": torch.zeros(2, 8),
                "transformer_blocks.0.attn1.to_q.lora_B.weight": torch.zeros(32, 2),
            },
            "it was made for another model",
        ),
    ],
)
def test_loras_that_do_not_fit_are_refused(
    tensors: dict[str, torch.Tensor], words: str, original: Path, tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(WeightsError, match=words):
        load_cogvideox(original, lora=[tmp_path / "lora.safetensors"])


def test_lora_files_that_cannot_be_read(original: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        load_cogvideox(original, lora=[tmp_path / "none.safetensors"])
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        load_cogvideox(original, lora=[tmp_path / "bad.safetensors"])


# --- prompt embedding ---


def test_the_embedding_is_computed_once_and_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import T5Config, T5EncoderModel

    shutil.rmtree(folder / EMBEDDING_FOLDER)
    config = T5Config(
        vocab_size=16, d_model=TEXT_DIM, d_kv=4, d_ff=8, num_layers=1, num_heads=2, tie_word_embeddings=False
    )
    T5EncoderModel(config).save_pretrained(folder / "text_encoder")
    embedding = load_prompt_embedding(folder, TOKENS, TEXT_DIM, cache=tmp_path / "cache")
    assert embedding.shape == (TOKENS, TEXT_DIM)
    assert not torch.equal(embedding[0], embedding[1]), "the first token ends the sequence, the others pad it"

    def never(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("the text encoder must not be loaded again")

    monkeypatch.setattr(T5EncoderModel, "from_pretrained", never)
    again = load_prompt_embedding(folder, TOKENS, TEXT_DIM, cache=tmp_path / "cache")
    assert torch.equal(again, embedding)
    assert (folder / EMBEDDING_FOLDER / EMBEDDING_FILE).is_file()


def test_a_broken_text_encoder_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / EMBEDDING_FOLDER)
    (folder / "text_encoder").mkdir()
    (folder / "text_encoder" / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="cannot be loaded as a T5 encoder"):
        load_prompt_embedding(folder, TOKENS, TEXT_DIM, cache=tmp_path / "cache")


def test_configs_of_the_fixture_are_the_real_ones_but_for_sizes(shared_dir: Path) -> None:
    """The nano model must not drift from the structure it stands for."""
    real = shared_dir / "golden" / "cogvideox1.5-5b-i2v"
    for name, nano in (("transformer", TRANSFORMER), ("vae", VAE)):
        config = json.loads((real / name / "config.json").read_text())
        assert set(nano) <= set(config)


def test_sequential_offload_without_accelerate_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparkvsr.models.cogvideox.offload import Residency

    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ConfigError, match=r"needs the package accelerate; pip install 'sparkvsr\[cogvideox\]'"):
        Residency({"vae": torch.nn.Linear(1, 1)}, torch.device("cuda"), "sequential")
