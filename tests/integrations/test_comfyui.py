"""The ComfyUI node pack, loaded as ComfyUI loads it, against a stub of its API (comfyui_stub.py says which version)."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_stub import Comfy, Stopped, install

import sparkvsr

PACK = Path(__file__).parents[2] / "integrations" / "comfyui"


@pytest.fixture
def comfy(monkeypatch: pytest.MonkeyPatch) -> Comfy:
    return install(monkeypatch)


@pytest.fixture
def nodes(comfy: Comfy, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Node classes by id."""
    name = "custom_nodes_sparkvsr"
    spec = importlib.util.spec_from_file_location(name, PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, f"{name}.nodes", raising=False)
    spec.loader.exec_module(module)
    extension = asyncio.run(module.comfy_entrypoint())
    return {node.define_schema().node_id: node for node in asyncio.run(extension.get_node_list())}


def defaults(node: Any, **given: Any) -> dict[str, Any]:
    """What ComfyUI passes: every widget's default, and what is connected."""
    values = {item.id: item.default for item in node.define_schema().inputs if hasattr(item, "default")}
    return values | given


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    """IMAGE of 8 frames, 40x56: a texture that moves by a pixel a frame."""
    texture = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(1))
    large = torch.nn.functional.interpolate(texture, size=(52, 68), mode="bicubic").clamp(0, 1)
    return torch.stack([large[0, :, k : k + 40, k : k + 56] for k in range(8)]).movedim(1, -1)


def test_schemas_fit_what_is_executed(nodes: dict[str, Any]) -> None:
    assert set(nodes) == {"SparkVSR_KeyframeVSR", "SparkVSR_MakeKeyframes", "SparkVSR_Compare"}
    for node in nodes.values():
        schema = node.define_schema()
        schema.validate()
        parameters = inspect.signature(node.execute).parameters
        assert set(parameters) == {item.id for item in schema.inputs}
        for item in schema.inputs:
            assert (parameters[item.id].default is None) == item.optional, item.id
            if getattr(item, "options", None):
                assert item.default in item.options


def test_keyframes_are_made_improved_and_carried(nodes: dict[str, Any], comfy: Comfy, clip: torch.Tensor) -> None:
    make, upscale = nodes["SparkVSR_MakeKeyframes"], nodes["SparkVSR_KeyframeVSR"]
    words = {"choose": "indices", "indices_wanted": "0, 5", "references": "bicubic"}
    images, indices = make.execute(**defaults(make, frames=clip, **words)).result
    assert (tuple(images.shape), indices) == ((2, 160, 224, 3), "0,5")
    assert comfy.steps == [(1, 2), (2, 2)]
    comfy.steps.clear()

    improved = images * 0.9
    given = {"frames": clip, "keyframe_images": improved, "keyframe_indices": indices, "look": "faithful"}
    (result,) = upscale.execute(**defaults(upscale, **given)).result
    assert tuple(result.shape) == (8, 160, 224, 3)
    assert (result.dtype, float(result.min()) >= 0, float(result.max()) <= 1) == (torch.float32, True, True)
    assert comfy.steps[-1] == (8, 8)
    wanted = sparkvsr.upscale_frames(
        clip.movedim(-1, 1), improved.movedim(-1, 1), [0, 5], look="faithful", device="cpu", find_cuts=True
    )
    assert torch.equal(result, wanted.movedim(1, -1))
    # The images reach the frames between them as well.
    (plain,) = upscale.execute(**defaults(upscale, frames=clip, choose="none", look="faithful")).result
    assert float((result[3] - plain[3]).abs().mean()) > 0.005


def test_the_stop_button_stops_between_frames(nodes: dict[str, Any], comfy: Comfy, clip: torch.Tensor) -> None:
    comfy.stop_after = 3
    node = nodes["SparkVSR_KeyframeVSR"]
    with pytest.raises(Stopped):
        node.execute(**defaults(node, frames=clip, model="bicubic", choose="none"))
    assert len(comfy.steps) == 3


def test_wrong_numbers_are_refused_before_anything_runs(nodes: dict[str, Any], clip: torch.Tensor) -> None:
    node = nodes["SparkVSR_KeyframeVSR"]
    assert node.validate_inputs(keyframe_indices="0,48") is True
    assert node.validate_inputs(keyframe_indices=None) is True  # comes from another node
    assert "like 0,48,96" in node.validate_inputs(keyframe_indices="first")
    with pytest.raises(sparkvsr.errors.KeyframeError, match="1 images but `keyframe_indices` has 2"):
        node.execute(**defaults(node, frames=clip, keyframe_images=clip[:1], keyframe_indices="0,4"))
    make = nodes["SparkVSR_MakeKeyframes"]
    assert "like 0,48,96" in make.validate_inputs(choose="indices", indices_wanted="x")
    assert make.validate_inputs(choose="scenes", indices_wanted="x") is True


@pytest.mark.parametrize(
    "name", ["command:rm {input}", "https://example.org/x.pth", "command:x.pth", "diffusers:a/b", "refs/"]
)
def test_a_workflow_names_no_program_and_no_address(nodes: dict[str, Any], clip: torch.Tensor, name: str) -> None:
    node = nodes["SparkVSR_MakeKeyframes"]
    with pytest.raises(ValueError, match="cannot be used here"):
        node.execute(**defaults(node, frames=clip, references=name))


def test_compare_shows_both(nodes: dict[str, Any], clip: torch.Tensor, caplog: pytest.LogCaptureFixture) -> None:
    node = nodes["SparkVSR_Compare"]
    black, white = torch.zeros(2, 8, 10, 4), torch.ones(2, 16, 20, 3)
    (split,) = node.execute(**defaults(node, before=black, after=white, position=0.25)).result
    assert tuple(split.shape) == (2, 16, 20, 3)
    assert split[0, 3, :, 0].tolist() == [0] * 4 + [1] * 16
    assert "alpha channel is left out" in caplog.text
    (beside,) = node.execute(**defaults(node, before=white, after=white, mode="side by side")).result
    assert tuple(beside.shape) == (2, 16, 40, 3)
    (difference,) = node.execute(**defaults(node, before=white, after=white * 0.9, mode="difference")).result
    assert float(difference.mean()) == pytest.approx(0.5 - 0.1 * 4 / 2, abs=1e-5)
    with pytest.raises(ValueError, match="before has 1 frames, after has 2"):
        node.execute(**defaults(node, before=black[:1], after=white))


def test_the_registry_gets_what_it_asks_for() -> None:
    project = tomllib.loads((PACK / "pyproject.toml").read_text())
    main = tomllib.loads((PACK.parents[1] / "pyproject.toml").read_text())
    assert project["project"]["version"] == main["project"]["version"]
    assert "comfyui" not in project["project"]["name"].lower()
    assert {"PublisherId", "DisplayName", "requires-comfyui"} <= set(project["tool"]["comfy"])
    assert (PACK / "requirements.txt").read_text().split() == project["project"]["dependencies"]
