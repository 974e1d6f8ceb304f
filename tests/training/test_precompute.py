"""Samples and latents kept on disk: made once however many processes there are, packed into shards, read in order."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from sparkvsr.config import compose_config
from sparkvsr.data.hr_latents import HR_LATENTS, PairsWithTargets
from sparkvsr.data.precomputed import PrecomputedPairs
from sparkvsr.data.sample_files import SampleFiles, SampleShards, write_shards
from sparkvsr.data.samples import SampleRequest, collate
from sparkvsr.errors import ConfigError, DatasetError
from sparkvsr.training.build import build_adapter, build_pairs
from sparkvsr.training.precompute import local_place, precomputed_pairs

SMALL = ("model=tiny", "stage=1", "data.num_frames=9", "data.crop=[64,64]", "data.precompute.enabled=true")


@cache
def adapter_of(target: str, posterior: str) -> Any:
    """One of each kind for all tests: none of them changes it."""
    if "lite" in target:
        return build_adapter(compose_config(["model=lite"]))
    return build_adapter(compose_config([*SMALL, f"model.posterior={posterior}"]))


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., tuple[Any, Any, list[str]]]:
    """Compose, build and fill: the pairs, the adapter, the notes."""

    def run(*overrides: str) -> tuple[Any, Any, list[str]]:
        given = [*SMALL, "data.precompute.num_samples=3", f"paths.cache_dir={tmp_path / 'cache'}", *overrides]
        config = compose_config(given)
        adapter, notes = adapter_of(str(config.model._target_), str(config.model.get("posterior"))), []
        pairs = build_pairs(config, adapter, None)
        hook = lambda event: notes.append(event["text"])  # noqa: E731
        return precomputed_pairs(config, pairs, adapter, framewise=False, hook=hook), adapter, notes

    return run


def test_processes_of_a_node_share_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D11: two processes as torchrun starts them; every sample is made once, and both find all of them."""
    written: list[str] = []
    write = SampleFiles.write

    def recorded(self: SampleFiles, name: str, tensors: dict[str, torch.Tensor]) -> None:
        written.append(name)
        write(self, name, tensors)

    config = compose_config([*SMALL, "data.precompute.num_samples=3", f"paths.cache_dir={tmp_path}"])
    adapter = build_adapter(config)
    monkeypatch.setattr(SampleFiles, "write", recorded)
    places = {"first": (0, 2), "second": (1, 2)}
    monkeypatch.setattr("sparkvsr.training.precompute.local_place", lambda: places[threading.current_thread().name])
    found: list[int] = []

    def work() -> None:
        store = precomputed_pairs(
            config, build_pairs(config, adapter, None), adapter, framewise=False, hook=lambda event: None
        )
        assert isinstance(store, PrecomputedPairs)
        found.append(len(store.missing(is_image=False)))

    threads = [threading.Thread(target=work, name=name) for name in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0, 0]
    assert sorted(written) == ["clip-000000", "clip-000001", "clip-000002"]


def test_where_a_process_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_place() == (0, 1)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_place() == (0, 1), "a process that Lightning started itself finds everything made"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert local_place() == (3, 8)


