"""`lhq doctor` in unusual environments: home, proxies, keys, weights, the folder itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from lhq.cli import cli

ROOT = Path(__file__).parents[3]
SURROUNDINGS = {f"{kind}_{what}" for kind in ("HTTP", "HTTPS", "ALL", "NO") for what in ("PROXY",)}
SURROUNDINGS |= {name.lower() for name in SURROUNDINGS}
SURROUNDINGS |= {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "HF_TOKEN", "TORCH_HOME"}
MASK_RCNN = "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth"


def doctor(**environment: str) -> dict[str, dict[str, object]]:
    """What it finds, by name, in this environment and no proxies, bundles or home but those given."""
    env = {**dict.fromkeys([*SURROUNDINGS, "HOME", "XDG_CACHE_HOME"]), **environment}
    done = CliRunner().invoke(cli, ["doctor", "--json"], env=env)
    assert (done.exit_code, done.stderr) == (0, ""), repr(done.exception)
    return {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}


def test_proxies_are_shown_without_passwords_and_blank_keys_count_as_missing(tmp_path: Path) -> None:
    found = doctor(HTTPS_PROXY="http://me:secret@127.0.0.1:3128", FLICKR_API_KEY=" ", FLICKR_API_SECRET="s3")
    assert found["HTTPS_PROXY"]["note"] == "127.0.0.1:3128"
    assert "secret" not in json.dumps(found)
    assert found["FLICKR_API_KEY"]["is_there"] is False
    assert found["FLICKR_API_SECRET"]["is_there"] is True


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HTTPS_PROXY", "http://me:secret@[::1", "the proxy [::1 of the environment is no address"),
        ("HTTP_PROXY", ":::bad", "is no address; set HTTP_PROXY"),
        ("HTTP_PROXY", "http://127.0.0.1:port", "is no address; set HTTP_PROXY"),
        ("ALL_PROXY", "socks5://127.0.0.1", "is not of http or https"),
        ("SSL_CERT_FILE", "/no/such.pem", "SSL_CERT_FILE = '/no/such.pem': no such file"),
        ("SSL_CERT_FILE", str(ROOT / "LICENSE"), "no certificates can be read from it"),
    ],
)
def test_an_unusable_network_is_reported(name: str, value: str, said: str) -> None:
    found = doctor(**{name: value})["environment"]
    assert found["is_there"] is False
    assert said in str(found["note"])
    assert "secret" not in str(found["note"])


def test_weights_that_were_cut_short_are_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "hub/checkpoints"
    folder.mkdir(parents=True)
    (folder / MASK_RCNN).write_bytes(b"PK" + bytes(1000))
    (folder / "dinov2_vits14_pretrain.pth").write_bytes(b"PK" + bytes(1000))
    found = doctor(TORCH_HOME=str(tmp_path))
    for name in ('objects, weights = "coco"', 'outliers, features = "dinov2"'):
        assert found[name]["is_there"] is False
        assert "is cut short or another file: remove it" in str(found[name]["note"])
    assert "fetched at first use" in str(found["connectability"]["note"])


@pytest.mark.parametrize("home", ["none", "missing", "file"])
def test_a_home_that_cannot_be_written(home: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    places = {"none": {}, "missing": {"HOME": str(tmp_path / "new")}, "file": {"HOME": str(tmp_path / "file/me")}}
    found = doctor(**places[home])
    note = str(found["connectability"]["note"])
    assert ("set TORCH_HOME to a folder that can" in note) is (home == "file") or home == "none"


@pytest.mark.parametrize("left", ["a folder", "hf_mine"])
def test_a_token_of_the_hub(left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `hf auth login` left counts; what can't be read is reported."""
    token = tmp_path / "token"
    token.mkdir() if left == "a folder" else token.write_text(left)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(token))  # HF_HOME is read once, at import
    found = doctor()
    assert found["HF_TOKEN"]["is_there"] is (left == "hf_mine")
    assert ("can't be read (Is a directory)" in str(found["HF_TOKEN"]["note"])) is (left == "a folder")
    assert "hf_mine" not in json.dumps(found)


@pytest.mark.parametrize("name", ["lhq", "alis"])
def test_a_folder_that_is_gone_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    code = f"import os; os.chdir({str(tmp_path / 'gone')!r}); os.rmdir({str(tmp_path / 'gone')!r})\n"
    code += f"import sys; sys.argv = [{name!r}, 'doctor']; from {name}.cli import main; main()"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"{name}: the folder that this is run in is gone (No such file or directory); cd to one that is there\n"
    )


@pytest.mark.parametrize(
    ("module", "extra", "commands"), [("torch", "ml", "train, panorama, connect"), ("av", "web", "serve, export-web")]
)
def test_commands_that_lack_one_extra_stand_in_one_line(module: str, extra: str, commands: str) -> None:
    code = (
        f"import sys; sys.modules['{module}'] = None; sys.argv = ['alis', 'doctor']; from alis.cli import main; main()"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    told = [line for line in done.stdout.splitlines() if "  command  " in line]
    assert any(line.startswith(f"missing  command  {commands}") and f"'lhq[{extra}]'" in line for line in told), told
    assert told[-1].startswith("ok       command  ")
    assert "doctor" in told[-1]
    assert len(told) <= 4
