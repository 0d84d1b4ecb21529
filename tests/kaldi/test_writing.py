"""write-kaldi: archives, CTM and TextGrids against the alignment they come from, each read back by another program."""

from itertools import groupby, pairwise
from pathlib import Path

import kaldi_native_io
import numpy as np
import pytest
import torch
import yaml
from praatio import textgrid as praat
from toy_corpus import PHONES, TEXTS, Rows
from typer.testing import CliRunner

from asr_kd.cli import app
from asr_kd.features.store import FrameStore, write_store
from asr_kd.kaldi.segments import Segment, phone_segments, word_segments
from asr_kd.kaldi.textgrid import textgrid
from asr_kd.nn.model import AcousticModel
from asr_kd.nn.posteriors import load_scorer
from asr_kd.recipe import Network, Recipe
from asr_kd.workspace import Workspace

EDGE = 0.0075  # between the centres of the first two windows, less one shift


def run(work: Workspace, *arguments: str, status: int = 0) -> str:
    (work.root / "recipe.yaml").write_text(yaml.safe_dump(Recipe(name="toy").model_dump(mode="json")))
    result = CliRunner().invoke(app, ["write-kaldi", str(work.root), "--to", str(work.root / "kaldi"), *arguments])
    assert result.exit_code == status, result.output
    return result.output


def read_integers(path: Path) -> dict[str, list[int]]:
    with kaldi_native_io.SequentialInt32VectorReader(f"scp:{path}") as reader:
        return dict(reader)


def test_alignments_are_archives_of_pdfs_and_phones(aligned: Workspace, alignments: dict[str, Rows]) -> None:
    output = run(aligned, "--split", "dev,train", "--what", "alignment")
    assert "dev/pdf.ark: 4 utterances" in output.replace("\n", "")
    folder = aligned.root / "kaldi"
    for split in ("train", "dev"):
        rows = alignments[split]
        assert read_integers(folder / split / "pdf.scp") == {name: table[:, 0].tolist() for name, table in rows.items()}
        assert read_integers(folder / split / "phones.scp") == {n: table[:, 2].tolist() for n, table in rows.items()}
    counts = (folder / "ali_train_pdf.counts").read_text().split()
    pdfs = np.concatenate([table[:, 0] for table in alignments["train"].values()])
    assert counts[0] == "[" and counts[-1] == "]"
    assert [int(count) for count in counts[1:-1]] == np.bincount(pdfs, minlength=len(counts) - 2).tolist()
    assert (folder / "phones.txt").read_text() == (aligned.lang / "phones.txt").read_text()
    assert not (folder / "test").exists() and not (folder / "dev" / "words.ctm").exists()


def test_ctm_has_every_word_and_phone_at_its_frames(aligned: Workspace, alignments: dict[str, Rows]) -> None:
    run(aligned, "--split", "test", "--what", "ctm")
    folder, rows = aligned.root / "kaldi" / "test", alignments["test"]
    phones = [line.split() for line in (folder / "phones.ctm").read_text().splitlines()]
    words = [line.split() for line in (folder / "words.ctm").read_text().splitlines()]
    assert {line[1] for line in phones + words} == {"1"}
    for name, table in rows.items():
        said = [line for line in words if line[0] == name]
        assert [line[4] for line in said] == TEXTS[name.split("-")[1]].split()
        for number, line in enumerate(said):
            frames = np.flatnonzero(table[:, 5] == number)
            assert float(line[2]) == round(0.01 * frames[0] + EDGE, 2)
            assert float(line[3]) == round(0.01 * len(frames), 2)
        units = groupby(zip(table[:, 2].tolist(), table[:, 5].tolist(), strict=True))
        assert [line[4] for line in phones if line[0] == name] == [PHONES.symbols[phone] for (phone, _), _ in units]
        times = [(float(line[2]), float(line[3])) for line in phones if line[0] == name]
        assert sum(duration for _, duration in times) == pytest.approx(0.01 * len(table))
        assert all(a + b == pytest.approx(c) for (a, b), (c, _) in pairwise(times))


def test_phones_are_told_apart_where_only_the_state_starts_again() -> None:
    # the phone twice between like neighbours: nothing but the HMM state says that there are two
    rows = np.array([[0, 3, 3, 3, state, 0] for state in (0, 1, 2, 2, 0, 0, 1, 2)])
    assert phone_segments(rows, PHONES) == [Segment("AA_B", 0, 4), Segment("AA_B", 4, 8)]
    silence = np.array([[0, 0, 1, 0, state, -1] for state in (0, 2, 1, 3, 4)])
    assert phone_segments(silence, PHONES) == [Segment("SIL", 0, 5)]
    assert word_segments(silence, []) == []