def test_only_the_vae_moves_and_only_for_what_is_missing(
    prepare: Callable[..., tuple[Any, Any, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparkvsr.training.adapters.cogvideox import CogVideoXAdapter

    moved: list[str] = []
    monkeypatch.setattr(CogVideoXAdapter, "to", lambda self, *args: moved.append("whole"))
    monkeypatch.setattr(CogVideoXAdapter, "encoder_to", lambda self, device: moved.append("vae"))
    keys: list[int] = []
    encode = CogVideoXAdapter._encode_keyframes

    def counted(self: CogVideoXAdapter, batch: Any) -> Any:
        keys.append(int((batch.keyframe_indices >= 0).sum()))
        return encode(self, batch)

    monkeypatch.setattr(CogVideoXAdapter, "_encode_keyframes", counted)
    prepare("data.precompute.latents=true", "data.precompute.num_samples=1")
    assert moved == ["vae", "vae"]
    assert keys == [0], "keyframes are encoded anew each time, not here"
    prepare("data.precompute.latents=true", "data.precompute.num_samples=1")
    assert moved == ["vae", "vae"], "nothing is missing, nothing moves"


def test_kept_targets_are_those_of_the_sample(prepare: Callable[..., tuple[Any, Any, list[str]]]) -> None:
    pairs, adapter, notes = prepare("data.precompute.hr_only=true", "model.posterior=mode", "degradation=corrected")
    assert isinstance(pairs, PairsWithTargets)
    assert "precomputing 3 clips" in notes[0]
    first, later = pairs[SampleRequest(0)], pairs[SampleRequest(3)]
    batch = collate([first])
    expected = adapter.encode_target(batch, framewise=False)[0]
    assert torch.allclose(first.extras[HR_LATENTS], expected, atol=2e-3)
    latents = adapter.encode(batch, framewise=False, with_hr=True)
    assert torch.equal(latents.hr, batch.extras[HR_LATENTS]), "the step takes the kept ones"
    # Three crops, again and again, each time degraded anew.
    again = next(pairs[SampleRequest(n)] for n in (3, 4, 5) if torch.equal(pairs[SampleRequest(n)].hr, first.hr))
    assert not torch.equal(again.lr, first.lr)
    assert (again.number, later.number) != (first.number, first.number)


def test_kept_targets_are_kept_for_every_degradation(prepare: Callable[..., tuple[Any, Any, list[str]]]) -> None:
    margins = ("degradation.margin=1.25", "degradation.extra_frames=2", "data.precompute.num_samples=1")
    prepare("data.precompute.hr_only=true", "degradation=corrected", *margins)
    _, _, notes = prepare("data.precompute.hr_only=true", "degradation=parity", "degradation.device=cpu", *margins)
    assert not notes


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=lite", "data.precompute.hr_only=true"], "hr_only=true: lite has no VAE"),
        (["data.precompute.hr_only=true", "data.precompute.latents=true"], "set latents=false"),
        (["data.precompute.hr_only=true", "data.crop_tries=2"], "data.crop_tries=1"),
        (["data.precompute.shards=nosuch://bucket/x"], "shards=nosuch://bucket/x.* cannot be used: Protocol not known"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    prepare: Callable[..., tuple[Any, Any, list[str]]], overrides: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        prepare(*overrides)


# --- shards ---


@pytest.fixture
def memory() -> Iterator[str]:
    """An address in fsspec's object store in memory."""
    import fsspec

    yield "memory://bucket/samples"
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def samples(folder: Path, count: int) -> SampleFiles:
    files = SampleFiles(folder)
    for index in range(count):
        files.write(PrecomputedPairs.name(index, is_image=False), {"lr": torch.full((300,), index, dtype=torch.uint8)})
    return files


def test_shards_give_back_what_was_packed(tmp_path: Path, memory: str) -> None:
    import fsspec

    files = samples(tmp_path / "files", 5)
    names = [PrecomputedPairs.name(index, is_image=False) for index in range(5)]
    for address in (memory, str(tmp_path / "shards")):
        write_shards(files, names, address, shard_bytes=1500)
        shards = SampleShards(address)
        for name in names:
            assert torch.equal(shards.read(name)["lr"], files.read(name)["lr"])
        system, root = fsspec.core.url_to_fs(address)
        found = sorted(file.rsplit("/", 1)[-1] for file in system.ls(root, detail=False))
        assert found == ["index.json", "shard-000000.tar", "shard-000001.tar", "shard-000002.tar"]
        # Any reader of WebDataset's layout: one member a sample, named by its key and kind.
        with tarfile.open(fileobj=io.BytesIO(system.cat_file(f"{root}/shard-000000.tar"))) as tar:
            assert tar.getnames() == ["clip-000000.safetensors", "clip-000001.safetensors"]
            member = tar.extractfile("clip-000001.safetensors")
            assert member is not None
            assert load(member.read())["lr"][0] == 1
    with pytest.raises(DatasetError, match="holds no sample clip-000009"):
        shards.read("clip-000009")


def test_a_damaged_index_or_shard_is_told(tmp_path: Path) -> None:
    write_shards(samples(tmp_path / "files", 1), ["clip-000000"], str(tmp_path / "s"), shard_bytes=1)
    shards = SampleShards(str(tmp_path / "s"))
    (tmp_path / "s" / "shard-000000.tar").write_bytes(b"cut")
    with pytest.raises(DatasetError, match="sample clip-000000 cannot be read out of"):
        shards.read("clip-000000")
    (tmp_path / "s" / "index.json").write_text('{"clip-000000": ["../../etc/passwd", 0, 10]}')
    with pytest.raises(DatasetError, match="is no index of shards"):
        SampleShards(str(tmp_path / "s"))


def test_a_second_machine_needs_the_shards_only(
    prepare: Callable[..., tuple[Any, Any, list[str]]], tmp_path: Path, memory: str
) -> None:
    shards = f"data.precompute.shards={memory}"
    first, _, notes = prepare(shards)
    assert [note.split()[0] for note in notes] == ["precomputing", "packing"]
    second, _, notes = prepare(shards, f"paths.cache_dir={tmp_path / 'elsewhere'}")
    assert not notes
    assert not list((tmp_path / "elsewhere").rglob("*.safetensors"))
    for number in (4, 1):
        mine, theirs = first[SampleRequest(number)], second[SampleRequest(number)]
        assert torch.equal(mine.lr, theirs.lr)
        assert torch.equal(mine.keyframes, theirs.keyframes)
