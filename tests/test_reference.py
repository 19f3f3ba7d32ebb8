"""The reference texts by an encoder: those that ship, and those that are kept for others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from support import ColourEncoder, write_pictures

import xsearch
import xsearch.data
from xsearch.core.encoder import TextEmbeddings
from xsearch.data.bank import bank, bank_digest
from xsearch.retrieval.encoders import load_encoder
from xsearch.retrieval.reference import SHIPPED, embed_bank, reference_vectors, write_vectors

# What ships

STALE = (
    "data/builtin/bank.npz is not of these texts by this encoder; make it again with: "
    "python -m xsearch.training.builtin.bank"
)
SAMPLE = 24


@pytest.fixture(scope="module")
def shipped() -> dict[str, np.ndarray]:
    path = Path(xsearch.data.__path__[0]) / "builtin" / SHIPPED
    assert path.is_file(), STALE
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def test_the_shipped_vectors_are_those_of_the_shipped_texts(shipped: dict[str, np.ndarray]) -> None:
    encoder = load_encoder("builtin")
    assert str(shipped["digest"]) == bank_digest(), STALE
    assert str(shipped["fingerprint"]) == encoder.fingerprint, STALE
    vectors = shipped["vectors"]
    assert vectors.shape == (len(bank()), encoder.dim), STALE
    assert vectors.dtype == np.float16
    # Some of every language.
    chosen = np.linspace(0, len(bank()) - 1, SAMPLE).astype(int)
    made = encoder.embed_texts([bank()[at] for at in chosen]).vectors
    cosines = (vectors[chosen].astype(np.float32) * made).sum(axis=1)
    assert cosines.min() >= 0.999, STALE


def test_the_built_in_encoder_embeds_no_reference_texts(
    shipped: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    encoder = load_encoder("builtin")

    def refuse(*_: object) -> None:
        raise AssertionError("the vectors ship with the encoder")

    monkeypatch.setattr(type(encoder), "embed_texts", refuse)
    found = reference_vectors(encoder)
    assert found.dtype == np.float32
    assert np.array_equal(found, shipped["vectors"].astype(np.float32))
    assert not cache.exists()


# What is kept


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a user who has nothing cached yet."""
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    folder = Path(platformdirs.user_cache_dir("xsearch", appauthor=False)) / "reference"
    assert folder.is_relative_to(tmp_path)
    yield folder


class CountingEncoder(ColourEncoder):
    """One that counts the texts it was given."""

    texts = 0

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        self.texts += len(texts)
        return super().embed_texts(texts)


def kept(cache: Path) -> Path:
    (path,) = cache.iterdir()
    return path


def test_the_vectors_of_another_encoder_are_kept_and_used_again(cache: Path) -> None:
    first = CountingEncoder()
    made = reference_vectors(first)
    assert first.texts == len(bank())
    assert made.shape == (len(bank()), first.dim)
    assert np.array_equal(made, ColourEncoder().embed_texts(bank()).vectors)
    assert kept(cache).name.startswith("c010.")
    second = CountingEncoder()
    again = reference_vectors(second)
    assert second.texts == 0
    assert again.dtype == np.float32
    assert np.abs(again - made).max() < 1e-3


def test_encoders_of_other_fingerprints_do_not_share(cache: Path) -> None:
    reference_vectors(CountingEncoder())
    other = CountingEncoder("0ther", grid=2)
    assert reference_vectors(other).shape == (len(bank()), 12)
    assert other.texts == len(bank())
    assert len(list(cache.iterdir())) == 2


def _of(path: Path, fingerprint: str, vectors: np.ndarray) -> None:
    path.unlink()
    write_vectors(path, fingerprint, vectors)


@pytest.mark.parametrize(
    "harm", ["empty", "cut", "noise", "bytes", "zip", "fingerprint", "shape", "digest", "pickle"]
)
def test_a_damaged_or_foreign_file_is_made_anew(
    cache: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    made = reference_vectors(CountingEncoder())
    path = kept(cache)
    data = path.read_bytes()
    middle = len(data) // 2
    if harm == "fingerprint":
        _of(path, "0ther", made)
    elif harm == "shape":
        _of(path, "c010", made[1:])
    elif harm == "digest":
        with monkeypatch.context() as patch:
            patch.setattr("xsearch.retrieval.reference.bank_digest", lambda: "0" * 64)
            _of(path, "c010", made)
    elif harm == "pickle":
        with path.open("wb") as file:
            np.savez(file, vectors=np.array([{}], object), fingerprint="c010", digest="d")
    else:
        content = {
            "empty": b"",
            "cut": data[:middle],
            "noise": b"\xa5" * 1_000,
            "bytes": data[:middle] + b"\xa5" * 100 + data[middle + 100 :],
            "zip": b"PK\x03\x04" + b"\0" * 100,
        }
        path.write_bytes(content[harm])
    encoder = CountingEncoder()
    assert np.array_equal(reference_vectors(encoder), made)
    assert encoder.texts == len(bank())
    assert kept(cache).read_bytes() == data


@pytest.mark.parametrize("there", ["a file", "a file above", "nothing can be written"])
def test_a_cache_that_cannot_be_written_is_no_error(
    cache: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    if there == "nothing can be written":

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "savez", full)
    else:
        place = cache if there == "a file" else cache.parents[1]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"in the way")
    encoder = CountingEncoder()
    assert len(reference_vectors(encoder)) == len(reference_vectors(encoder)) == len(bank())
    assert encoder.texts == 2 * len(bank())
    if cache.is_dir():
        # Nor is anything left of it.
        assert not list(cache.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    vectors = np.eye(3, dtype=np.float32)
    write_vectors(path, "f", vectors)
    write_vectors(path, "f", 2 * vectors)
    assert [one.name for one in tmp_path.iterdir()] == ["a.npz"]
    with np.load(path) as arrays:
        assert np.array_equal(arrays["vectors"], 2 * vectors)
    with pytest.raises(OSError, match="nowhere"):
        write_vectors(tmp_path / "nowhere" / "a.npz", "f", vectors)


def test_a_library_asks_its_encoder_for_the_texts_once(
    cache: Path, tmp_path: Path, photos: Path
) -> None:
    write_pictures(photos, 3)
    encoder = CountingEncoder()
    with xsearch.open(tmp_path / "one", encoder=encoder) as library:
        library.index(photos)
        assert encoder.texts == len(bank())
        # The library has them now, and needs the cache no more.
        kept(cache).unlink()
        write_pictures(photos, 3, first=3)
        library.index(photos)
        library.index(photos)
        assert encoder.texts == len(bank())
        assert not list(cache.iterdir())


def test_texts_are_embedded_in_their_order() -> None:
    vectors = embed_bank(ColourEncoder())
    for at in (0, 255, 256, len(bank()) - 1):
        assert np.array_equal(vectors[at], ColourEncoder().embed_texts([bank()[at]]).vectors[0])
