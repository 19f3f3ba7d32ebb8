"""Models come from a hub whole or not at all: fetched, gone on with, checked, or refused by name.

Each fetch runs in a process of its own, because the hub's tools read their variables at import.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

try:
    import huggingface_hub  # noqa: F401
    import open_clip  # noqa: F401
    import transformers  # noqa: F401
except ImportError as error:
    pytest.skip(f"needs the extra `train`: {error}", allow_module_level=True)

from hub_server import COMMIT, Hub, serving
from tiny_models import siglip_folder

pytestmark = pytest.mark.train

NAME = "someone/small"
WEIGHTS = "open_clip_model.safetensors"
FETCH = (
    "import json, sys\n"
    "from xsearch.core.errors import Error\n"
    "from xsearch.retrieval.encoders.clip.hub import fetch\n"
    "try: print(json.dumps(fetch(sys.argv[1]).to_dict()))\n"
    "except Error as error: sys.exit(f'{type(error).__name__}: {error}')"
)


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub's repositories: one model, whose tokenizer lies beside it."""
    root = tmp_path_factory.mktemp("repositories")
    folder = siglip_folder(root / NAME)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = NAME
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: a-fair-one\n---\n# Small")
    return root


@pytest.fixture
def hub(repositories: Path) -> Iterator[Hub]:
    with serving(repositories) as opened:
        yield opened


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "hf"


def environment(home: Path, address: str, **more: str) -> dict[str, str]:
    cleared = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    ours = {"HF_HOME": str(home), "HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1"}
    # A test must not be routed through somebody's proxy.
    return {**cleared, "NO_PROXY": "127.0.0.1", **ours, **more}


def fetch(
    home: Path, address: str, name: str = f"hf-hub:{NAME}", **more: str
) -> subprocess.CompletedProcess[str]:
    """Fetch a model in a fresh process."""
    return subprocess.run(
        [sys.executable, "-c", FETCH, name],
        env=environment(home, address, **more),
        capture_output=True,
        text=True,
    )


def xsearch(home: Path, address: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a whole command."""
    return subprocess.run(
        [sys.executable, "-c", "from xsearch.cli.main import run; run()", *words],
        env=environment(home, address, **more),
        capture_output=True,
        text=True,
    )


def blobs(home: Path) -> Path:
    return home / "hub" / "models--someone--small" / "blobs"


def content_and_hash(repositories: Path) -> tuple[bytes, str]:
    content = (repositories / NAME / WEIGHTS).read_bytes()
    return content, hashlib.sha256(content).hexdigest()


def test_a_model_is_pulled_from_a_hub_and_again_from_its_cache_without_one(
    repositories: Path, hub: Hub, home: Path, tmp_path: Path
) -> None:
    store = {"XSEARCH_MODELS": str(tmp_path / "models")}
    pull = ("models", "pull", f"hf-hub:{NAME}", "--json")
    done = xsearch(home, hub.address, *pull, **store)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    content, digest = content_and_hash(repositories)
    assert made["licence"] == "a-fair-one"
    assert made["checkpoint"] == {
        "file": WEIGHTS,
        "sha256": digest,
        "repository": NAME,
        "revision": COMMIT,
    }
    assert (blobs(home) / digest).read_bytes() == content
    asked = len(hub.requests)
    again = xsearch(home, hub.address, *pull, "--force", HF_HUB_OFFLINE="1", **store)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["fingerprint"] == made["fingerprint"]
    assert len(hub.requests) == asked


def test_a_broken_download_goes_on_where_it_ended(repositories: Path, hub: Hub, home: Path) -> None:
    content, digest = content_and_hash(repositories)
    half = len(content) // 2
    blobs(home).mkdir(parents=True)
    (blobs(home) / f"{digest}.part").write_bytes(content[:half])
    hub.cut_after = 0
    broken = fetch(home, hub.address)
    assert broken.returncode == 1
    assert broken.stderr.count("\n") == 1
    assert f"{WEIGHTS} of {NAME} broke off" in broken.stderr
    assert "pull again to go on" in broken.stderr
    hub.cut_after = None
    hub.ranges.clear()
    done = fetch(home, hub.address)
    assert done.returncode == 0, done.stderr
    assert hub.ranges == [f"bytes={half}-"]
    assert (blobs(home) / digest).read_bytes() == content


def test_a_part_that_does_not_belong_is_fetched_anew(
    repositories: Path, hub: Hub, home: Path
) -> None:
    content, digest = content_and_hash(repositories)
    blobs(home).mkdir(parents=True)
    (blobs(home) / f"{digest}.part").write_bytes(b"x" * 5_000)
    done = fetch(home, hub.address)
    assert done.returncode == 0, done.stderr
    assert (blobs(home) / digest).read_bytes() == content


def test_what_arrives_damaged_is_refused_by_name(repositories: Path, hub: Hub, home: Path) -> None:
    hub.spoilt = True
    done = fetch(home, hub.address)
    assert done.returncode == 1
    assert "EncoderError" in done.stderr
    assert "of someone/small arrived damaged twice" in done.stderr
    _, digest = content_and_hash(repositories)
    assert not (blobs(home) / digest).exists()


def test_a_file_damaged_in_the_cache_is_fetched_again_or_named(
    repositories: Path, hub: Hub, home: Path
) -> None:
    content, digest = content_and_hash(repositories)
    assert fetch(home, hub.address).returncode == 0
    blob = blobs(home) / digest
    blob.write_bytes(content[:-1] + b"?")
    offline = fetch(home, hub.address, HF_HUB_OFFLINE="1")
    assert offline.returncode == 1
    assert f"{WEIGHTS} of {NAME} is damaged" in offline.stderr
    online = fetch(home, hub.address)
    assert online.returncode == 0, online.stderr
    assert blob.read_bytes() == content


def test_without_a_network_the_message_names_what_to_bring_and_where(home: Path) -> None:
    for variables in ({"HF_HUB_OFFLINE": "1"}, {}):
        # Nobody listens on this port.
        done = fetch(home, "http://127.0.0.1:9", **variables)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        for part in (WEIGHTS, NAME, "models--someone--small", str(home / "hub"), "local-dir:"):
            assert part in done.stderr


def test_a_gated_and_an_unknown_repository_say_what_to_do(hub: Hub, home: Path) -> None:
    hub.gated.add(NAME)
    gated = fetch(home, hub.address)
    assert gated.returncode == 1
    assert f"{hub.address}/{NAME}" in gated.stderr
    assert "hf auth login" in gated.stderr
    unknown = fetch(home, hub.address, "hf-hub:nobody/nothing")
    assert unknown.returncode == 1
    assert "no repository nobody/nothing" in unknown.stderr


def test_a_private_repository_is_read_with_the_users_token(hub: Hub, home: Path) -> None:
    hub.token = "hf_secret"
    refused = fetch(home, hub.address)
    assert refused.returncode == 1
    assert "HF_TOKEN" in refused.stderr
    let_in = fetch(home, hub.address, HF_TOKEN="hf_secret")
    assert let_in.returncode == 0, let_in.stderr


def test_a_folder_is_pulled_without_asking_any_hub(
    repositories: Path, hub: Hub, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(repositories / NAME, folder)
    done = xsearch(
        home,
        hub.address,
        "models",
        "pull",
        f"local-dir:{folder}",
        XSEARCH_MODELS=str(tmp_path / "models"),
    )
    assert done.returncode == 0, done.stderr
    assert hub.requests == []
    (folder / WEIGHTS).unlink()
    bare = fetch(home, hub.address, f"local-dir:{folder}")
    assert f"holds no weights: bring {WEIGHTS}" in bare.stderr