def test_a_word_said_twice_is_two_words() -> None:
    rows = np.array([[0, 0, 6, 0, state, word] for word in (0, 1) for state in (0, 1, 2)])
    assert word_segments(rows, ["a", "a"]) == [Segment("a", 0, 3), Segment("a", 3, 6)]
    assert phone_segments(rows, PHONES) == [Segment("AA_S", 0, 3), Segment("AA_S", 3, 6)]


def test_textgrids_are_what_praatio_reads(aligned: Workspace, alignments: dict[str, Rows]) -> None:
    run(aligned, "--split", "dev", "--what", "textgrid")
    for name, table in alignments["dev"].items():
        path = aligned.root / "kaldi" / "dev" / "textgrid" / f"{name}.TextGrid"
        grid = praat.openTextgrid(str(path), includeEmptyIntervals=True)
        seconds = len(table) / 100 + 0.02
        assert (grid.tierNames, grid.minTimestamp) == (("words", "phones"), 0)
        assert grid.maxTimestamp == pytest.approx(seconds, abs=1e-4)
        spoken = [entry for entry in grid.getTier("words").entries if entry.label]
        assert [entry.label for entry in spoken] == TEXTS[name.split("-")[1]].split()
        for number, entry in enumerate(spoken):
            frames = np.flatnonzero(table[:, 5] == number)
            start, end = 0.01 * frames[0] + EDGE, 0.01 * (frames[-1] + 1) + EDGE
            assert entry.start == pytest.approx(0 if frames[0] == 0 else start, abs=1e-4)
            assert entry.end == pytest.approx(seconds if frames[-1] == len(table) - 1 else end, abs=1e-4)
        for tier in grid.tiers:
            bounds = [0, *(entry.end for entry in tier.entries)]
            assert [entry.start for entry in tier.entries] == bounds[:-1] and bounds[-1] == grid.maxTimestamp


def test_quotation_marks_and_silence_alone_in_a_textgrid(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(textgrid({'say "words"': [Segment('"quoted"', 2, 5)], "none": []}, 7, 0.1), "utf-8")
    grid = praat.openTextgrid(str(tmp_path / "a"), includeEmptyIntervals=True)
    assert grid.tierNames == ('say "words"', "none")
    assert [entry.label for entry in grid.getTier('say "words"').entries] == ["", '"quoted"', ""]
    assert [tuple(entry) for entry in grid.getTier("none").entries] == [(0, 0.1, "")]


def test_posteriors_are_the_networks(aligned: Workspace) -> None:
    num_pdfs = FrameStore(aligned.alignment("train")).meta["num_pdfs"]
    model = AcousticModel(Network(left=1, right=1, layers=1, width=8), 3, num_pdfs)
    model.initialise(torch.Generator().manual_seed(0))
    model.save(aligned.model("student"), {})
    run(aligned, "--split", "dev", "--what", "posteriors")
    scorer = load_scorer(aligned, ["student"])
    with kaldi_native_io.SequentialFloatMatrixReader(
        f"scp:{aligned.root / 'kaldi' / 'dev' / 'logpost_student.scp'}"
    ) as reader:
        found = {name: np.array(matrix) for name, matrix in reader}
    assert set(found) == set(FrameStore(aligned.features("fbank", "dev")))
    for name, matrix in found.items():
        np.testing.assert_array_equal(matrix, scorer.log_posteriors("dev", name))
        np.testing.assert_allclose(np.exp(matrix).sum(1), 1, rtol=1e-5)
    run(aligned, "--split", "dev", "--what", "posteriors", "--compress")
    with kaldi_native_io.SequentialFloatMatrixReader(
        f"scp:{aligned.root / 'kaldi' / 'dev' / 'logpost_student.scp'}"
    ) as reader:
        for name, matrix in reader:
            np.testing.assert_allclose(matrix, found[name], atol=0.1)
    assert "models/nobody" in run(aligned, "--what", "posteriors", "--system", "nobody", status=2)


def test_mistakes_are_one_line(aligned: Workspace, tree: object) -> None:
    assert "--split: eval is none of train, dev, test" in run(aligned, "--split", "eval", status=2)
    assert "--what: lattices is none of alignment" in run(aligned, "--what", "lattices", status=2)
    store = FrameStore(aligned.alignment("dev"))
    write_store(aligned.alignment("dev"), {name: np.array(store[name][:, :1]) for name in store}, store.meta)
    assert "has pdfs but no phones" in run(aligned, "--split", "dev", "--what", "ctm", status=2)
    output = run(aligned, "--split", "dev", "--what", "alignment")
    assert "pdf.ark: 4" in output and "phones.ark" not in output
