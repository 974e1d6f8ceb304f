"""Imports point down: torch below, Lightning above, the command line on top (ARCHITECTURE.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# A layer may import layers with a smaller number, and itself.
LAYERS = {
    "errors": 0,
    "colour": 0,
    "suffixes": 0,
    "units": 0,
    "user_cache": 0,
    "home": 0,
    "printable": 0,
    "version": 0,
    "pages": 1,
    "shapes": 1,
    "hooks": 1,
    "durable": 1,
    "output_lock": 1,
    "file_parts": 1,
    "plain_json": 1,
    "threads": 1,
    "child_processes": 1,
    "spinning": 1,
    "unpickling": 1,
    "pretrained": 2,
    "video": 2,
    "config": 2,
    "models": 3,
    "metrics": 4,
    "losses": 4,
    "degradation": 4,
    "keyframes": 4,
    "inference": 5,
    "data": 5,
    "training": 6,
    "evaluation": 6,
    "studio": 6,
    "doctor": 6,
    "vapoursynth": 6,
    "cli": 7,
    "__main__": 8,
}

# Where a third-party package may be imported; anything not named here may be imported anywhere below cli.
ALLOWED = {
    "typer": {"cli"},
    "rich": {"cli"},
    "hydra": {"config", "training"},
    "omegaconf": {"config", "training"},
    "lightning": {"training", "data"},
    "av": {"video", "degradation"},
    "diffusers": {"models", "training"},
    "starlette": {"studio"},
    "uvicorn": {"studio"},
}


def modules() -> list[tuple[str, Path]]:
    found = [(path, "src") for path in (ROOT / "src" / "sparkvsr").rglob("*.py")]
    found += [(path, "cli") for path in (ROOT / "cli").glob("*.py")]
    named = []
    for path, kind in found:
        parts = path.relative_to(ROOT / "src" / "sparkvsr" if kind == "src" else ROOT).with_suffix("").parts
        if parts != ("__init__",):
            named.append((".".join(parts).removesuffix(".__init__"), path))
    return named


def imports(name: str, path: Path) -> set[str]:
    """Absolute dotted names that a module imports, anywhere in it, functions and type checking included."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    out: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            out |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = ["sparkvsr", *package[: len(package) - node.level + 1]]
            out.add(".".join([*base, node.module] if node.module else base))
        elif isinstance(node, ast.ImportFrom) and node.module:
            out |= {node.module} if node.module != "sparkvsr" else {f"sparkvsr.{alias.name}" for alias in node.names}
    return out


def violations(name: str, imported: set[str]) -> list[str]:
    layer = name.split(".")[0]
    wrong = []
    for target in imported:
        top, *rest = target.split(".")
        if top == "sparkvsr" and rest and rest[0] in LAYERS:
            below = LAYERS[rest[0]] < LAYERS[layer] or rest[0] == layer
            if not below:
                wrong.append(f"{name} imports {target}")
        elif top in ALLOWED and layer not in ALLOWED[top]:
            wrong.append(f"{name} imports {target}")
    return wrong


def test_imports_point_down() -> None:
    wrong = [text for name, path in modules() for text in violations(name, imports(name, path))]
    assert not wrong, "\n".join(wrong)


def test_every_module_has_a_layer() -> None:
    assert {name.split(".")[0] for name, _ in modules()} <= set(LAYERS)


def test_the_check_finds_a_planted_violation() -> None:
    assert violations("models.lite.model", {"sparkvsr.inference.clip.engine"})
    assert violations("inference.engine", {"rich.progress"})
    assert violations("video.reader", {"sparkvsr.cli.main"})
    assert not violations("inference.engine", {"sparkvsr.video", "torch"})


def test_files_are_short_and_well_named() -> None:
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "cli").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    long = [str(path) for path in files if len(path.read_text().splitlines()) > 500]
    assert not long, long
    banned = {"utils.py", "common.py", "helpers.py", "core.py"}
    assert not [str(path) for path in files if path.name in banned]


def test_the_server_of_the_studio_holds_no_torch() -> None:
    code = (
        "import sys, sparkvsr.studio.serve, sparkvsr.studio.render_client\n"
        "heavy = {'torch', 'numpy', 'cv2', 'av'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from importlib.metadata import entry_points\n"
        "next(iter(entry_points(group='console_scripts', name='sparkvsr'))).load()\n"
        "heavy = {'torch', 'numpy', 'cv2', 'av', 'hydra', 'lightning', 'diffusers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
