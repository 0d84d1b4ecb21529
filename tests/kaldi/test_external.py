"""An alignment from outside in place of stage 3: what was written is read back, and what does not fit is said."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from toy_corpus import PHONES, TEXTS, Rows, recipe

from asr_kd.decode.search import KaldiSearcher, load_graph
from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore
from asr_kd.files import read_json
from asr_kd.hmm.gmm import Gmm
from asr_kd.hmm.topology import ContextCodes
from asr_kd.hmm.transitions import count_arcs, estimate_transitions, initial_transitions
from asr_kd.hmm.tree import Tree
from asr_kd.kaldi.archive import write_archive
from asr_kd.kaldi.tree import write_tree
from asr_kd.lang.lexicon import Lexicon
from asr_kd.nn.inputs import load_inputs
from asr_kd.pipeline import STAGES, Job, stage_code
from asr_kd.recipe import Network
from asr_kd.recipe_file import load_recipe
from asr_kd.stages import decode, external
from asr_kd.wfst.build import build_graph, build_word_graph
from asr_kd.workspace import SPLITS, Workspace

MakeWork = Callable[[Path], Workspace]


@pytest.fixture
def kaldi(tmp_path: Path, tree: Tree, alignments: dict[str, Rows]) -> dict[str, object]:
    """hmm.external for the toy experiment: an archive a split, the tree as text, phones.txt."""
    folder = tmp_path / "kaldi"
    for split, rows in alignments.items():
        write_archive(folder / f"pdf.{split}", "Int32Vector", ((n, t[:, 0].tolist()) for n, t in rows.items()))
    write_tree(folder / "tree", tree)
    PHONES.write(folder / "phones.txt")
    return {
        "alignment": [str(folder / "pdf.*.ark")],
        "tree": str(folder / "tree"),
        "phones": str(folder / "phones.txt"),
    }


def write_text(path: Path, pdfs: dict[str, list[int]]) -> str:
    path.write_text("".join(f"{name} {' '.join(map(str, values))}\n" for name, values in pdfs.items()))
    return str(path)


def all_pdfs(alignments: dict[str, Rows]) -> dict[str, list[int]]:
    return {name: table[:, 0].tolist() for rows in alignments.values() for name, table in rows.items()}


def test_pdfs_and_a_tree_give_back_phones_states_and_words(
    tmp_path: Path, make_work: MakeWork, kaldi: dict[str, object], tree: Tree, alignments: dict[str, Rows]
) -> None:
    work = make_work(tmp_path / "exp")
    external.run(Job(recipe(**kaldi), work))
    for split, rows in alignments.items():
        store = FrameStore(work.alignment(split))
        assert store.meta["num_pdfs"] == tree.num_pdfs
        assert {name: store[name].tolist() for name in store} == {name: table.tolist() for name, table in rows.items()}
        assert read_json(work.failed_alignments(split)) == []
    model = Gmm.load(work.gmm("sat"))
    assert model.num_gaussians == 0
    codes = [np.ravel_multi_index(t[:, 1:5].T, (len(PHONES),) * 3 + (5,)) for t in alignments["train"].values()]
    assert ContextCodes(len(PHONES)).encode(1, 3, 2, 1) == np.ravel_multi_index((1, 3, 2, 1), (len(PHONES),) * 3 + (5,))
    counts = count_arcs(tree, np.concatenate(codes), np.cumsum([len(c) for c in codes]) - 1)
    expected = estimate_transitions(tree, counts, initial_transitions(tree))
    np.testing.assert_allclose(model.log_transitions, expected)


def test_the_graph_of_an_imported_tree_finds_the_words(
    tmp_path: Path, make_work: MakeWork, kaldi: dict[str, object], alignments: dict[str, Rows]
) -> None:
    work = make_work(tmp_path / "exp")
    external.run(Job(recipe(**kaldi), work))
    model = Gmm.load(work.gmm("sat"))
    graph, _ = build_graph(build_word_graph(work.lang, 0.5), model.tree.pdfs, model.log_transitions, 1.0, 0.1)
    graph.write(tmp_path / "HCLG.fst")
    searcher = KaldiSearcher(load_graph(tmp_path / "HCLG.fst"), 1.0, beam=100.0, max_active=10000)
    symbols = [line.split()[0] for line in (work.lang / "words.txt").read_text().splitlines()]
    for name, table in alignments["test"].items():
        scores = np.full((len(table), model.num_pdfs), -20.0, np.float32)
        scores[np.arange(len(table)), table[:, 0]] = 0
        found = searcher.search(scores)
        assert [symbols[word] for word in found.words] == TEXTS[name.split("-")[1]].split()
        np.testing.assert_array_equal(found.pdfs, table[:, 0])


def test_without_a_tree_networks_can_be_trained_and_nothing_decoded(
    tmp_path: Path, make_work: MakeWork, kaldi: dict[str, object], alignments: dict[str, Rows]
) -> None:
    work, alone = make_work(tmp_path / "exp"), recipe(alignment=kaldi["alignment"])
    external.run(Job(recipe(**kaldi), work))
    external.run(Job(alone, work))
    assert not (work.gmm("sat") / "tree.json").exists(), "the tree of the run before"
    largest = max(max(pdfs) for pdfs in all_pdfs(alignments).values())
    inputs = load_inputs(work, Network(left=1, right=1))
    assert inputs.num_pdfs == largest + 1
    np.testing.assert_array_equal(inputs.dev.labels, np.concatenate([t[:, 0] for t in alignments["dev"].values()]))
    with pytest.raises(UserError, match=r"hmm\.external\.tree: null, so there is no graph to search"):
        decode.run(Job(alone, work))
    external.run(Job(recipe(alignment=kaldi["alignment"], num_pdfs=300), work))
    assert FrameStore(work.alignment("test")).meta["num_pdfs"] == 300


def test_what_does_not_fit_is_left_out_and_listed(
    tmp_path: Path,
    make_work: MakeWork,
    kaldi: dict[str, object],
    alignments: dict[str, Rows],
    caplog: pytest.LogCaptureFixture,
) -> None:
    pdfs = all_pdfs(alignments)
    del pdfs["train-u1"], pdfs["dev-u2"]
    frames = len(pdfs["train-u3"])
    pdfs["train-u3"] = [*pdfs["train-u3"], 0, 0]
    pdfs["test-u4"] = pdfs["test-u4"][::-1]  # as long as it should be, but no path of its words
    pdfs["eval-x"] = [1, 2]
    work = make_work(tmp_path / "exp")
    source = write_text(tmp_path / "ali.txt", pdfs)
    with caplog.at_level("INFO", logger="asr_kd"):
        external.run(Job(recipe(**{**kaldi, "alignment": [source]}), work))
    assert read_json(work.hmm / "failed-train.json") == ["train-u1", "train-u3"]
    assert read_json(work.hmm / "failed-dev.json") == ["dev-u2"]
    report = read_json(work.hmm / "external.json")
    assert report["unknown"] == ["eval-x"]
    assert report["train"] == {"missing": ["train-u1"], "mismatched": {"train-u3": [frames + 2, frames]}}
    assert sorted(FrameStore(work.alignment("train"))) == ["train-u2", "train-u4"]
    kept = FrameStore(work.alignment("test"))["test-u4"]
    assert kept[:, 0].tolist() == pdfs["test-u4"]
    assert not kept[:, 1:5].any() and (kept[:, 5] == -1).all()
    assert f"left out 1 utterances with an alignment of another length (train-u3 ({frames + 2} frames" in caplog.text
    assert "1 utterances of the archives are in no split (eval-x)" in caplog.text
    assert "test: 1 fit no pronunciation of theirs (test-u4)" in caplog.text


def test_word_boundaries_are_compared_where_they_are_known(
    tmp_path: Path, make_work: MakeWork, kaldi: dict[str, object]
) -> None:
    work = make_work(tmp_path / "exp")
    external.run(Job(recipe(**kaldi), work))
    assert read_json(work.hmm / "boundaries.json") == {}


def test_a_wrong_alignment_is_refused_in_one_line(
    tmp_path: Path, make_work: MakeWork, kaldi: dict[str, object], tree: Tree, alignments: dict[str, Rows]
) -> None:
    def refusal(**changes: object) -> str:
        with pytest.raises(UserError) as caught:
            external.run(Job(recipe(**{**kaldi, **changes}), work))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    work, pdfs = make_work(tmp_path / "exp"), all_pdfs(alignments)
    shifted = write_text(tmp_path / "shifted", {name: [pdf + 1000 for pdf in row] for name, row in pdfs.items()})
    assert "if these are transition-ids, make it by ali-to-pdf" in refusal(alignment=[shifted])
    assert "transition-ids" in refusal(alignment=[shifted], tree=None, num_pdfs=500)
    huge = write_text(tmp_path / "huge", {name: [pdf + 40000 for pdf in row] for name, row in pdfs.items()})
    assert "transition-ids" in refusal(alignment=[huge], tree=None)
    thirds = write_text(tmp_path / "thirds", {name: row[::3] for name, row in pdfs.items()})
    assert "fits no utterance of train: 0 are not in it, 4 have another length (train-u1 (" in refusal(
        alignment=[thirds]
    )
    others = write_text(tmp_path / "others", {f"x-{name}": row for name, row in pdfs.items()})
    assert "4 are not in it (train-u1, train-u2" in refusal(alignment=[others])
    assert "hmm.external.num_pdfs: 7, but" in refusal(num_pdfs=7)
    Lexicon.of([("a", ("B",)), ("bat", ("T",)), ("tab", ("AA",))]).write(work.lang / "lexicon.txt")
    assert "4 of 4 training alignments fit no pronunciation of their transcripts" in refusal()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("hmm: {external: {alignment: [a], tree: t}}", "decode.systems: gmm-sat decodes with GMMs"),
        ("hmm: {external: {alignment: [a]}, realignment: {}}", "hmm.realignment: starts from"),
        ("hmm: {external: {alignment: [a]}}\nfeatures: {speed: [0.9]}", "features.speed: the copies"),
        (
            "hmm: {external: {alignment: [a]}}\nteachers: {network: {input: fmllr}}",
            "teachers.network.input: adapts to speakers by GMMs",
        ),
        ("hmm: {external: {alignment: []}}", "hmm.external.alignment: "),
        ("hmm: {external: {}}", "hmm.external.alignment: Field required"),
    ],
)
def test_a_recipe_that_needs_gmms_is_refused(tmp_path: Path, change: str, message: str) -> None:
    (tmp_path / "r.yaml").write_text(change)
    with pytest.raises(UserError, match=message) as caught:
        load_recipe(tmp_path / "r.yaml")
    assert "r.yaml" in str(caught.value)


def test_the_pipeline_takes_the_other_stage(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        yaml.safe_dump({"hmm": {"external": {"alignment": ["a"], "tree": "t"}}, "decode": {"systems": ["student"]}})
    )
    (align,) = (stage for stage in STAGES if stage.name == "align")
    assert stage_code(align, load_recipe(path))[1] is external.run
    assert SPLITS == ("train", "dev", "test")
