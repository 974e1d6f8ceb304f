"""No file is unpickled without an allow-list: a pickle may run any code, and weights come from strangers.

Holds for what this project calls itself. Packages that read files for it are asked for their safe way: spandrel has an
allow-list of its own, safetensors holds none, diffusers and transformers take safetensors or `weights_only`, torch's
distributed checkpoints are read by a list of names. tests/test_hostile_runs.py tries every way in.
"""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

# Modules whose loading runs code of the file, and the one place that subclasses the unpickler with an allow-list.
MODULES = {"pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "jsonpickle"}
ALLOW_LIST_UNPICKLER = "sparkvsr/unpickling.py"


def sources() -> list[Path]:
    folders = (ROOT / "src", ROOT / "cli", ROOT / "benchmarks")
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def findings(source: str, name: str) -> list[str]:
    """Calls in a module that could unpickle."""
    tree = ast.parse(source)
    found = []
    subclassed = {
        base for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases
    }  # `class X(pickle.Unpickler)` with `find_class` is what an allow-list looks like
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in MODULES:
            is_subclass = node in subclassed and name.endswith(ALLOW_LIST_UNPICKLER)
            if node.attr == "UnpicklingError" or is_subclass:
                continue
            found.append(f"{name}:{node.lineno} {node.value.id}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            names = {alias.name for alias in node.names} - {"UnpicklingError"}
            found += [f"{name}:{node.lineno} from {node.module} import {one}" for one in names]
        elif isinstance(node, ast.Call):
            found += _loading_call(node, name)
    return found


def _loading_call(node: ast.Call, name: str) -> list[str]:
    text = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    where = f"{name}:{node.lineno} {text}"
    if text in ("torch.load", "torch.hub.load", "torch.package.PackageImporter"):
        return [] if given.get("weights_only") == "True" else [where]
    if text in ("np.load", "numpy.load"):
        # numpy's own default is False; written out, nobody has to know.
        return [] if given.get("allow_pickle", "False") == "False" else [where]
    if given.get("weights_only", "True") != "True" or given.get("allow_pickle", "False") != "False":
        return [where]
    if text in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec"):
        return [where]
    return []


def test_nothing_is_unpickled_without_an_allow_list() -> None:
    found = [text for path in sources() for text in findings(path.read_text(), str(path.relative_to(ROOT)))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.load('a.pth')",
        "import torch\ntorch.load('a.pth', weights_only=False)",
        "import torch\nflag = True\ntorch.load('a.pth', weights_only=flag)",
        "import numpy as np\nnp.load('a.npy', allow_pickle=True)",
        "import pickle\npickle.loads(b'')",
        "import pickle\npickle.Unpickler(None).load()",
        "from pickle import load",
        "import joblib\njoblib.load('a')",
        "import yaml\nyaml.load('a')",
        "trainer.fit(model, ckpt_path='a', weights_only=False)",
        "eval('1')",
    ],
)
def test_the_check_finds_what_it_should(code: str) -> None:
    assert findings(code, "src/sparkvsr/x.py")


def test_the_check_lets_safe_ways_through() -> None:
    code = (
        "import pickle, torch, numpy as np\n"
        "try:\n    torch.load('a', weights_only=True)\n"
        "except pickle.UnpicklingError:\n    np.load('a', allow_pickle=False)\n"
    )
    assert not findings(code, "src/sparkvsr/x.py")


class _Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (_touch, (str(self.marker), "ran"))


def _touch(path: str, text: str) -> None:
    Path(path).write_text(text)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors"])
def test_a_weight_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, suffix: str) -> None:
    from sparkvsr.errors import SparkVSRError
    from sparkvsr.keyframes.references import make_reference_maker
    from sparkvsr.training.checkpoints import read_checkpoint

    marker = tmp_path / "marker"
    for number, content in enumerate((pickle.dumps(_Evil(marker)), None)):
        path = tmp_path / f"evil{number}{suffix}"
        if content is None:
            torch.save({"params": _Evil(marker), "state_dict": {}}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(SparkVSRError):
            make_reference_maker(str(path))
        with pytest.raises(SparkVSRError):
            read_checkpoint(path)
    assert not marker.exists()
