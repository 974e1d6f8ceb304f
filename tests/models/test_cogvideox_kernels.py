"""How the large model's arithmetic is run: compiled, layer by layer, by which attention, in which precision."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from cogvideox_nano import TRANSFORMER, VAE, moving_gradient, one_thread, write_nano  # noqa: F401  (one_thread: autouse)
from safetensors import safe_open
from safetensors.torch import load_file

from sparkvsr.errors import ConfigError
from sparkvsr.models.cogvideox import load_cogvideox
from sparkvsr.models.cogvideox.networks.kernels import check_attention, compile_blocks
from sparkvsr.models.cogvideox.networks.precision import Int8Linear, apply_precision, choose_precision
from sparkvsr.models.cogvideox.networks.transformer import predict_velocity
from sparkvsr.models.cogvideox.networks.weight_files import build_transformer
from sparkvsr.models.cogvideox.offload import offload_by_layer
from sparkvsr.models.cogvideox.plan.memory import MemoryModel
from sparkvsr.models.device import is_out_of_memory

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nano(tmp_path_factory.mktemp("nano") / "model")


@pytest.fixture(scope="module")
def transformer() -> torch.nn.Module:
    torch.manual_seed(3)
    return build_transformer(TRANSFORMER, "cpu").eval()


def velocity(network: torch.nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 2, 32, 4, 4, generator=generator)
    prompt = torch.randn(4, 16, generator=generator)
    with torch.inference_mode():
        return predict_velocity(network, latents, prompt)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "GET was unable to find an engine to execute this computation",
        "[enforce fail at alloc_cpu.cpp:124] data. DefaultCPUAllocator: can't allocate memory: you tried to allocate 1",
        "MPS backend out of memory (MPS allocated: 1 GB)",
    ],
)
def test_what_devices_say_when_memory_runs_out(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))


def test_other_errors_are_not_out_of_memory() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("x"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_compiled_blocks_give_the_same(transformer: torch.nn.Module) -> None:
    expected, compiled = velocity(transformer), copy.deepcopy(transformer)
    compile_blocks(compiled, backend="aot_eager")  # all of the way but the C++ compiler
    assert list(compiled.state_dict()) == list(transformer.state_dict())
    assert torch.allclose(velocity(compiled), expected, atol=1e-5)
    assert compiled.transformer_blocks[0]._compiled_call_impl is not None  # type: ignore[index]


def test_a_model_can_be_loaded_compiled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.nn.Module] = []
    monkeypatch.setattr("sparkvsr.models.cogvideox.load.compile_blocks", seen.append)
    model = load_cogvideox(folder, compile_transformer=True)
    assert seen == [model.pipeline.transformer]
    assert model.fingerprint() != load_cogvideox(folder).fingerprint()
    with pytest.raises(ConfigError, match="--compile does not go with"):
        load_cogvideox(folder, compile_transformer=True, offload="sequential")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_layer_by_layer_gives_the_same_and_holds_nothing(transformer: torch.nn.Module, precision: str) -> None:
    pytest.importorskip("accelerate")
    network = apply_precision(copy.deepcopy(transformer), choose_precision(precision, torch.float32, CPU))
    expected = velocity(network)
    offload_by_layer(network, CPU)
    held = [name for name, tensor in network.state_dict().items() if tensor.device.type != "meta"]
    assert not held
    assert precision == "fp32" or any(isinstance(layer, Int8Linear) for layer in network.modules())
    assert torch.equal(velocity(network), expected)


@pytest.mark.parametrize("attention", ["math", "flash"])
def test_attention_can_be_chosen(folder: Path, attention: str) -> None:
    lr = moving_gradient(9, 8, 8)
    expected = load_cogvideox(folder).restore(lr, scale=2)
    chosen = load_cogvideox(folder, attention=attention).restore(lr, scale=2)  # type: ignore[arg-type]
    assert torch.allclose(chosen, expected, atol=1e-4)


def test_wrong_ways_to_run_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="attention='flush' is unknown; use auto"):
        check_attention("flush", CPU)
    with pytest.raises(ConfigError, match="attention=cudnn needs a CUDA device"):
        check_attention("cudnn", CPU)
    with pytest.raises(ConfigError, match="vae_layout='sideways' is unknown"):
        load_cogvideox(folder, vae_layout="sideways")  # type: ignore[arg-type]


def test_products_in_8_bit(transformer: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ConfigError, match=r"needs the package torchao: pip install 'sparkvsr\[torchao\]'"):
            choose_precision("int8-matmul", None, CPU)
    pytest.importorskip("torchao")
    with pytest.raises(ConfigError, match="no fp8 tensor cores"):
        choose_precision("fp8-matmul", None, CPU)
    expected = velocity(transformer)
    precision = choose_precision("int8-matmul", torch.float32, CPU)
    assert precision.weight_bytes == 1
    result = velocity(apply_precision(copy.deepcopy(transformer), precision))
    error = (result - expected).abs().max() / expected.abs().max()
    assert 0 < error < 0.05


def test_channels_last_costs_copies_in_the_plan() -> None:
    precision = choose_precision("bf16", None, torch.device("cpu"))
    plain, copied = (
        MemoryModel(TRANSFORMER, VAE, precision, vae_layout=layout) for layout in ("contiguous", "channels_last")
    )
    assert copied.decode_bytes((16, 16)) > plain.decode_bytes((16, 16))


# What each precision may differ from the published forward pass in float32 by, at most and on average: about twice what
# was measured on two machines (fp16 .0068, bf16 .065 and .0021, int8 .0068, fp8 .039).
_TOLERANCES = {
    "fp16": (0.015, 0.001),
    "bf16": (0.13, 0.005),
    "int8": (0.015, 0.001),
    "fp8": (0.08, 0.005),
}


@pytest.mark.shared
@pytest.mark.parametrize("precision", sorted(_TOLERANCES))
def test_golden_case_in_every_precision(shared_dir: Path, precision: str) -> None:
    file = shared_dir / "golden" / "keyed_9f.safetensors"
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    # 8-bit weights are judged beside float32 arithmetic: what is left is their own error.
    dtype = torch.float32 if precision in ("int8", "fp8") else None
    model = load_cogvideox(shared_dir / "golden" / "model", colour="none", precision=precision, dtype=dtype)
    restored = model.restore(
        tensors["lr"],
        tensors["keyframes"],
        json.loads(metadata["keyframe_indices"]),
        scale=float(metadata["scale"]),
        guidance_scale=float(metadata["guidance_scale"]),
    )
    difference = (restored - tensors["expected"]).abs()
    most, mean = _TOLERANCES[precision]
    assert restored.isfinite().all()
    assert float(difference.max()) < most
    assert float(difference.mean()) < mean
    assert float(difference.max()) > 1e-5, "it really ran in this precision"
