"""Feed hostile reference folders to sparkvsr: mutated keyframes.json, paths, links, odd files, damaged images.

Usage: ``python benchmarks/fuzz_references.py [--inputs 2000] [--seed 0]``. Prints one line of totals; exit code 1 when
an input crashed the process, hung, raised anything but a `SparkVSRError`, or made sparkvsr write where it may not.

Every input is a small valid reference folder (three images, keyframes.json, lr/, contact sheet) with one or two
hostile changes. A worker process looks at it as `sparkvsr keyframes --check` does; for one of four it also renders an
upscale with it, for another it makes the references of the folder again (`sparkvsr keyframes --overwrite`), which
writes into it. Files that lie beside the folder, which links in it may point to, are compared before and after.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from fuzz_decode import TIME_LIMIT_SECONDS, Worker, damage
from hostile import is_refused, spoil_value

CLIP, REFERENCES, OUTSIDE = "in.mp4", "refs", "outside"
RENDER_MARK, WRITE_MARK = "render", "write"
FRAMES, SIZE = (0, 4, 8), (48, 64)


def make_seed(folder: Path) -> None:
    """A clip, its reference folder as `sparkvsr keyframes` writes it, and files that nobody may touch."""
    import av
    import numpy as np

    from sparkvsr.inference.keyframe_job import KeyframeOptions, make_keyframes
    from sparkvsr.keyframes.choice import KeyframeChoice

    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (96, 160, 3), dtype=np.uint8)
    with av.open(str(folder / CLIP), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for index in range(12):
            picture = np.ascontiguousarray(base[index : index + SIZE[0], 2 * index : 2 * index + SIZE[1]])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    choice = KeyframeChoice("manual", indices=FRAMES)
    options = KeyframeOptions(keyframes=choice, references="bicubic", scale=2.0, device="cpu")
    make_keyframes(folder / CLIP, folder / REFERENCES, options)
    outside = folder / OUTSIDE
    outside.mkdir()
    shutil.copy(folder / REFERENCES / "00000.png", outside / "precious.png")
    for name in ("00000.png", "00004.png", "keyframes.json", "thesis.txt"):
        (outside / name).write_text(f"precious {name}")


def _plain(path: Path) -> Path:
    """A path that may be read and written here: an earlier change may have made a link or a pipe of it."""
    if path.is_symlink() or not path.is_file():
        raise FileNotFoundError(path)
    return path


def mutate_json(folder: Path, rng: random.Random) -> None:
    """Replace, remove or repeat something in keyframes.json, or write text that is hardly JSON."""
    path = _plain(folder / "keyframes.json")
    tree = json.loads(path.read_text())
    for _ in range(rng.randint(1, 2)):
        kind = rng.randrange(8)
        if kind <= 4:
            tree = spoil_value(tree, rng)
        elif kind == 5 and isinstance(tree, dict) and isinstance(tree.get("keyframes"), list):
            entry = rng.choice(tree["keyframes"] or [{}])
            tree["keyframes"] += [copy.deepcopy(entry) for _ in range(rng.choice((1, 3, 5000)))]
        elif kind == 6 and isinstance(tree, dict):
            tree[rng.choice(("__proto__", "keyframes", "format", "version", "clip", "x" * 500))] = rng.choice(
                (1, "1", {})
            )
        elif isinstance(tree, dict) and tree:
            tree.pop(rng.choice(list(tree)), None)
        if not isinstance(tree, dict):
            break
    text = json.dumps(tree)
    kind = rng.randrange(10)
    if kind == 0:
        opening, closing = rng.choice((("[", "]"), ('{"keyframes":', "}")))
        text = opening * 100_000 + rng.choice((closing * 100_000, ""))
    elif kind == 1:
        text = text.replace('"index": 4', f'"index": {"9" * rng.choice((20, 5000, 100_000))}')
    elif kind == 2:
        path.write_bytes(damage(text.encode("utf-8", "surrogatepass"), rng))
        return
    elif kind == 3:
        path.write_bytes(text.encode(rng.choice(("utf-16", "utf-32", "utf-8-sig")), "surrogatepass"))
        return
    path.write_text(text, encoding="utf-8", errors="surrogatepass")


def mutate_image(folder: Path, rng: random.Random) -> None:
    """Damage an image, or put something else there."""
    path = _plain(folder / f"{rng.choice(FRAMES):05d}.png")
    data = path.read_bytes()
    kind = rng.randrange(6)
    if kind <= 2 and data:
        path.write_bytes(damage(data, rng))
    elif kind == 3 and data:
        side = rng.choice((0, 1, 100_000, 2**31 - 1, 2**32 - 1))
        path.write_bytes(data[:16] + side.to_bytes(4, "big") + data[20:])
    elif kind == 4:
        path.write_bytes(rng.choice((b"", b"P6 9 9 255\n", b"GIF89a", b"#EXTM3U\n/etc/passwd", rng.randbytes(500))))
    else:
        path.unlink(missing_ok=True)


def mutate_folder(folder: Path, rng: random.Random) -> None:
    """Links that lead out, pipes, folders with the names of files, and odd names."""
    outside = folder.parent / OUTSIDE
    names = ("00000.png", "00004.png", "keyframes.json", "contact_sheet.png", "lr", "lr/00000.png", "7.png", "0.png")
    path = folder / rng.choice(names)
    kind = rng.randrange(7)
    if kind == 6:
        name = rng.choice(
            ("9" * 30 + ".png", "-4.png", "４.png", "4.5.png", "x" * 200 + "4.png", "4.PNG", ".4.png", "4 .png")
        )
        shutil.copy(outside / "precious.png", folder / name)
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()
    if not path.parent.is_dir():
        return
    if kind == 0:
        path.symlink_to(outside / rng.choice(("precious.png", "thesis.txt", "keyframes.json", "00000.png", "missing")))
    elif kind == 1:
        path.symlink_to(
            rng.choice((outside, Path("/dev/zero"), Path("/dev/stdin"), path, Path("/proc/self/mem"), folder))
        )
    elif kind == 2:
        os.mkfifo(path)
    elif kind == 3:
        path.mkdir()
    elif kind == 4:
        path.symlink_to(Path("..") / OUTSIDE)
    else:
        path.write_bytes(b"")


MUTATIONS: tuple[Callable[[Path, random.Random], None], ...] = (mutate_json, mutate_json, mutate_image, mutate_folder)


def use_as_sparkvsr_does(case: Path) -> str:
    """Check the references of a case; render with them, or make them again, where it says so."""
    import sparkvsr
    from sparkvsr.inference.keyframe_job import KeyframeOptions, check_references, make_keyframes
    from sparkvsr.keyframes.choice import KeyframeChoice

    clip, refs = case / CLIP, case / REFERENCES
    model = sparkvsr.load_model("bicubic", device="cpu")
    again = KeyframeOptions(
        keyframes=KeyframeChoice("manual", indices=FRAMES),
        references="bicubic",
        scale=2.0,
        device="cpu",
        overwrite=True,
    )
    steps: list[Callable[[], object]] = [lambda: check_references(clip, refs)]
    if (case / RENDER_MARK).exists():
        steps.append(lambda: sparkvsr.upscale(clip, case / "out.mp4", model=model, references=refs, scale=1, frames=9))
    if (case / WRITE_MARK).exists():
        steps.append(lambda: make_keyframes(clip, refs, again))
    refused = [is_refused(step) for step in steps]
    return "refused" if any(refused) else "used"


def snapshot(case: Path) -> dict[str, bytes]:
    """What lies outside the reference folder and the outputs."""
    places = [case / CLIP, *sorted((case / OUTSIDE).rglob("*")), *sorted(case.parent.iterdir())]
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in places}


def fuzz(
    num_inputs: int, seed: int, folder: Path, *, use: Callable[[Path], str] = use_as_sparkvsr_does
) -> Iterator[tuple[int, str, float, Path]]:
    """Yield ``(number, outcome, seconds, case folder)`` for each hostile folder; the folder is removed afterwards."""
    rng = random.Random(seed)
    model = folder / "seed"
    model.mkdir()
    make_seed(model)
    worker = Worker(use)
    case = folder / "case"
    for number in range(-1, num_inputs):
        shutil.copytree(model, case)
        if number >= 0:
            for _ in range(rng.randint(1, 2)):
                try:
                    rng.choice(MUTATIONS)(case / REFERENCES, rng)
                except (OSError, ValueError, RecursionError):
                    continue  # an earlier change left nothing to change here
        for mark, rest in ((WRITE_MARK, 0), (RENDER_MARK, 2)):
            if number % 4 == rest or number < 0:
                (case / mark).touch()
        before = snapshot(case)
        start = time.monotonic()
        outcome = worker.read(case, TIME_LIMIT_SECONDS if number >= 0 else 120)
        seconds = time.monotonic() - start
        after = snapshot(case)
        allowed = {CLIP, REFERENCES, OUTSIDE, WRITE_MARK, RENDER_MARK, "out.mp4", ".out.mp4.work"}
        strangers = {path.name for path in case.iterdir()} - allowed
        if before != after or strangers:
            changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
            outcome = f"wrote outside {changed[:5]} {sorted(strangers)[:5]}"
        if number < 0:
            if outcome != "used":
                msg = f"the valid folder was not used: {outcome}"
                raise RuntimeError(msg)
        else:
            yield number, outcome, seconds, case
        shutil.rmtree(case)
    worker.close()


def main() -> int:
    """Run the benchmark; 0 when nothing but uses and refusals came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that were findings")
    arguments = parser.parse_args()
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number, outcome, seconds, case in fuzz(arguments.inputs, arguments.seed, Path(folder)):
            slowest = max(slowest, seconds)
            kind = outcome.split()[0]
            outcomes[kind] += 1
            if kind not in ("used", "refused"):
                print(f"input {number}: {outcome}", flush=True)
                if arguments.keep:
                    shutil.copytree(case, arguments.keep / f"{number:05d}", symlinks=True, ignore=_pipes)
    findings = sum(count for kind, count in outcomes.items() if kind not in ("used", "refused"))
    totals = ", ".join(f"{count} {kind}" for kind, count in sorted(outcomes.items()))
    print(f"{sum(outcomes.values())} inputs: {totals}; slowest {slowest:.2f} s; findings {findings}")
    return 1 if findings else 0


def _pipes(folder: str, names: list[str]) -> list[str]:
    """Names that cannot be copied."""
    return [name for name in names if (Path(folder) / name).is_fifo()]


if __name__ == "__main__":
    sys.exit(main())
