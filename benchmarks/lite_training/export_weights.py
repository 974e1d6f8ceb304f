"""Write the averaged weights of both trainings as a lite folder.

python benchmarks/lite_training/export_weights.py --propagator P/last.pt --upscaler U/last.pt --out FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from sparkvsr.models.lite.network import KeyframeUpscalerNet, PropagatorConfig, PropagatorNet, UpscalerConfig
from sparkvsr.models.lite.weights import save_lite


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--propagator", type=Path)
    parser.add_argument("--upscaler", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    networks = [PropagatorNet(PropagatorConfig()), KeyframeUpscalerNet(UpscalerConfig())]
    for network, path in zip(networks, (args.propagator, args.upscaler), strict=True):
        if path is not None and path.exists():
            network.load_state_dict(torch.load(path, weights_only=True)["average"])
    save_lite(args.out, networks[0], networks[1])


if __name__ == "__main__":
    main()
