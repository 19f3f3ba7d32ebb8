"""Time of the built-in encoder's image tower, against another's in the same process.

Run `python benchmarks/image_tower.py OTHER.onnx`, such as an older version's: `git show
REVISION:data/builtin/image.onnx > OTHER.onnx`. Both see the same batch of noise, in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from common import describe

import xsearch.data
from xsearch.retrieval.encoders import load_encoder
from xsearch.retrieval.encoders.runtime import OnnxCpu, Session


def seconds(session: Session, batch: np.ndarray) -> float:
    start = time.perf_counter()
    session.run(["embedding"], {"image": batch})
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="an image tower as ONNX, of the same input")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    encoder = load_encoder()
    side = encoder.image_size
    random = np.random.default_rng(0)
    batch = random.integers(0, 256, (options.batch, side, side, 3), dtype=np.uint8)
    folder = Path(xsearch.data.__path__[0]) / "builtin"
    paths = folder / "image.onnx", options.other
    ours, other = (OnnxCpu().open(path, widen=True) for path in paths)
    pairs = []
    for number in range(options.rounds + 2):
        pair = seconds(ours, batch), seconds(other, batch)
        if number >= 2:
            pairs.append(pair)
    report = describe(
        "image_tower",
        batch=options.batch,
        images_a_second=round(options.batch / statistics.median(one for one, _ in pairs), 1),
        other_images_a_second=round(options.batch / statistics.median(two for _, two in pairs), 1),
        time_ratio=round(statistics.median(one / two for one, two in pairs), 3),
    )
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}; {report['date']}")
    print(
        f"{report['images_a_second']} images/s against {report['other_images_a_second']}; "
        f"time ratio {report['time_ratio']}"
    )


if __name__ == "__main__":
    main()
