"""A model of open_clip in torch against the same as ONNX: indexing, memory, and the cold query.

Run `python benchmarks/encoders.py` (needs the extras `train` and `demo`). The model is a ViT-B-32
at its real size with random weights, made on the spot: what it says is useless, what it costs is
not. Every figure comes from a fresh process. A cold query is a whole `xsearch query`; beside it
run a process that only opens the text tower with onnxruntime and runs it once, and both for the
built-in encoder. Their ratio is

    query with the model / (the tower's own run + what a query with the built-in one adds to its)

so that 1 means that a model of any size costs its own run and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import describe, run_quietly, seconds_of, write_crops

import xsearch
from xsearch import models, training

PRECISIONS = ("fp32", "fp16", "int8")

_INDEX = """
import json, pathlib, sys, time
import numpy as np
import xsearch
place, photos, encoder = sys.argv[1:]
with xsearch.open(place, encoder=encoder) as library:
    side = library.encoder.image_size
    start = time.perf_counter()
    batch = library.encoder.preprocess(__import__("PIL.Image").Image.new("RGB", (side, side)))
    library.encoder.embed_images(np.stack([batch]))
    loaded = time.perf_counter() - start
    report = library.index(photos)
# Not what `resource` says: that never falls below what the parent process had in use.
status = pathlib.Path("/proc/self/status").read_text()
peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
print(json.dumps({
    "images_a_second": report.added / report.seconds,
    "encode_a_second": report.rates.encode,
    "load_seconds": loaded,
    "peak_mib": peak,
}))
"""

_TOWER = """
import sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
# As xsearch opens it, so that the ratio does not gain from a slower way.
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
options.add_session_config_entry("session.disable_prepacking", "1")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
ids = numpy.arange(1, 7)[None]
session.run(["embedding"], {"input_ids": ids, "attention_mask": numpy.ones_like(ids)})
"""


def checkpoint(folder: Path) -> str:
    """The folder of a ViT-B-32 with random weights, by the name that loads it."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    config = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    net = open_clip.create_model("ViT-B-32", load_weights=False)
    weights = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_file(weights, str(folder / "open_clip_model.safetensors"))
    return f"local-dir:{folder}"


def indexed(place: Path, photos: Path, encoder: str) -> dict[str, float]:
    """Index in a fresh process: images a second, and its peak memory."""
    command = [sys.executable, "-c", _INDEX, str(place), str(photos), encoder]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(result.stdout)
    return {name: round(value, 2) for name, value in found.items()}


def cold(libraries: dict[str, Path], towers: dict[str, Path], runs: int) -> dict[str, Any]:
    """Medians in ms of whole queries and of the towers alone, in turn, and the ratio of each."""
    command = shutil.which("xsearch", path=str(Path(sys.executable).parent)) or "xsearch"
    tasks = {f"{name} query": (command, "query", "cat on grass", "-l") for name in libraries}
    rounds: list[dict[str, float]] = []
    for number in range(runs + 1):
        found = {
            f"{name} query": seconds_of(
                lambda words=tasks[f"{name} query"], at=place: run_quietly(*words, str(at))
            )
            for name, place in libraries.items()
        }
        for name, path in towers.items():
            found[f"{name} tower"] = seconds_of(
                lambda at=path: run_quietly(sys.executable, "-c", _TOWER, str(at))
            )
        if number:  # the first fills the system's caches
            rounds.append(found)
    ratios = {
        name: round(
            statistics.median(
                each[f"{name} query"]
                / (each[f"{name} tower"] + each["builtin query"] - each["builtin tower"])
                for each in rounds
            ),
            2,
        )
        for name in libraries
        if name != "builtin"
    }
    medians = {key: round(statistics.median(each[key] for each in rounds) * 1e3) for key in found}
    return {"ms": medians, "ratios": ratios}


def builtin_tower() -> Path:
    """The text tower that reads English in the built-in encoder."""
    folder = models.show_model("builtin").folder
    assert folder is not None
    content = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    return folder / content["text"]["english"]["file"]


def measure(folder: Path, images: int, runs: int) -> dict[str, Any]:
    """Everything, in one folder."""
    os.environ["XSEARCH_MODELS"] = str(folder / "models")
    photos = folder / "photos"
    write_crops(photos, images)
    name = checkpoint(folder / "checkpoint")
    indexing = {"torch": indexed(folder / "torch", photos, name)}
    libraries, towers = {"builtin": folder / "builtin"}, {"builtin": builtin_tower()}
    for precision in PRECISIONS:
        made = training.export_model(name, folder / precision, precision=precision)
        place = folder / f"library-{precision}"
        indexing[precision] = indexed(place, photos, str(made.folder))
        indexing[precision]["mib_on_disk"] = round(made.bytes / 2**20)
        indexing[precision]["cosine"] = round(min(made.parity["image"], made.parity["text"]), 6)
        libraries[precision], towers[precision] = place, made.folder / "text.onnx"
    with xsearch.open(libraries["builtin"]) as library:
        library.index(photos)
    return {"indexing": indexing, "cold_query": cold(libraries, towers, runs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.images, options.runs)
    report = describe("encoders", images=options.images, **found)
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}; {report['date']}")
    for name, row in found["indexing"].items():
        print(f"indexing, {name:<6}", ", ".join(f"{key} {value}" for key, value in row.items()))
    for name, spent in found["cold_query"]["ms"].items():
        print(f"{spent:>7} ms  {name}")
    for name, ratio in found["cold_query"]["ratios"].items():
        print(f"ratio, {name}: {ratio}")


if __name__ == "__main__":
    main()
