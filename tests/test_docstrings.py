"""Public docstrings say what a caller needs: what goes in and out (shape, range) and which errors come.

A mechanical approximation. It reads the source; nothing is imported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "sparkvsr"
ERRORS = {
    node.name: [base.id for base in node.bases if isinstance(base, ast.Name)]
    for node in ast.parse((SOURCE / "errors.py").read_text("utf-8")).body
    if isinstance(node, ast.ClassDef)
}
# Types that are arrays or hold them; a name in an annotation is enough, so list[Tensor] counts too.
ARRAYS = {"Tensor", "NDArray", "ndarray", "Array", "Image", "Image8", "Frame8", "Plane", "Flow"}

_SHAPE = re.compile(
    r"``\([^`]*\)``|``\[[^`]*\]``|\bscalars?\b|\bshapes?\b|\b\d+-D\b|\bwhatever its size\b", re.IGNORECASE
)
_RANGE = re.compile(
    r"\[-?\d[\d.]*, ?-?[\d.]+\]|\b\d+ to \d+|\bu?int\d*\b|\bfloat\d*\b|\bbool(ean)?\b"
    r"|\blatents?\b|\bweights?\b|\bpixels\b"
    r"|\bdistances?\b|\bfeatures?\b|\bvelocity\b|\bdB\b|\bluma\b|\bgrey\b|\brange\b|\bdtype\b|\btypes?\b|\bloss\b",
    re.IGNORECASE,
)
_SEE = re.compile(r"\bSee ``|\bAs ``|\bas in ``")


@dataclass(frozen=True)
class Definition:
    """A public function, method or class, and the docstrings around it."""

    place: str
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    around: str

    @property
    def text(self) -> str:
        return ast.get_docstring(self.node) or ""


def definitions(source: str, name: str) -> Iterator[Definition]:
    """Public definitions of a module, down to the methods of its public classes."""
    module = ast.parse(source)
    for node in module.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield Definition(f"{name}:{node.name}", node, ast.get_docstring(module) or "")
        if isinstance(node, ast.ClassDef):
            around = (ast.get_docstring(module) or "") + "\n" + (ast.get_docstring(node) or "")
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and not part.name.startswith("_") and not is_setter(part):
                    yield Definition(f"{name}:{node.name}.{part.name}", part, around)


def is_setter(node: ast.FunctionDef) -> bool:
    return any(isinstance(mark, ast.Attribute) and mark.attr == "setter" for mark in node.decorator_list)


def takes_arrays(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    hints = [hint for hint in [*(argument.annotation for argument in arguments), node.returns] if hint is not None]
    written = [
        re.sub(r"(dict|Mapping)\[str, Tensor\]", "", ast.unparse(hint)) for hint in hints
    ]  # named tensors: any shape
    return any(name in ARRAYS for hint in written for name in re.findall(r"\w+", hint))


def raised(node: ast.AST) -> set[str]:
    """Errors of sparkvsr raised in a body itself, not in functions inside it."""
    found = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call) and isinstance(child.exc.func, ast.Name):
            found |= {child.exc.func.id} & set(ERRORS)
        found |= raised(child)
    return found


def with_bases(error: str) -> set[str]:
    return {error}.union(*(with_bases(base) for base in ERRORS.get(error, []) if base in ERRORS))


def faults(source: str, name: str = "module") -> list[str]:
    found = []
    for item in definitions(source, name):
        text = item.text
        if not text:
            found.append(f"{item.place}: no docstring")
            continue
        if isinstance(item.node, ast.ClassDef) or _SEE.search(text):
            continue
        if takes_arrays(item.node):
            if not _SHAPE.search(text + "\n" + item.around):
                found.append(f"{item.place}: takes or gives arrays and names no shape")
            if not _RANGE.search(text + "\n" + item.around):
                found.append(f"{item.place}: takes or gives arrays and names no range or dtype")
        words = set(re.findall(r"\w+", text))
        silent = [error for error in sorted(raised(item.node)) if not with_bases(error) & words]
        found += [f"{item.place}: raises {error} and does not say so" for error in silent]
    return found


def test_public_docstrings_say_what_a_caller_needs() -> None:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        found += faults(path.read_text("utf-8"), str(path.relative_to(SOURCE)))
    inside_lite = [line for line in found if line.startswith("models/lite/") and "no docstring" not in line]
    assert [line for line in found if line not in inside_lite] == []
    assert len(inside_lite) <= 11  # its inner kernels still owe shapes and ranges: may only fall


GOOD = '''
"""Sizes."""

def enlarge(image: Tensor, scale: float) -> Tensor:
    """Make it larger.

    Args:
        image: ``(3, H, W)`` in [0, 1].

    Raises:
        ConfigError: a scale below 1.
    """
    if scale < 1:
        raise ConfigError("x")
'''


def test_a_good_module_passes() -> None:
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("``(3, H, W)`` in [0, 1]", "an image in [0, 1]", "names no shape"),
        ("``(3, H, W)`` in [0, 1]", "an image ``(3, H, W)``", "names no range"),
        ("ConfigError: a scale below 1.", "ValueError: a scale below 1.", "raises ConfigError"),
        ("def enlarge(", "def bare(a: int) -> int:\n    return a\n\ndef enlarge(", "bare: no docstring"),
        (
            "def enlarge(",
            'class Box:\n    """A box."""\n\n    def side(self) -> int:\n        return 1\n\ndef enlarge(',
            "Box.side: no docstring",
        ),
    ],
)
def test_planted_gaps_are_found(old: str, new: str, complaint: str) -> None:
    assert old in GOOD
    assert [line for line in faults(GOOD.replace(old, new)) if complaint in line]


def test_errors_are_known_by_their_bases() -> None:
    assert with_bases("OutputExistsError") == {"OutputExistsError", "EncodeError", "VideoError", "SparkVSRError"}
