"""Bench files: all of the shipped ones, and what is wrong with bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips_on_disk import GOOD

from sparkvsr.errors import ConfigError
from sparkvsr.evaluation.bench import DEGRADATIONS, bench_names, load_bench, parse_bench
from sparkvsr.metrics.catalogue import METRICS

EXPECTED = {
    "REDS4", "REDS30", "Vid4", "Vid4-BD", "UDM10", "UDM10-BD", "SPMCS", "YouHQ40", "RealVSR", "MVSR4x", "VideoLQ",
    "MovieLQ", "demo",
}  # fmt: skip


def test_all_benches_are_shipped() -> None:
    assert set(bench_names()) == EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_shipped_bench_is_sound(name: str) -> None:
    bench = load_bench(name.lower())
    assert bench.name == name
    assert bench.num_clips > 0
    assert bench.degradation in DEGRADATIONS
    assert bench.channel in {"rgb", "y"}
    assert bench.primary == ("psnr_y" if bench.channel == "y" else "psnr") or not bench.has_gt
    for table in bench.published:
        assert set(table) == {"title", "source", "warning", "same_as", "rows"}
        assert table["source"]
        assert table["warning"]
        columns = {column for row in table["rows"].values() for column in row}
        assert set(table["same_as"]) <= columns | {"PSNR", "SSIM", "LPIPS", "DISTS", "CLIP-IQA"}
        assert set(table["same_as"].values()) <= set(METRICS)
        # These two cannot be reproduced or have several meanings; no column may claim otherwise.
        assert not {"DOVER", "E*warp"} & set(table["same_as"])


def test_published_numbers_are_those_of_the_papers() -> None:
    """Spot checks, one a table."""

    def value(bench: str, table: str, method: str, metric: str) -> float:
        found = next(t for t in load_bench(bench).published if t["title"].startswith(table))
        return found["rows"][method][metric]

    assert value("UDM10", "DOVE", "DOVE", "PSNR") == 26.48
    assert value("YouHQ40", "DOVE", "STAR", "DISTS") == 0.2287
    assert value("REDS30", "RelayVSR", "SparkVSR", "CLIP-IQA") == 0.2755
    assert value("SPMCS", "FastVR", "FastVR", "MUSIQ") == 71.23
    assert value("VideoLQ", "STAR", "STAR", "E*warp") == 6.38
    assert value("UDM10", "SparkVSR", "SparkVSR no_ref", "PSNR") == 29.66
    assert value("REDS4", "BasicVSR", "BasicVSR++ (c64n7)", "PSNR") == 32.3855
    assert value("Vid4", "BasicVSR", "BasicVSR (Vimeo-BI)", "SSIM") == 0.8318
    assert value("UDM10-BD", "BasicVSR", "BasicVSR++ (c64n7, Vimeo-BD)", "PSNR") == 40.7216


def test_protocols_of_the_classical_benches() -> None:
    reds, vid4 = load_bench("REDS4"), load_bench("Vid4-BD")
    assert (reds.clips, reds.channel, reds.border) == (("000", "011", "015", "020"), "rgb", 0)
    assert reds.frames_of("011") == 100
    assert (vid4.channel, vid4.degradation, vid4.folder) == ("y", "bd", "Vid4")
    assert vid4.frames_of("city") == 34
    assert vid4.gt_size_of("walk") == (480, 720)


def test_a_users_own_file_works(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    bench = load_bench(str(path))
    assert (bench.name, bench.folder, bench.num_clips, bench.frames_of("a")) == ("mine", "mine", 2, 4)
    with pytest.raises(ConfigError, match="nowhere.yaml cannot be read"):
        load_bench(str(tmp_path / "nowhere.yaml"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: paired", "kind: pear", "kind is 'pear'; allowed is paired"),
        ("degradation: bicubic", "degradation: jpeg", "degradation is 'jpeg'"),
        ("primary: psnr", "primary: beauty", "primary is 'beauty'"),
        ("metrics: default", "metrics: beauty", "--metrics 'beauty' is unknown"),
        ("get: nowhere", "gett: nowhere", "unknown or missing keys: gett, get"),
        ("title: t", "title: [", "not valid YAML"),
    ],
)
def test_bad_files_are_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_bench("x", GOOD.replace(old, new))


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match="'RED4' is unknown; did you mean REDS4"):
        load_bench("RED4")
