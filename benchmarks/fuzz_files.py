"""Damage every kind of file that a stranger may hand over besides clips and references: only our own errors come of it.

Usage: ``python benchmarks/fuzz_files.py [--inputs 2000] [--seed 0] [--kinds store,checkpoint,...]``. Prints one line a
kind and the totals; exit code 1 when an input crashed the process, hung or raised anything but a `SparkVSRError`.

Kinds: keyframes.json, the work folder (records, pieces, model states; pieces also with a record that fits the damage,
so that the joining gets them), training checkpoints, configurations of runs, groups of a user's configuration, YAML
files of benches, results.json, model folders, LoRA files, prompts, y4m streams, what the studio keeps. Text is
damaged as bytes and as a tree of values; the rest as bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from fuzz_decode import TIME_LIMIT_SECONDS, Worker, damage
from fuzz_references import REFERENCES, make_seed
from hostile import is_refused, parent_of, places, spoil_value

KEY, FRAMES = "0" * 64, 6
KIND_FILE, FORGED = "kind.txt", "forged"


def mutate_tree(text: str, rng: random.Random, *, is_yaml: bool) -> bytes:
    """Replace, remove or repeat values of JSON or YAML, or write text that is hardly either."""
    tree = yaml.safe_load(text) if is_yaml else json.loads(text)
    for _ in range(rng.randint(1, 3)):
        if rng.randrange(6) < 5:
            tree = spoil_value(tree, rng)
        elif path := rng.choice(list(places(tree))):
            del parent_of(tree, path)[path[-1]]
    if rng.random() < 0.1:
        opening, closing = rng.choice((("[", "]"), ('{"a":', "}"), ("- ", ""), ("a: &a [*a, ", "]")))
        return (opening * 20_000 + closing * rng.choice((0, 20_000))).encode()
    # JSON is YAML, and holds what YAML cannot say (lone surrogates).
    data = json.dumps(tree).encode()
    return damage(data, rng) if rng.random() < 0.2 else data


def mutate_header(data: bytes, rng: random.Random) -> bytes:
    """Change values in the header of a safetensors file, which says sizes, types and what the file is for."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    about = header.get("__metadata__", {})
    if "lite" in about and rng.random() < 0.5:
        about["lite"] = mutate_tree(about["lite"], rng, is_yaml=False).decode(errors="replace")
        text = json.dumps(header).encode()
    else:
        text = mutate_tree(json.dumps(header), rng, is_yaml=False)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


# What each kind is: a folder that is made once, the files that are damaged, and what is done with it.


def make_manifest(folder: Path) -> None:
    make_seed(folder)
    for path in (folder / REFERENCES / "lr").glob("*.png"):
        path.unlink()


def use_manifest(case: Path) -> None:
    from sparkvsr.keyframes.folder import FolderMaker
    from sparkvsr.keyframes.manifest import read_manifest

    read_manifest(case / REFERENCES)
    maker = FolderMaker(case / REFERENCES)
    maker.check_clip(case / "in.mp4")
    maker.given(0, 12, is_part=False)
    maker.check((0, 4, 8), (48, 64))


def make_store(folder: Path) -> None:
    import torch

    from sparkvsr.inference.clip.store import WorkStore
    from sparkvsr.video import EncodeOptions, VideoWriter

    generator = torch.Generator().manual_seed(0)
    with WorkStore(folder / "work") as store:
        partial = store.partial_path()
        with VideoWriter(partial, source=None, size=(48, 64), options=EncodeOptions()) as writer:
            for _ in range(FRAMES):
                writer.write(torch.rand(3, 48, 64, generator=generator))
        store.take(KEY, partial, FRAMES, {"a": torch.rand(2, 3), "b": torch.zeros(4, dtype=torch.int64)})
    shutil.copy(folder / "work" / "segments" / f"{KEY}.mkv", folder / "source.mkv")


