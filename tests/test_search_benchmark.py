"""The benchmark of search: vectors as real ones lie, and a row for what the library chooses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from vectors import Source

    return Source


def test_a_small_library_is_the_beginning_of_a_larger_one(source) -> None:
    small = np.concatenate(list(source(512).images(500)))
    large = np.concatenate(list(source(512).images(2_000)))
    np.testing.assert_array_equal(small, large[:500])
    np.testing.assert_allclose(np.linalg.norm(small, axis=1), 1, atol=1e-5)


def test_more_dimensions_change_no_cosine(source) -> None:
    plain, turned = (np.concatenate(list(source(dim).images(200))) for dim in (384, 768))
    np.testing.assert_allclose(plain @ plain.T, turned @ turned.T, atol=1e-4)


def test_words_lie_farther_from_pictures_than_pictures_do(source) -> None:
    made = source(512)
    rows = np.concatenate(list(made.images(5_000)))
    words, pictures = (
        np.median((queries @ rows.T).max(1))
        for queries in (made.texts(100, 5_000), made.pictures(100, 5_000))
    )
    assert 0.4 < words < 0.55 < pictures < 0.8


@pytest.mark.slow
def test_the_benchmark_prints_a_row_for_the_chosen_kind_and_for_others() -> None:
    command = [sys.executable, str(BENCHMARKS / "search.py"), "--sizes", "3000,30000", "--json"]
    command += ["--kinds", "rabitq", "--queries", "40", "--peers", "faiss-flat"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["count"], row["kind"], row["chosen"]) for row in rows] == [
        (3_000, "flat", True),
        (3_000, "faiss-flat", False),
        (30_000, "flat", True),
        (30_000, "rabitq", False),
        (30_000, "faiss-flat", False),
    ]
    for row in rows:
        assert row["dim"] == 512
        assert row["recall_at_10"] >= 0.95
        assert row["p95_ms"] >= row["p50_ms"] > 0
        assert {"resident_mb", "build_s", "disk_mb"} <= row.keys()
    assert rows[0]["recall_at_10"] == 1.0
