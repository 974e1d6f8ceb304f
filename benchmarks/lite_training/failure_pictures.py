"""Crops for docs/lite.md from the middle frames that evaluate.py --pictures wrote.

python benchmarks/lite_training/failure_pictures.py PICTURES OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

# name of the picture: clip, left, top (HR pixels)
CROPS = {
    "good_city": ("vid4_city", 300, 200),
    "good_calendar": ("vid4_calendar", 60, 300),
    "hard_walk": ("vid4_walk", 330, 150),
    "hard_butterfly": ("butterfly", 230, 100),
    "hard_foliage": ("vid4_foliage", 300, 200),
}
ROWS = ("lr", "bicubic", "blind", "keyed", "truth")
SIDE = 200


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    for name, (clip, x, y) in CROPS.items():
        cells = []
        for row in ROWS:
            image = cv2.imread(str(source / f"{clip}_{row}.png"))
            cell = np.ascontiguousarray(image[y : y + SIDE, x : x + SIDE])
            cv2.putText(cell, row, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
            cv2.putText(cell, row, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
            cells.append(cell)
        cv2.imwrite(str(target / f"lite_{name}.jpg"), np.hstack(cells), [cv2.IMWRITE_JPEG_QUALITY, 90])


if __name__ == "__main__":
    main()
