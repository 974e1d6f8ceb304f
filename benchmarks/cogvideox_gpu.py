"""Time, memory and share of the roofline of the CogVideoX path, against the reference's order of operations.

    python benchmarks/cogvideox_gpu.py                                   # CPU: small network, ratio to the reference
    python benchmarks/cogvideox_gpu.py --device cuda                     # real size, 33x720x1280, random bf16 weights
    python benchmarks/cogvideox_gpu.py --device cuda --frames 201 --size 1080 1920
    python benchmarks/cogvideox_gpu.py --device cuda --memory-gib 24     # the plan for a 24 GB card

The reference is our own code for what the published script does (docs/method.md 3, 8): the library's blocks, contiguous
layout, VAE slicing and tiling on, every chunk encoded again with an overlap of 8, hard cuts, keyframes repeated four
times in time and encoded for every chunk. Its text encoder is left out (it would be slower still); same weights.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparkvsr.models.cogvideox.model import CogVideoXModel
from sparkvsr.models.cogvideox.networks.conditioning import place_keyframes
from sparkvsr.models.cogvideox.networks.kernels import (
    ATTENTIONS,
    VAE_LAYOUTS,
    check_attention,
    compile_blocks,
    set_layout,
)
from sparkvsr.models.cogvideox.networks.lean_vae import make_lean
from sparkvsr.models.cogvideox.networks.precision import choose_precision
from sparkvsr.models.cogvideox.networks.schedule import velocity_coefficients
from sparkvsr.models.cogvideox.networks.transformer import restore_latents
from sparkvsr.models.cogvideox.networks.vae import VideoVAE
from sparkvsr.models.cogvideox.networks.weight_files import ModelFolder, build_transformer, build_vae
from sparkvsr.models.cogvideox.offload import Residency
from sparkvsr.models.cogvideox.pipeline import ChunkPipeline
from sparkvsr.models.cogvideox.plan.flops import plan_flops
from sparkvsr.models.cogvideox.plan.geometry import pad_to_network, upsample
from sparkvsr.models.interface import Keyframe, ShotRequest
from sparkvsr.models.stage_cost import StageMeter, measure_matmul_rate
from sparkvsr.training.adapters.nano import SCHEDULER

REFERENCE_OVERLAP = 8
SCALE = 4
GIB = 1 << 30

REAL_TRANSFORMER = {
    "num_attention_heads": 48,
    "attention_head_dim": 64,
    "in_channels": 32,
    "out_channels": 16,
    "num_layers": 42,
    "time_embed_dim": 512,
    "ofs_embed_dim": 512,
    "text_embed_dim": 4096,
    "max_text_seq_length": 226,
    "patch_size": 2,
    "patch_size_t": 2,
    "patch_bias": False,
    "sample_height": 96,
    "sample_width": 170,
    "sample_frames": 81,
    "use_rotary_positional_embeddings": True,
}
REAL_VAE = {
    "block_out_channels": [128, 256, 256, 512],
    "layers_per_block": 3,
    "latent_channels": 16,
    "norm_num_groups": 32,
    "sample_height": 480,
    "sample_width": 720,
    "scaling_factor": 0.7,
}
# The same structure and proportions: VAE to transformer about 2.5 to 1 in work, a frame of four by four tiles. The
# tiles must be 6m by 5n cells: the library puts others together to a wrong size.
SMALL_TRANSFORMER = {
    **REAL_TRANSFORMER,
    "num_attention_heads": 4,
    "attention_head_dim": 32,
    "num_layers": 6,
    "text_embed_dim": 64,
    "max_text_seq_length": 16,
    "time_embed_dim": 64,
    "ofs_embed_dim": 64,
}
SMALL_VAE = {
    **REAL_VAE,
    "block_out_channels": [8, 16, 16, 32],
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "sample_height": 96,
    "sample_width": 160,
}


def build(config: dict[str, Any], make: Callable[..., Any], device: torch.device, dtype: torch.dtype) -> Any:
    """A network with random weights of a scale that keeps activations finite."""
    network = torch.nn.Module.to(make(config), dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            parameter.data.fill_(0.0 if name.endswith("bias") else 1.0)
        else:
            parameter.data.normal_(std=parameter[0].numel() ** -0.5, generator=generator)
    return network.requires_grad_(False).eval()


@torch.inference_mode()
def reference_order(
    transformer: Any,
    vae: Any,
    prompt: Tensor,
    lr: Tensor,
    keyframe: Tensor,
    size: tuple[int, int],
    chunk_frames: int,
    coefficients: Any,
    meter: StageMeter,
) -> Tensor:
    """Restore a clip the way the published script does (docs/method.md 3 and 8, defaults of the published commands)."""
    device, dtype = prompt.device, prompt.dtype
    vae.enable_tiling()
    vae.use_slicing = True
    frames = lr.shape[0]
    padded = torch.cat([lr, lr[-1:].expand(-(frames - 1) % 8, -1, -1, -1)])
    clip = pad_to_network(upsample(padded, size)).to(device)  # the whole clip at once
    output = torch.zeros_like(clip)
    starts = [0]
    while chunk_frames < clip.shape[0] and starts[-1] + chunk_frames < clip.shape[0]:
        starts.append(min(starts[-1] + chunk_frames - REFERENCE_OVERLAP, clip.shape[0] - chunk_frames))
    for start in starts:
        stop = min(start + chunk_frames, clip.shape[0])
        with meter("encode"):
            pixels = (clip[start:stop] * 2 - 1).to(dtype).permute(1, 0, 2, 3)[None]
            lr_latents = vae.encode(pixels).latent_dist.sample().transpose(1, 2) * 0.7
            image = pad_to_network(keyframe[None]).to(device)
            repeated = (image.expand(4, -1, -1, -1) * 2 - 1).to(dtype).permute(1, 0, 2, 3)[None]
            latents = vae.encode(repeated).latent_dist.sample().transpose(1, 2)[:, :1] * 0.7
        placed = place_keyframes(lr_latents, {0: latents} if start == 0 else {})
        with meter("transformer"):
            restored = restore_latents(transformer, lr_latents, placed, prompt, coefficients)
        with meter("decode"):
            decoded = vae.decode((restored / 0.7).transpose(1, 2), return_dict=False)[0]
        cut = 0 if start == 0 else REFERENCE_OVERLAP // 2
        frames_out = (decoded[0].permute(1, 0, 2, 3).float() * 0.5 + 0.5).clamp(0, 1)[: stop - start]
        output[start + cut : stop] = frames_out[cut:]
    vae.use_tiling = vae.use_slicing = False
    return output[:frames, :, : size[0], : size[1]].cpu()


def report(name: str, seconds: float, frames: int, meter: StageMeter) -> dict[str, Any]:
    """Print one run and return it as plain data."""
    stages = {}
    for stage, cost in meter.costs.items():
        stages[stage] = {"seconds": cost.seconds, "peak_bytes": cost.peak_bytes}
    line = ", ".join(
        f"{stage} {cost['seconds']:.2f} s" + (f" {cost['peak_bytes'] / GIB:.1f} GiB" if cost["peak_bytes"] else "")
        for stage, cost in stages.items()
    )
    print(f"{name:10} {seconds:8.2f} s {frames / seconds:8.3f} fps   {line}")
    return {"seconds": seconds, "fps": frames / seconds, "stages": stages}


def main() -> None:
    """Parse, build, run both orders, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--network", choices=["real", "small"], help="real on CUDA, small elsewhere")
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="output; 720 1280 on CUDA, else 192 320")
    parser.add_argument(
        "--chunk", type=int, default=33, help="frames per chunk of the reference; ours follows the plan"
    )
    parser.add_argument("--memory-gib", type=float, help="plan for this much memory instead of what is free")
    parser.add_argument("--precision", default=None, help="bf16, fp16, fp32, fp8, int8")
    parser.add_argument("--repeats", type=int, default=2, help="best of; one more run warms up")
    parser.add_argument("--compile", action="store_true", help="torch.compile the transformer blocks")
    parser.add_argument("--attention", default="auto", choices=ATTENTIONS)
    parser.add_argument("--vae-layout", default="contiguous", choices=VAE_LAYOUTS)
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    # 1. Networks: the same weights for both orders.
    device = torch.device(options.device)
    real = (options.network or ("real" if device.type == "cuda" else "small")) == "real"
    size = tuple(options.size or ((720, 1280) if device.type == "cuda" else (192, 320)))
    precision = choose_precision(options.precision, None, device)
    configs = (REAL_TRANSFORMER, REAL_VAE) if real else (SMALL_TRANSFORMER, SMALL_VAE)
    transformer = build(configs[0], build_transformer, device, precision.dtype)
    library_vae = build(configs[1], build_vae, device, precision.dtype)
    vae = build(configs[1], build_vae, device, precision.dtype)
    vae.load_state_dict(library_vae.state_dict())
    make_lean(vae)
    check_attention(options.attention, device)
    set_layout(vae, options.vae_layout)
    prompt = torch.randn(configs[0]["max_text_seq_length"], configs[0]["text_embed_dim"]).to(device, precision.dtype)
    coefficients = velocity_coefficients(SCHEDULER, precision.dtype)
    lr = torch.rand(options.frames, 3, size[0] // SCALE, size[1] // SCALE)
    keyframe = torch.rand(3, *size)

    # 2. Ours.
    residency = Residency({"transformer": transformer, "vae": vae}, device)
    pipeline = ChunkPipeline(
        transformer, VideoVAE(vae), prompt, coefficients, device, "floor", residency, options.attention
    )
    folder = ModelFolder(Path("random"), configs[0], configs[1], SCHEDULER, {})
    model = CogVideoXModel(
        "random",
        folder,
        pipeline,
        residency,
        dtype=precision.dtype,
        precision=precision,
        colour="none",
        vae_layout=options.vae_layout,
    )
    memory = options.memory_gib * GIB - model._resident_bytes() if options.memory_gib else _free(device)
    plan = model.plan(lr.shape[-2:], size, options.frames, guided_passes=1, memory_bytes=int(memory))
    print("\n".join(plan.notes))
    settings = model._planned[(size, plan.chunk_frames, plan.tile)]
    counted = plan_flops(model.memory_model, settings, size, options.frames, num_keyframes=1)
    print(
        f"executed {counted.executed / 1e12:.2f} TFLOP, useful {counted.useful / 1e12:.2f}, ratio {counted.ratio:.3f}"
    )
    request = ShotRequest(
        options.frames, tuple(lr.shape[-2:]), size, {0: Keyframe(lr[0], keyframe)},
        chunk_frames=plan.chunk_frames, tile=plan.tile,
    )  # fmt: skip

    def ours(meter: StageMeter) -> Tensor:
        pipeline.stage = meter
        session = model.open_session(request)
        return torch.cat([session.push(lr), session.finish()])

    def reference(meter: StageMeter) -> Tensor:
        return reference_order(transformer, library_vae, prompt, lr, keyframe, size, options.chunk, coefficients, meter)

    results: dict[str, Any] = {"device": str(device), "frames": options.frames, "size": size, "plan": plan.notes,
                               "ratio_flops": counted.ratio, "torch": torch.__version__}  # fmt: skip
    runs = {"ours": ours} if options.no_reference else {"reference": reference, "ours": ours}
    for name, run in runs.items():
        if name == "ours" and options.compile:
            compile_blocks(transformer)
        best: tuple[float, StageMeter] | None = None
        for attempt in range(options.repeats + 1):
            meter = StageMeter(device, timing=True)
            start = time.perf_counter()
            frames = run(meter)
            elapsed = time.perf_counter() - start
            assert frames.shape == (options.frames, 3, *size)
            if attempt and (best is None or elapsed < best[0]):
                best = (elapsed, meter)
        assert best is not None
        results[name] = report(name, best[0], options.frames, best[1])

    # 3. Against the device's own matmul rate, and against each other.
    rate = measure_matmul_rate(device, precision.dtype)
    achieved = counted.executed / 1e12 / results["ours"]["seconds"]
    results.update(matmul_tflops=rate, achieved_tflops=achieved)
    print(f"matmul {rate:.2f} TFLOP/s; ours {achieved:.2f} TFLOP/s = {achieved / rate:.0%} of it")
    for stage, flops in (("encode", counted.encode), ("transformer", counted.transformer), ("decode", counted.decode)):
        seconds = results["ours"]["stages"][stage]["seconds"]
        print(f"  {stage:12} {flops / 1e12 / seconds / rate:6.0%}")
    if "reference" in results:
        results["speedup"] = results["reference"]["seconds"] / results["ours"]["seconds"]
        print(f"speed-up over the reference order: {results['speedup']:.2f}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


def _free(device: torch.device) -> int:
    from sparkvsr.models.device import free_memory

    return free_memory(device)


if __name__ == "__main__":
    main()
