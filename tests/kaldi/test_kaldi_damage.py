"""Damaged trees, phone lists and archives of Kaldi's are read, or refused in one line."""

from pathlib import Path

import numpy as np
import pytest
from damage import EXAMPLES, Steps, damaged, damages, read_or_refuse
from hypothesis import example, given
from hypothesis import strategies as st
from test_kaldi_tree import PHONES, kaldi_files

from asr_kd.kaldi.archive import read_alignments, write_archive
from asr_kd.kaldi.tree import read_tree


@EXAMPLES
@given(st.sampled_from([0, 1]), damages())
@example(0, [("replace", 0.0, 1.0, b"ContextDependency 3 1 ToPdf " + b"TE 1 1 ( " * 2000)])
@example(0, [("replace", 0.0, 1.0, b"ContextDependency 3 1 ToPdf CE 99999999999 EndContextDependency")])
@example(1, [("replace", 0.0, 1.0, b"SIL " + b"9" * 30)])
def test_trees_and_phones(tmp_path: Path, which: int, steps: Steps) -> None:
    files = kaldi_files(tmp_path)
    files[which].write_bytes(damaged(files[which].read_bytes(), steps))
    read_or_refuse(lambda: read_tree(files[0], PHONES, files[1], "sil", "nsn"))


@EXAMPLES
@given(damages())
@example([("replace", 0.0, 1.0, b"AA 0 99999999999\n")])
def test_maps_of_states(tmp_path: Path, steps: Steps) -> None:
    lines = [f"{phone} {state} {7 * number + state}\n" for number, phone in enumerate(["sil", "nsn", "AA", "B"])
             for state in range(5 if number < 2 else 3)]  # fmt: skip
    (tmp_path / "map").write_bytes(damaged("".join(lines).encode(), steps))
    read_or_refuse(lambda: read_tree(tmp_path / "map", PHONES, None, "sil", "nsn"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("archive") / "pdf"
    write_archive(path, "Int32Vector", [("a", [1, 2, 3]), ("b", np.arange(20).tolist())])
    return path.with_name("pdf.ark").read_bytes()


@EXAMPLES
@given(st.booleans(), damages())
@example(True, [("replace", 0.0, 1.0, b"a 99999999999\n")])
def test_archives(tmp_path: Path, archive: bytes, as_text: bool, steps: Steps) -> None:
    content = b"a 1 2 3\nb 4 5\n" if as_text else archive
    (tmp_path / "pdf.ark").write_bytes(damaged(content, steps))
    read_or_refuse(lambda: read_alignments([str(tmp_path / "pdf.ark")]))
