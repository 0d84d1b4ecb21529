import gzip
import hashlib
from pathlib import Path

import pytest

from asr_kd.errors import UserError
from asr_kd.images import download
from asr_kd.images.download import download_mnist
from asr_kd.images.readers import read_images
from asr_kd.recipe import Corpus

NAMES = tuple(download.CHECKSUMS)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror whose four files have contents and checksums of their own."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.gz").write_bytes(gzip.compress(name.encode()))
    checksums = {name: hashlib.sha256(name.encode()).hexdigest() for name in NAMES}
    monkeypatch.setattr(download, "CHECKSUMS", checksums)
    return folder


def test_fetches_what_is_missing(mirror: Path, tmp_path: Path) -> None:
    own = tmp_path / "mnist"
    own.mkdir()
    (own / NAMES[0]).write_text("there already")
    download_mnist(own, mirror.as_uri())
    assert sorted(path.name for path in own.iterdir()) == sorted([NAMES[0], *(f"{name}.gz" for name in NAMES[1:])])
    assert (own / f"{NAMES[1]}.gz").read_bytes() == (mirror / f"{NAMES[1]}.gz").read_bytes()


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [(None, "cannot be fetched"), (b"<html>", "cannot be fetched"), (gzip.compress(b"else"), "not the published file")],
)
def test_keeps_nothing_but_the_published_files(
    mirror: Path, tmp_path: Path, contents: bytes | None, complaint: str
) -> None:
    path = mirror / f"{NAMES[0]}.gz"
    if contents is None:
        path.unlink()
    else:
        path.write_bytes(contents)
    with pytest.raises(UserError, match=f"{NAMES[0]}.gz: {complaint}") as error:
        download_mnist(tmp_path / "mnist", mirror.as_uri())
    assert "\n" not in str(error.value)
    assert not (tmp_path / "mnist").exists() or not list((tmp_path / "mnist").iterdir())


def test_the_checksums_are_those_of_the_published_files(shared_data: Path) -> None:
    for name, checksum in download.CHECKSUMS.items():
        contents = gzip.decompress((shared_data / "mnist" / f"{name}.gz").read_bytes())
        assert hashlib.sha256(contents).hexdigest() == checksum


def test_only_mnist_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"corpus\.download: only mnist can be fetched; put svhn's files into"):
        read_images(Corpus(kind="svhn", dir=str(tmp_path), download=True), "train")
