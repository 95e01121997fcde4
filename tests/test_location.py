"""URLs of stores: which are taken, which are refused and in what words."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import tyro

from stores import open_store
from stores.errors import OptionError, PlaceError
from stores.location import Location, Url, home, location, resolved
from stores.place import Folder, place_at


@dataclass
class Several:
    one: Location
    more: tuple[Location, ...] = ()
    maybe: Location | None = None


def test_a_command_line_takes_paths_and_urls() -> None:
    words = ["--one", "a/x.zarr", "--more", "s3://b/x.zarr", "y.zarr", "--maybe", "gs://b/deep/er/x.zarr/"]
    found = tyro.cli(Several, args=words)
    assert found == Several(Path("a/x.zarr"), (Url("s3://b/x.zarr"), Path("y.zarr")), Url("gs://b/deep/er/x.zarr"))
    assert isinstance(found.one, Path)
    assert isinstance(found.more[0], Url)
    assert tyro.cli(Several, args=["--one", "x"]).maybe is None


def test_a_url_knows_its_parts() -> None:
    url = Url("s3://bucket/surveys/desi.dr1.zarr/")
    assert (url.bucket, url.name, url.stem) == ("bucket", "desi.dr1.zarr", "desi.dr1")
    assert url.folder == "s3://bucket/surveys"
    assert url == "s3://bucket/surveys/desi.dr1.zarr"
    assert location(url) is url
    assert location("az://c/x.zarr") == Url("az://c/x.zarr")
    assert location("x.zarr") == Path("x.zarr")
    assert resolved(url) is url
    assert resolved(Path("x/../y")) == Path("y").absolute()
    again = pickle.loads(pickle.dumps(url))
    assert again == url
    assert isinstance(again, Url)


REFUSED = {
    "s3://bucket": "names no store; add a name behind the bucket",
    "s3://": "names no store",
    "s3:///x.zarr": "names no store",
    "s3://bucket/x.zarr?versionId=3": "has more behind it",
    "s3://bucket/x.zarr#part": "has more behind it",
    "s3://bucket/../x.zarr": "'..' is no name of an object",
    "s3://bucket/a b.zarr": "'a b.zarr' is no name of an object",
    "https://bucket/x.zarr": "stores lie in folders, or at s3://, gs://, az://",
    "ftp://bucket/x.zarr": "stores lie in folders",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_url_of_a_store_is_refused(text: str) -> None:
    with pytest.raises(OptionError) as caught:
        Url(text)
    assert REFUSED[text] in str(caught.value)
    assert str(caught.value).count(".\n") == 0


@pytest.mark.parametrize(
    "text",
    [
        "s3://user:hunter2@bucket/x.zarr",
        "s3://user:hunt/hunter2@bucket/x.zarr",
        "s3://:hunter2@bucket/x.zarr",
        "https://hunter2@bucket/x.zarr",
        "s3://bucket/x.zarr?X-Amz-Signature=hunter2",
    ],
)
@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("stores.ingest", ["a.fits", "--survey", "desi", "--out", "{}"]),
        ("stores.info", ["{}"]),
        ("stores.verify", ["{}"]),
        ("embed.run", ["{}", "--out", "x.zarr"]),
        ("heads.train", ["--store", "{}", "--labels", "x", "--out", "y"]),
    ],
)
def test_credentials_are_refused_and_not_repeated(
    text: str,
    module: str,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prog", *(word.format(text) for word in words)])
    with pytest.raises(SystemExit) as end:
        import_module(module).main()
    assert end.value.code == 2
    told = capsys.readouterr()
    assert "hunter2" not in told.out + told.err
    assert "in the environment" in told.err or "may be a secret" in told.err
    assert told.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "words", "option"),
    [
        ("stores.export", ["x.zarr", "--out", "s3://b/x.parquet"], "--out"),
        ("heads.predict", ["--out", "s3://b/x.parquet"], "--out"),
        ("heads.train", ["--store", "x", "--labels", "x", "--out", "gs://b/head"], "--out"),
        ("stores.simulate.simulate", ["--survey", "desi", "--n", "5", "--store", "s3://b/x.zarr"], "--store"),
    ],
)
def test_what_is_no_store_lies_on_disk(
    module: str,
    words: list[str],
    option: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prog", *words])
    with pytest.raises(SystemExit) as end:
        import_module(module).main()
    assert end.value.code == 2
    assert f": {option} takes a path on this machine, and no URL" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_survey_files_lie_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stores.ingest import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prog", "s3://b/coadd.fits", "--survey", "desi", "--out", "x.zarr"])
    with pytest.raises(SystemExit):
        main()
    assert "'s3://b/coadd.fits' lies in object storage, and survey files are read from disk" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_lies_beside_a_store_has_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home(tmp_path / "x.zarr") == tmp_path
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, other = home(Url("s3://b/x.zarr")), home(Url("s3://c/x.zarr"))
    assert one != other
    assert one.parent == other.parent == tmp_path / "spectrabridge" / "beside"
    assert home(Url("s3://b/x.zarr")) == one
    assert not one.exists()


def test_without_the_extra_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "stores.objects", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(
        OptionError, match=r"^'s3://b/x\.zarr' lies in object storage, .*'spectrabridge\[objects\]'\.$"
    ):
        open_store("s3://b/x.zarr")
    assert place_at("x.zarr") == Folder(Path("x.zarr"))


# -- what is wrong with the storage ----------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets variables; no others of the storage are left, and nothing outside this machine is asked."""
    pytest.importorskip("obstore", reason="obstore is not installed: the extra `test` brings it")

    def change(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    change(AWS_REGION="us-east-1", AWS_ALLOW_HTTP="true", AWS_METADATA_ENDPOINT="http://127.0.0.1:9")
    return change


def refusal(call: Callable[[], Any]) -> str:
    """The sentence, told soon."""
    start = time.monotonic()
    with pytest.raises(PlaceError) as caught:
        call()
    assert time.monotonic() - start < 10
    assert str(caught.value).count("\n") == 0
    return str(caught.value)


def test_storage_that_is_not_there(environment: Callable[..., None]) -> None:
    environment(AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="hunter2", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    told = refusal(lambda: open_store("s3://credential/Forbidden/x.zarr"))  # names do not decide what is said
    assert told.startswith(
        "'s3://credential/Forbidden/x.zarr' cannot be used: the storage cannot be reached; check the network"
    )


def test_no_credentials(environment: Callable[..., None]) -> None:
    told = refusal(lambda: open_store("s3://secretless/x.zarr"))
    assert told.startswith("'s3://secretless/x.zarr' cannot be used: there are no credentials in the environment; set")
    told = refusal(lambda: open_store("az://secretless/x.zarr"))
    assert "there are no credentials in the environment" in told


@pytest.mark.parametrize("endpoint", ["http://user:hunter2@127.0.0.1:9", "no url at all", "127.0.0.1:9"])
def test_an_endpoint_that_is_none(endpoint: str, environment: Callable[..., None]) -> None:
    environment(AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="s", AWS_ENDPOINT_URL=endpoint)
    told = refusal(lambda: open_store("s3://endless/x.zarr"))
    assert "AWS_ENDPOINT_URL in the environment is no URL such as https://HOST:PORT" in told
    assert "hunter2" not in told


def test_an_endpoint_without_encryption_is_not_used_unasked(
    environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="s", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    assert "its endpoint is not https" in refusal(lambda: open_store("s3://plain/x.zarr"))
