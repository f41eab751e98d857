"""`export --push` uploads a folder to the Hub, here a stand-in on this machine, or says in one line why it cannot."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

import hub_server
from conftest import SENTENCES, CliResult
from hub_server import OWNER, TOKEN, Hub, Repo
from test_export import model_of
from xstilts import UserError
from xstilts.predict.hub import check_push, push

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub 2.4's own
CARD = "---\ntags:\n- xstilts\n---\n\n# A model\n"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A stand-in of the Hub with a user `anna`, who is logged in."""
    with hub_server.running() as server:
        for name, value in {"ENDPOINT": server.url, "HF_HUB_DISABLE_XET": True, "HF_HUB_OFFLINE": False,
                            "HF_TOKEN_PATH": str(tmp_path / "token")}.items():  # fmt: skip
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What an export may hold, in small."""
    files = {"README.md": CARD, "config.json": "{}", "model.safetensors": "weights", "1_Pooling/config.json": "{}"}
    for name, text in files.items():
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(text, encoding="utf-8")
    return tmp_path / "out"


STOCK = """\
import json, sys
from huggingface_hub import snapshot_download
from transformers import pipeline
texts = sys.stdin.read().splitlines()
print(json.dumps([pipeline("text-classification", model=name, top_k=None, device="cpu")(texts, truncation=True)
                  for name in (snapshot_download(sys.argv[1]), sys.argv[2])]))
"""


def test_a_pushed_model_is_downloaded_and_loaded_by_transformers(
    tmp_path: Path, hub: Hub, xstilts: Callable[..., CliResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = model_of("XLMRoberta", "text", tmp_path, monkeypatch)
    result = xstilts("export", trained, tmp_path / "mine", "--push", f"{OWNER}/reviews")
    assert result.code == 0 and f"{hub.url}/{OWNER}/reviews: uploaded" in result.out, result.err
    repo = hub.repos[f"{OWNER}/reviews"]
    assert repo.private and repo.commits == 1 and "xstilts" in repo.tags
    own = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()}
    assert {name: data for name, data in repo.files.items() if name != ".gitattributes"} == own
    assert f'model="{OWNER}/reviews"' in own["README.md"].decode()
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", STOCK, f"{OWNER}/reviews", str(tmp_path / "mine")]
    done = subprocess.run(
        command, input="\n".join(SENTENCES), capture_output=True, encoding="utf-8", env=env, check=True
    )
    downloaded, exported = json.loads(done.stdout)
    assert downloaded == exported and len(exported) == len(SENTENCES)


def test_a_second_push_sends_only_what_has_changed(folder: Path, hub: Hub) -> None:
    assert push(folder, f"{OWNER}/mine") == f"{hub.url}/{OWNER}/mine"
    push(folder, "mine")  # the owner of the token
    assert list(hub.repos) == [f"{OWNER}/mine"] and hub.repos[f"{OWNER}/mine"].commits == 1
    (folder / "config.json").write_text('{"new": 1}', encoding="utf-8")
    push(folder, f"{OWNER}/mine")
    assert hub.repos[f"{OWNER}/mine"].commits == 2 and len(hub.uploads) == 1
    assert hub.repos[f"{OWNER}/mine"].files["config.json"] == b'{"new": 1}'


def test_a_server_that_recovers_is_asked_again(folder: Path, hub: Hub) -> None:
    hub.faults = [("/preupload/", 500), ("/blob/", 503), ("/blob/", 0)]
    push(folder, f"{OWNER}/mine")
    assert hub.faults == [] and hub.repos[f"{OWNER}/mine"].commits == 1 and len(hub.uploads) == 1


@pytest.mark.parametrize(("fault", "message"), [
    (("/repos/create", 401), "the Hub refuses the token"),
    (("/repos/create", 500), "the Hub answers 500"),
    (("/validate-yaml", 400), "the Hub answers 400: as the test asks"),
    (("/commit/", 403), "the token may not write there"),
    (("/commit/", 429), "the Hub asks to wait"),
    (("/commit/", 0), "erver disconnected"),
])  # fmt: skip
def test_after_a_refusal_the_folder_stays_and_a_retry_sends_no_large_file_again(
    fault: tuple[str, int], message: str, folder: Path, hub: Hub
) -> None:
    hub.faults = [fault]
    with pytest.raises(
        UserError, match=rf"--push anna/mine: .*{message}.*\(the export stays in .*; to upload it later: "
    ):
        push(folder, f"{OWNER}/mine")
    assert (folder / "model.safetensors").is_file()
    assert not any(repo.commits for repo in hub.repos.values())
    push(folder, f"{OWNER}/mine")
    assert hub.repos[f"{OWNER}/mine"].commits == 1 and len(hub.uploads) == 1


def test_somebody_elses_model_is_not_replaced(folder: Path, hub: Hub) -> None:
    hub.repos = {
        f"{OWNER}/other": Repo(False, {"config.json": b"{}", "README.md": b"# mine\n"}),
        f"{OWNER}/more": Repo(False, {"README.md": CARD.encode(), "pytorch_model.bin": b"."}),
    }
    for name, message in (
        (
            f"{OWNER}/other",
            r"the repository holds a model of another origin \(choose another name; the export stays in",
        ),
        (f"{OWNER}/more", r"the repository has pytorch_model.bin, which this export lacks"),
        ("somebody/else", r"--push somebody/else: the token may not write there"),
    ):
        with pytest.raises(UserError, match=message):
            push(folder, name)
    assert [repo.commits for repo in hub.repos.values()] == [0, 0] and hub.uploads == []


@pytest.mark.usefixtures("hub")
def test_a_hub_that_is_not_there_is_one_message(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"--push anna/mine: .*refused"):
        push(folder, f"{OWNER}/mine")


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(("name", "message"), [
    ("anna/my model", r"--push anna/my model: is no name of a model on the Hub \(write OWNER/NAME"),
    ("a/b/c", "is no name of a model"),
    ("", "is no name of a model"),
    ("anna/mine", r"there is no token of the Hub \(run `hf auth login`, or set HF_TOKEN\)"),
])  # fmt: skip
def test_what_a_push_needs_is_checked_before_the_export(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch, xstilts: Callable[..., CliResult], tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match=message):
        check_push(name)
    result = xstilts("export", tmp_path / "none", tmp_path / "out", "--push", name)
    assert result.code == 2 and result.err.startswith(f"error: --push {name}: ") and result.err.count("\n") == 1


@pytest.mark.usefixtures("hub")
def test_the_hubs_offline_switch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set, so nothing can be uploaded"):
        check_push("anna/mine")
