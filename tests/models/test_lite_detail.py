"""The keyframe network made for the eye: its structure against Real-ESRGAN's own, its file, its tiles."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sparkvsr.errors import WeightsError
from sparkvsr.models.lite.detail import (
    DETAIL_FILE,
    DetailConfig,
    DetailUpscalerNet,
    detail_file,
    load_detail_upscaler,
    save_detail_upscaler,
    take_over,
)
from sparkvsr.models.lite.upscaler import load_detail

TINY = DetailConfig(features=8, growth=4, blocks=2)


@pytest.fixture
def network() -> DetailUpscalerNet:
    torch.manual_seed(5)
    return DetailUpscalerNet(TINY).eval()


def test_it_computes_what_spandrels_network_of_the_same_weights_computes() -> None:
    import spandrel

    torch.manual_seed(5)
    network = DetailUpscalerNet(DetailConfig(features=64, growth=32, blocks=1)).eval()
    reference = spandrel.ModelLoader().load_from_state_dict(dict(network.state_dict()))
    assert isinstance(reference, spandrel.ImageModelDescriptor)
    assert reference.scale == 4
    lr = torch.rand(1, 3, 12, 20)
    with torch.no_grad():
        expected = reference.model(lr)
        assert torch.allclose(network(lr), expected, atol=1e-5)
    assert expected.shape == (1, 3, 48, 80)


def test_the_published_network_is_read_whole(shared_dir: Path) -> None:
    from sparkvsr.training.teacher import teacher_state

    state = teacher_state(shared_dir / "weights" / "isr" / "RealESRGAN_x4plus.fp16.pth")
    packaged = teacher_state("realesrgan")  # the same weights as a package brings them
    assert packaged.keys() == state.keys()
    assert all(torch.allclose(packaged[key], state[key], atol=1e-3) for key in state)
    full, small = DetailUpscalerNet(DetailConfig(blocks=23)), DetailUpscalerNet(DetailConfig(blocks=6))
    full.load_state_dict(state)
    take_over(small, state)
    for own, place in enumerate((0, 4, 9, 13, 18, 22)):
        key = "rdb2.conv3.weight"
        assert torch.equal(small.body[own].get_parameter(key), full.body[place].get_parameter(key))
    assert torch.equal(small.conv_last.weight, full.conv_last.weight)


def test_its_file_holds_what_was_saved_in_half_the_bytes(tmp_path: Path, network: DetailUpscalerNet) -> None:
    save_detail_upscaler(tmp_path / "a", network)
    save_detail_upscaler(tmp_path / "b", network)
    assert (tmp_path / "a" / DETAIL_FILE).read_bytes() == (tmp_path / "b" / DETAIL_FILE).read_bytes()
    loaded = load_detail_upscaler(tmp_path / "a")
    assert loaded is not None
    assert loaded.config == TINY
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.half().float()), name
    numbers = sum(value.numel() for value in network.state_dict().values())
    assert (tmp_path / "a" / DETAIL_FILE).stat().st_size < 2 * numbers + 8000


def test_a_folder_without_the_file_has_no_such_network(tmp_path: Path) -> None:
    assert load_detail_upscaler(tmp_path) is None
    assert detail_file(tmp_path) is None


@pytest.mark.parametrize("damage", ["cut short", "other format", "other sizes"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, network: DetailUpscalerNet, damage: str) -> None:
    save_detail_upscaler(tmp_path, network)
    file = tmp_path / DETAIL_FILE
    if damage == "cut short":
        file.write_bytes(file.read_bytes()[:200])
    elif damage == "other format":
        save_file(load_file(file), file, {"lite": '{"format": "something-else"}'})
    else:
        about = '{"format": "sparkvsr-lite-detail-1", "config": {"features": 16, "growth": 4, "blocks": 2}}'
        save_file(load_file(file), file, {"lite": about})
    with pytest.raises(WeightsError, match="export it again") as caught:
        load_detail_upscaler(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_teacher_with_too_few_blocks_or_another_width_is_refused(network: DetailUpscalerNet) -> None:
    state = network.state_dict()
    with pytest.raises(WeightsError, match="2 blocks"):
        take_over(DetailUpscalerNet(DetailConfig(features=8, growth=4, blocks=3)), state)
    with pytest.raises(WeightsError, match="does not fit"):
        take_over(DetailUpscalerNet(DetailConfig(features=16, growth=4, blocks=2)), state)


def test_the_embedded_network_is_there_with_its_licence() -> None:
    path = detail_file()
    assert path is not None
    assert "Copyright (c) 2021, Xintao Wang" in (path.parent / "DETAIL_LICENCE.txt").read_text()
    network = load_detail_upscaler()
    assert network is not None
    assert network.config == DetailConfig()


def test_tiles_with_its_margin_give_the_whole_picture(shared_dir: Path) -> None:
    from sparkvsr.video import read_image

    network = load_detail_upscaler()
    assert network is not None
    image = read_image(shared_dir / "data" / "public" / "img" / "set5_butterfly.png")
    lr = torch.nn.functional.interpolate(image[None], scale_factor=0.25, mode="bicubic", antialias=True)[..., :40, :]
    cut, margin = 16, network.margin
    with torch.no_grad():
        whole = network(lr)
        left = network(lr[..., : cut + margin])[..., : 4 * cut]
    difference = (left - whole[..., : 4 * cut]).abs() * 255
    assert float(difference.mean()) < 0.1
    assert float(difference.max()) < 4


def test_the_embedded_network_looks_far_closer_than_bicubic(shared_dir: Path) -> None:
    from sparkvsr.losses.terms import Lpips
    from sparkvsr.video import read_image

    network = load_detail_upscaler()
    assert network is not None
    image = read_image(shared_dir / "data" / "public" / "img" / "set5_bird.png")[None, :, :192, :192]
    blurred = torch.nn.functional.avg_pool2d(image, 3, 1, 1)
    torch.manual_seed(0)
    lr = torch.nn.functional.interpolate(blurred, scale_factor=0.25, mode="area")
    lr = (lr + torch.randn_like(lr) * 4 / 255).clamp(0, 1)
    bicubic = torch.nn.functional.interpolate(lr, scale_factor=4, mode="bicubic").clamp(0, 1)
    distance = Lpips("alex", shared_dir / "weights" / "perceptual")
    with torch.no_grad():
        ours = network(lr).clamp(0, 1)
        assert float(distance(ours, image)) < 0.6 * float(distance(bicubic, image))


def test_the_edge_of_a_picture_is_as_true_as_its_middle() -> None:
    colour = torch.tensor([80.0, 120.0, 140.0]).div(255).view(3, 1, 1)
    made = load_detail().upscale(colour.expand(3, 20, 24).contiguous())
    assert (made - colour).abs().max() < 8 / 255