def use_store(case: Path) -> None:
    from sparkvsr.inference.clip.store import STORE_FORMAT, WorkStore
    from sparkvsr.video import EncodeOptions, VideoReader, probe
    from sparkvsr.video.assemble import assemble_video

    with WorkStore(case / "work") as store:
        record = case / "work" / "segments" / f"{KEY}.json"
        if (case / FORGED).exists() and record.is_file():
            data = store.path(KEY).read_bytes() if store.path(KEY).is_file() else b""
            fitting = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            record.write_text(json.dumps({"format": STORE_FORMAT, "frames": FRAMES, **fitting}))
        store.has_state(KEY)
        store.state(KEY)
        if not store.has(KEY, FRAMES):
            return
        source = probe(case / "source.mkv")
        times: list[tuple[int | None, int | None]] = [(40 * k, 40) for k in range(FRAMES)]
        assemble_video(
            case / "out.mkv", [store.path(KEY)], times, source=source, size=(48, 64), options=EncodeOptions(),
            overwrite=True,
        )  # fmt: skip
        with VideoReader(case / "out.mkv") as reader:
            sum(1 for _ in reader)


def make_checkpoint(folder: Path) -> None:
    import torch

    from sparkvsr.config import compose_config, config_text, plain

    config = compose_config(["model=lite", "debug=quick"])
    kept = {"version": "0", "config": plain(config), "origin": {"overrides": ["model=lite"], "config_dir": None},
            "ema": {"weight": torch.ones(2)}}  # fmt: skip
    run = folder / "run"
    run.mkdir()
    torch.save({"state_dict": {"adapter.network.weight": torch.ones(2)}, "global_step": 3, "sparkvsr": kept},
               run / "last.ckpt")  # fmt: skip
    (run / "config.yaml").write_text(config_text(config))


def use_checkpoint(case: Path) -> None:
    from sparkvsr.training.checkpoints import find_checkpoint, network_state, read_checkpoint
    from sparkvsr.training.export import _config_of
    from sparkvsr.training.resume import _origin_of

    path = find_checkpoint(case / "run")
    checkpoint = read_checkpoint(path)
    network_state(checkpoint)
    _origin_of(checkpoint, path)
    _config_of(checkpoint, path, ())


def use_config(case: Path) -> None:
    from sparkvsr.config import load_config, plain
    from sparkvsr.training.trusted_targets import check_stored, check_targets

    found = load_config(case / "run" / "config.yaml")
    check_stored(found, "config.yaml")
    check_targets(found, "config.yaml", own=(), advice="")
    plain(found)


def make_groups(folder: Path) -> None:
    (folder / "groups" / "loss").mkdir(parents=True)
    text = "_target_: sparkvsr.losses.pixel.CharbonnierLoss\nepsilon: 0.001\n"
    (folder / "groups" / "optimizer").mkdir(parents=True)
    (folder / "groups" / "optimizer" / "mine.yaml").write_text("learning_rate: 0.1\nema_decay: 0.9\nweights: [1, 2]\n")
    (folder / "groups" / "loss" / "mine.yaml").write_text(text)


def use_groups(case: Path) -> None:
    from sparkvsr.config import compose_config

    compose_config(["model=lite", "debug=quick", "+loss@mine=mine"], config_dir=case / "groups")


def make_bench(folder: Path) -> None:
    (folder / "bench.yaml").write_text(
        "title: t\nkind: paired\nscale: 4\nclips: [a, b]\nframes: 4\ndegradation: bicubic\nlr_required: false\n"
        "metrics: default\nprimary: psnr\ngt_folders: [GT]\nlr_folders: [LQ]\nget: nowhere\n"
    )


def use_bench(case: Path) -> None:
    from sparkvsr.evaluation.bench import load_bench

    load_bench(str(case / "bench.yaml"))


def make_results(folder: Path) -> None:
    import torch

    from sparkvsr.evaluation.file_run import evaluate_files
    from sparkvsr.evaluation.run_options import MetricChoice
    from sparkvsr.video import EncodeOptions, VideoWriter

    for name in ("a", "b"):
        generator = torch.Generator().manual_seed(ord(name))
        with VideoWriter(folder / f"{name}.mp4", source=None, size=(48, 64), options=EncodeOptions()) as writer:
            for _ in range(3):
                writer.write(torch.rand(3, 48, 64, generator=generator))
    for name in ("a", "b"):
        evaluate_files(folder / f"{name}.mp4", folder / "b.mp4", folder / f"of_{name}", metrics=MetricChoice("psnr"))


