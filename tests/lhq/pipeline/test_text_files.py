"""Text files in every encoding that is read; and the nearest name for every typo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import alis.cli
import lhq
import lhq.cli
from alis.errors import AlisError
from alis.features.extractors import open_features
from alis.metrics import EvaluationPlan
from alis.training import recipe
from lhq.errors import LhqError
from lhq.measures.outliers import _trust
from lhq.store.shards import Shards
from tests.lhq.making import painted_store, scene

SAVED: dict[str, Callable[[str], bytes]] = {
    "plain": lambda text: text.encode(),
    "marked, CRLF": lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(),
    "UTF-16, CRLF": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "UTF-16, big end first": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "CR alone": lambda text: text.replace("\n", "\r").encode(),
    "no last line end": lambda text: text.rstrip("\n").encode(),
}


@pytest.fixture(params=SAVED)
def save(request: pytest.FixtureRequest) -> Callable[[Path, str], Path]:
    """Write a text as one kind of editor would."""

    def write(path: Path, text: str) -> Path:
        path.write_bytes(SAVED[request.param](text))
        return path

    return write


def test_every_text_file_is_read_as_people_have_them(tmp_path: Path, save: Callable[[Path, str], Path]) -> None:
    save(tmp_path / "queries.txt", "# seas\nlac de montagne\n\nfjörd\n")
    save(tmp_path / "deny.txt", "author José Müller\nhttps://photos.example/private\nexample.org\n")
    store = painted_store(tmp_path / "store", 3)
    path = save(
        tmp_path / "p.toml",
        f'store = "{store}"\nwant = 3\nqueries = "queries.txt"\n[source.flickr]\n[rights]\ndeny = "deny.txt"\n',
    )
    pipeline = lhq.load(path)
    assert [query.text for query in pipeline.file.queries] == ["lac de montagne", "fjörd"]
    denied = pipeline.file.policy.deny_list
    assert (denied.authors, denied.domains) == ({"josé müller"}, {"example.org"})
    ids = [each.id for each in pipeline.candidates()]
    trusted = save(tmp_path / "trusted.txt", "\n".join(ids) + "\n")
    trusts = _trust(Shards(str(store), "photos"), str(trusted))
    assert all(trusts(id) for id in ids)
    taken = save(tmp_path / "taken.txt", f"# asked by mail\n{ids[0]}\n")
    done = CliRunner().invoke(lhq.cli.cli, ["remove", str(path), "--file", str(taken), "--duplicates", "keep"])
    assert (done.exit_code, done.stdout) == (0, f"{ids[0]}\n")
    assert recipe.read(str(save(tmp_path / "mine.toml", "[optim]\nbatch = 8\n"))).optim.batch == 8
    (tmp_path / "one").mkdir()
    (tmp_path / "one/wörld.jpg").write_bytes(scene(1))
    papers = save(tmp_path / "papers.csv", "file,author,licence\nwörld.jpg,José,cc-by-4.0\n")
    words = ["import", "folder", str(tmp_path / "one"), str(path), "--papers", str(papers)]
    done = CliRunner().invoke(lhq.cli.cli, words)
    assert "new 1" in done.stderr, done.output


@pytest.mark.parametrize("name", ["queries", "deny", "pipeline"])
def test_another_encoding_is_named(tmp_path: Path, name: str) -> None:
    for file in ("queries.txt", "deny.txt"):
        (tmp_path / file).write_text("example.org\n")
    path = tmp_path / "pipeline.toml"
    path.write_text('store = "s"\nwant = 1\nqueries = "queries.txt"\n[rights]\ndeny = "deny.txt"\n# é\n')
    spoilt = path if name == "pipeline" else tmp_path / f"{name}.txt"
    spoilt.write_bytes((spoilt.read_text(encoding="utf-8") + "# Müller\n").encode("cp1252"))
    with pytest.raises(LhqError, match=r"Windows-1252.*save it as UTF-8"):
        lhq.load(path)


@pytest.mark.parametrize(
    ("lines", "meant"),
    [
        ("[rights]\ndeny = 'dany.txt'", "deny.txt"),
        ("[filter.outliers]\nfeatures = 'thumbnail'\ntrusted = 'trused.txt'", "trusted.txt"),
        ("engine = 'rey'", "ray"),
        ("[source.flikr]", "flickr"),
        ("[source.folder]\npath = '.'\nlicence = 'cc-by-40'", "cc-by-4.0"),
        ("[source.flickr]\nlicences = ['cc-by2.0']", "cc-by-2.0"),
        ("[source.commons]\nlicences = ['cc00-1.0']", "cc0-1.0"),
        ("[source.unsplash_dataset]\npath = 'tabels'", "tables"),
        ("[filter.object]", "objects"),
        ("[filter.objects]\nbackend = 'torchvison'", "torchvision"),
        ("[filter.objects]\nallow = ['brid']", "bird"),
        ("[export]\npublish = 'manifst'", "manifest"),
        ("[export]\nvariants = ['ful']", "full"),
        ("[export]\nlicences = ['comercial-ok']", "commercial-ok"),
        ("[sandbox]\nprot = 1", "port"),
    ],
)
def test_a_word_of_the_file_that_is_nearly_right(
    tmp_path: Path, lines: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("deny.txt", "trusted.txt", "tables"):
        (tmp_path / name).touch() if name.endswith(".txt") else (tmp_path / name).mkdir()
    painted_store(tmp_path / "store", 2)
    top, table = ("", lines) if lines.startswith("[") else (lines, "")
    path = tmp_path / "p.toml"
    path.write_text(f"store = 'store'\nwant = 1\nqueries = ['a']\n{top}\n{table}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LhqError, match=rf"did you mean .*{meant}"):
        use(path)


def use(path: Path) -> None:
    """Every stage of a pipeline file, as far as nobody is asked over the network."""
    pipeline = lhq.load(path)
    for obstacle in pipeline.obstacles() if pipeline.file.sources else ():
        raise obstacle
    pipeline.filter()
    pipeline.export()


def test_a_value_may_be_a_known_word_or_a_file_next_to_the_pipeline_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every other path of the file; one that is there from where lhq is run stays what it was."""
    (tmp_path / "here").mkdir()
    for name in ("mine.txt", "here/both.txt", "both.txt", "detector.pth"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "p.toml"
    for trusted, meant in (("mine.txt", str(tmp_path / "mine.txt")), ("both.txt", "both.txt"), ("kept", "kept")):
        path.write_text(f"store = 's'\nwant = 1\nqueries = ['a']\n[filter.outliers]\ntrusted = '{trusted}'\n")
        assert lhq.load(path).file.filters["outliers"].trusted == meant  # type: ignore[attr-defined]
    path.write_text("store = 's'\nwant = 1\nqueries = ['a']\n[filter.objects]\nweights = 'detector.pth'\n")
    assert lhq.load(path).file.filters["objects"].weights == str(tmp_path / "detector.pth")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda folder: recipe.read("lhq265"), "lhq256"),
        (lambda folder: recipe.read(str(folder / "mein.toml")), "mine.toml"),
        (lambda folder: recipe.read("tiny", {"optim.bach": 1}), "batch"),
        (lambda folder: recipe.read("tiny", {"optm.batch": 1}), "optim"),
        (lambda folder: EvaluationPlan(("fdi",)), "fid"),
        (lambda folder: open_features("inceptoin", None), "inception"),  # type: ignore[arg-type]
        (lambda folder: alis.load(folder / "modle"), "model"),
    ],
)
def test_a_word_of_alis_that_is_nearly_right(tmp_path: Path, call: Callable[[Path], object], meant: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "mine.toml").touch()
    with pytest.raises(AlisError, match=rf"did you mean .*{meant}"):
        call(tmp_path)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["lhq", "list", "p.toml", "--source", "flikr"], "flickr"),
        (["lhq", "list", "p.toml", "--reason", "tmeout"], "timeout"),
        (["lhq", "crawl", "p.tom"], "p.toml"),
        (["lhq", "filter", "p.toml", "--engine", "lcal"], "local"),
        (["lhq", "export", "p.toml", "--variants", "fll"], "full"),
        (["lhq", "verfy"], "verify"),
        (["alis", "panoram"], "panorama"),
    ],
)
def test_a_word_of_a_command_that_is_nearly_right(
    tmp_path: Path, words: list[str], meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    painted_store(tmp_path / "store", 2)
    (tmp_path / "p.toml").write_text("store = 'store'\nwant = 1\nqueries = ['a']\n")
    program = {"lhq": lhq.cli.cli, "alis": alis.cli.cli}[words[0]]
    done = CliRunner().invoke(program, words[1:])
    assert done.exit_code != 0
    assert "did you mean" in (said := f"{done.output} {done.exception}")
    assert meant in said.partition("did you mean")[2]
