"""As much of ComfyUI as the node pack uses, so that it is tested without ComfyUI.

Follows ``comfy_api`` v0_0_2 as ``comfy_api/latest/_io.py`` has it in ComfyUI 0.8.1 (comfyanonymous/ComfyUI at
004b1b5b0e54): names and order of the arguments, what ``Schema`` refuses, what ``execute`` may return. Arguments that
are not there are refused as ComfyUI would.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch


@dataclass
class Input:
    id: str
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None
    lazy: bool | None = None


@dataclass
class Output:
    id: str | None = None
    display_name: str | None = None
    tooltip: str | None = None
    is_output_list: bool = False


@dataclass
class WidgetInput(Input):
    default: Any = None


@dataclass
class NumberInput(WidgetInput):
    min: float | None = None
    max: float | None = None
    step: float | None = None


@dataclass
class StringInput(Input):
    multiline: bool = False
    placeholder: str | None = None
    default: str | None = None


@dataclass
class ComboInput:
    id: str
    options: list[str]
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None
    lazy: bool | None = None
    default: str | None = None


@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    hidden: list[Any] = field(default_factory=list)
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False

    def validate(self) -> None:
        """Ids are unique, in and out together."""
        ids = [item.id for item in (*self.inputs, *self.outputs)]
        if len(set(ids)) != len(ids):
            msg = f"ids must be unique: {ids}"
            raise ValueError(msg)


class NodeOutput:
    def __init__(self, *args: Any, ui: Any = None, expand: Any = None, block_execution: str | None = None) -> None:
        self.result = args or None


class ComfyNode:
    """Nodes are classes: nothing makes an instance, so nothing may be kept in one."""

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError

    @classmethod
    def execute(cls, **inputs: Any) -> NodeOutput:
        raise NotImplementedError


class ComfyExtension(ABC):
    @abstractmethod
    async def get_node_list(self) -> list[type[ComfyNode]]: ...


class Stopped(Exception):  # noqa: N818
    """``comfy.model_management.InterruptProcessingException``."""


@dataclass
class Comfy:
    """What the nodes did, and the stop button."""

    steps: list[tuple[int, int]] = field(default_factory=list)
    stop_after: int | None = None

    def check(self) -> None:
        if self.stop_after is not None and len(self.steps) >= self.stop_after:
            raise Stopped

    def bar(self, total: int) -> Any:
        return SimpleNamespace(update_absolute=lambda value, total=None: self.steps.append((value, total)))


def install(monkeypatch: pytest.MonkeyPatch) -> Comfy:
    """Put the stub in the place of ComfyUI's packages."""
    state = Comfy()
    io = SimpleNamespace(
        ComfyNode=ComfyNode,
        Schema=Schema,
        NodeOutput=NodeOutput,
        Image=SimpleNamespace(Input=Input, Output=Output),
        String=SimpleNamespace(Input=StringInput, Output=Output),
        Boolean=SimpleNamespace(Input=WidgetInput, Output=Output),
        Int=SimpleNamespace(Input=NumberInput, Output=Output),
        Float=SimpleNamespace(Input=NumberInput, Output=Output),
        Combo=SimpleNamespace(Input=ComboInput, Output=Output),
    )
    management = {
        "throw_exception_if_processing_interrupted": state.check,
        "get_torch_device": lambda: torch.device("cpu"),
    }
    contents: dict[str, dict[str, Any]] = {
        "comfy_api": {},
        "comfy_api.latest": {"ComfyExtension": ComfyExtension, "io": io},
        "comfy": {},
        "comfy.utils": {"ProgressBar": state.bar},
        "comfy.model_management": management,
    }
    for name, attributes in contents.items():
        module = ModuleType(name)
        for key, value in attributes.items():
            setattr(module, key, value)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    return state