def use_results(case: Path) -> None:
    from sparkvsr.evaluation import side_by_side as sides
    from sparkvsr.evaluation.html_page import comparison_page
    from sparkvsr.evaluation.tables import text_table

    comparison = sides.compare_runs([case / "of_a", case / "of_b"])
    text_table(*sides.comparison_rows(comparison))
    sides.comparison_notes(comparison)
    for table in comparison["published"]:
        sides.published_rows(comparison, table)
    sides.comparison_markdown(comparison)
    comparison_page(comparison)


def make_model(folder: Path) -> None:
    from sparkvsr.models.lite import weights

    shutil.copytree(weights.embedded_folder(), folder / "model")


def use_model(case: Path) -> None:
    import sparkvsr

    sparkvsr.load_model(str(case / "model"), device="cpu")


def make_lora(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = {}
    for side, shape in (("A", (2, 8)), ("B", (8, 2))):
        tensors[f"transformer.transformer_blocks.0.attn1.to_q.lora_{side}.weight"] = torch.zeros(shape)
    save_file(tensors, folder / "pytorch_lora_weights.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"lora_alpha": 2, "r": 2}))


def use_lora(case: Path) -> None:
    from sparkvsr.models.cogvideox.networks import lora_files

    path = case / "pytorch_lora_weights.safetensors"
    lora_files._read(path)
    lora_files._peft_alpha(path)


def make_prompts(folder: Path) -> None:
    (folder / "prompts.json").write_text(json.dumps({"0": "a face", "48": "a street at night"}))


def use_prompts(case: Path) -> None:
    from sparkvsr.cli.keyframes import read_prompts

    read_prompts(case / "prompts.json")


def make_studio(folder: Path) -> None:
    from sparkvsr.inference.options import UpscaleOptions
    from sparkvsr.studio.clip_plan import analyse, analysis_to_json
    from sparkvsr.studio.files import write_json

    make_seed(folder)
    analysis = analyse(folder / "in.mp4", UpscaleOptions(scale=2.0))
    write_json(folder / "analysis.json", analysis_to_json(analysis, "identity"))


def use_studio(case: Path) -> None:
    from sparkvsr.studio.clip_plan import analysis_from_json
    from sparkvsr.studio.files import read_json

    analysis_from_json(read_json(case / "analysis.json"), "identity")


def make_y4m(folder: Path) -> None:
    from fractions import Fraction

    from sparkvsr.video.colour_tags import ColourTags
    from sparkvsr.video.pipes.y4m import FRAME_LINE, y4m_header

    header = y4m_header("yuv420p", (16, 32), Fraction(30000, 1001), Fraction(1), ColourTags())
    (folder / "in.y4m").write_bytes(header + 3 * (FRAME_LINE + bytes(range(256)) * 3))


def use_y4m(case: Path) -> None:
    from sparkvsr.video.pipes import PipeSource, read_y4m_header
    from sparkvsr.video.pipes.descriptors import PipeReader

    with (case / "in.y4m").open("rb") as file:
        reader = PipeReader(file.fileno())
        source = PipeSource(reader, read_y4m_header(reader))
        for frame in source.frames():
            frame.pixels()
        if source.ended_early is not None:
            raise source.ended_early


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        make: writes a valid folder.
        use: what the product does with it.
        files: patterns of what is damaged.
        share: how many of the inputs it gets, beside the others.
    """

    make: Callable[[Path], None]
    use: Callable[[Path], None]
    files: tuple[str, ...]
    share: int = 16


KINDS: dict[str, Kind] = {
    "manifest": Kind(make_manifest, use_manifest, ("refs/keyframes.json",)),
    "store": Kind(make_store, use_store, ("work/segments/*", "work/*.json"), 4),
    "checkpoint": Kind(make_checkpoint, use_checkpoint, ("run/last.ckpt",)),
    "config": Kind(make_checkpoint, use_config, ("run/config.yaml",), 1),
    "groups": Kind(make_groups, use_groups, ("groups/*/mine.yaml",), 1),
    "bench": Kind(make_bench, use_bench, ("bench.yaml",)),
    "results": Kind(make_results, use_results, ("of_a/results.json",)),
    "model": Kind(make_model, use_model, ("model/*.json", "model/*.safetensors"), 1),
    "lora": Kind(make_lora, use_lora, ("pytorch_lora_weights.safetensors", "adapter_config.json")),
    "prompts": Kind(make_prompts, use_prompts, ("prompts.json",)),
    "y4m": Kind(make_y4m, use_y4m, ("in.y4m",)),
    "studio": Kind(make_studio, use_studio, ("analysis.json",)),
}


def use_as_sparkvsr_does(case: Path) -> str:
    """Use a case; ``read`` or ``refused``, anything unexpected goes through."""
    kind = KINDS[(case / KIND_FILE).read_text()]
    return "refused" if is_refused(lambda: kind.use(case)) else "read"


def damage_case(kind: Kind, case: Path, rng: random.Random) -> None:
    """Damage one of the files."""
    path = rng.choice(sorted(path for pattern in kind.files for path in case.glob(pattern)))
    if path.suffix in (".json", ".yaml") and rng.random() < 0.8:
        data = mutate_tree(path.read_text(), rng, is_yaml=path.suffix == ".yaml")
    elif path.suffix == ".safetensors" and rng.random() < 0.5:
        data = mutate_header(path.read_bytes(), rng)
    elif path.stat().st_size > 100_000:
        # Copied as a link; damaged near its head, where sizes and types are.
        data = path.read_bytes()
        head = rng.choice((64, 4096, 65_536))
        data = damage(data[:head], rng) + data[head:]
    else:
        data = damage(path.read_bytes(), rng)
    path.unlink()
    path.write_bytes(data)
    if rng.random() < 0.5 and path.suffix != ".json":
        (case / FORGED).touch()


def fuzz(
    num_inputs: int, seed: int, folder: Path, *, kinds: list[str], use: Callable[[Path], str] = use_as_sparkvsr_does
) -> Iterator[tuple[str, str, float, Path]]:
    """Yield ``(kind, outcome, seconds, case folder)`` for each damaged case; the folder is removed afterwards."""
    rng = random.Random(seed)
    worker = Worker(use)
    for name in kinds:
        (folder / name).mkdir()
        KINDS[name].make(folder / name)
        (folder / name / KIND_FILE).write_text(name)
        outcome = worker.read(copied(folder / name, folder / "case"), 120)
        if outcome != "read":
            msg = f"the undamaged {name} was not read: {outcome}"
            raise RuntimeError(msg)
        shutil.rmtree(folder / "case")
    rota = [name for name in kinds for _ in range(KINDS[name].share)]
    for number in range(num_inputs):
        name = rota[number % len(rota)]
        case = copied(folder / name, folder / "case")
        damage_case(KINDS[name], case, rng)
        start = time.monotonic()
        outcome = worker.read(case, TIME_LIMIT_SECONDS)
        yield name, outcome, time.monotonic() - start, case
        shutil.rmtree(case)
    worker.close()


def copied(source: Path, target: Path) -> Path:
    """A copy of a folder in which large files are the same ones."""

    def copy(one: str, other: str) -> None:
        if Path(one).stat().st_size > 100_000:
            Path(other).hardlink_to(one)
        else:
            shutil.copy(one, other)

    return Path(shutil.copytree(source, target, copy_function=copy))


def main() -> int:
    """Run the benchmark; 0 when nothing but reads and refusals came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS), help="names, separated by commas")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that were findings")
    arguments = parser.parse_args()
    outcomes: dict[str, Counter[str]] = {}
    slowest = 0.0
    kinds = arguments.kinds.split(",")
    with tempfile.TemporaryDirectory() as folder:
        cases = fuzz(arguments.inputs, arguments.seed, Path(folder), kinds=kinds)
        for number, (name, outcome, seconds, case) in enumerate(cases):
            slowest = max(slowest, seconds)
            kind = outcome.split()[0]
            outcomes.setdefault(name, Counter())[kind] += 1
            if kind not in ("read", "refused"):
                print(f"input {number}, {name}: {outcome[:400]}", flush=True)
                if arguments.keep:
                    shutil.copytree(case, arguments.keep / f"{number:06d}_{name}")
            if number % 5000 == 4999:
                print(f"{number + 1} inputs so far", flush=True)
    for name, counts in outcomes.items():
        print(f"{name}: {', '.join(f'{count} {kind}' for kind, count in sorted(counts.items()))}")
    totals = sum(outcomes.values(), Counter[str]())
    findings = sum(count for kind, count in totals.items() if kind not in ("read", "refused"))
    print(f"{totals.total()} inputs: {dict(totals)}; slowest {slowest:.2f} s; findings {findings}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
