"""The second pass of a system over a toy experiment: its files, and that another model is obeyed."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import kaldialign
import numpy as np
import pytest
import toy

from asr_kd.decode.acoustics import Acoustics
from asr_kd.decode.lattices import SecondPass, rescoring_ngram
from asr_kd.decode.nbest import edits
from asr_kd.decode.systems import Decoding, Speech, System
from asr_kd.errors import UserError
from asr_kd.files import write_json
from asr_kd.pipeline import Job
from asr_kd.recipe import Lattice, NGram, Recipe, Scales
from asr_kd.wfst.build import build_graph, build_word_graph
from asr_kd.workspace import LAST_TREE, Workspace

SYMBOLS = ["<eps>", *toy.LEXICON, "#0", "<s>", "</s>"]
SAID = {"dev": {"d1": ["bat"], "d2": ["a", "tab"]}, "test": {"t1": ["tab", "a"], "t2": ["zebra"], "t3": ["a"]}}
ARPA = "\\data\\\nngram 1=5\n\n\\1-grams:\n{}\n\n\\end\\\n"


def arpa(**log10: float) -> str:
    rows = [f"{p}\t{word}" for word, p in (log10 | {"<s>": -99.0, "</s>": -0.6}).items()]
    return ARPA.format("\n".join(rows))


@pytest.fixture
def decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Decoding:
    """Random scores; utterance t3 has none."""
    work, gmm = Workspace(tmp_path), toy.random_gmm(toy.mono_tree(), 2, 1, seed=0)
    work.lang.mkdir()
    toy.PHONES.write(work.lang / "phones.txt")
    lines = [f"{word} {' '.join(phones)}\n" for word, variants in toy.LEXICON.items() for phones in variants]
    (work.lang / "lexicon.txt").write_text("".join(lines))
    (work.lang / "words.txt").write_text("".join(f"{symbol} {number}\n" for number, symbol in enumerate(SYMBOLS)))
    (work.lang / "lm.arpa").write_text(arpa(a=-0.5, bat=-0.5, tab=-0.5))
    gmm.save(work.gmm(LAST_TREE))
    scores = {
        name: np.random.default_rng(list(name.encode())).normal(0, 4, (30, gmm.num_pdfs)).astype(np.float32)
        for names in SAID.values()
        for name in names
        if name != "t3"
    }
    graph, _ = build_graph(build_word_graph(work.lang, 0.5), gmm.tree.pdfs, gmm.log_transitions, 1.0, 0.1)
    graph.write(work.graph(LAST_TREE) / "HCLG.fst")
    speech = {split: Speech(dict.fromkeys(said, 0.3), said, {}) for split, said in SAID.items()}
    monkeypatch.setattr(Speech, "load", lambda work, split: speech[split])
    monkeypatch.setattr(Decoding, "graph", lambda self, tree: work.graph(tree) / "HCLG.fst")
    monkeypatch.setattr(
        Decoding, "_load", lambda self, name: System(name, LAST_TREE, 1, 1, dict.fromkeys(SAID, acoustics))
    )
    acoustics = Acoustics(scores.__getitem__, None)
    summary = {"scales": {"lm_scale": 2.0, "word_penalty": 0.5}}
    write_json(work.decode("student") / "summary.json", summary)
    lattice = Lattice(beams=(100.0,), keep=6.0, max_states=1e6, nbest=3000)
    grid = Scales(lm_scale=(1.0, 2.0, 4.0), word_penalty=(0.0, 0.5))
    base = Recipe().decode.model_copy(update={"lattice": lattice, "beam": 200.0, "network": grid})
    return Decoding(Job(Recipe().model_copy(update={"decode": base}), work), [])


def run(decoding: Decoding, rescore: NGram | None = None) -> dict[str, object]:
    assert decoding.recipe.lattice is not None
    SecondPass(decoding, decoding.recipe.lattice.model_copy(update={"rescore": rescore})).run("student", "toy")
    return json.loads((decoding.work.decode("student") / "lattice.json").read_text())


def read_lists(path: Path) -> dict[str, list[tuple[float, float, list[float], list[str]]]]:
    """utterance → (posterior, cost, LM costs, words) by rank."""
    lists: dict[str, list[tuple[float, float, list[float], list[str]]]] = {}
    for line in path.read_text().splitlines():
        utterance, rank, posterior, cost, lm_costs, words = line.split("\t")
        rows = lists.setdefault(utterance, [])
        assert int(rank) == len(rows) + 1
        rows.append((float(posterior), float(cost), [float(c) for c in lm_costs.split()], words.split()))
    return lists


def test_lists_oracle_and_times_of_each_utterance(decoding: Decoding, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "asr_kd")
    summary, folder = run(decoding), decoding.work.decode("student")
    assert "t3 (KeyError" in caplog.text
    for split, said in SAID.items():
        lists = read_lists(folder / f"{split}.nbest")
        assert set(lists) == set(said) - {"t3"}
        errors = 1 if split == "test" else 0  # t3 is deleted
        for utterance, rows in lists.items():
            sentences = [tuple(words) for *_, words in rows]
            assert len(set(sentences)) == len(sentences) > 5
            assert [cost for _, cost, _, _ in rows] == sorted(cost for _, cost, _, _ in rows)
            assert sum(posterior for posterior, *_ in rows) == pytest.approx(1.0, abs=5e-3)
            for _, _, lm_costs, words in rows:
                assert lm_costs == [pytest.approx((0.5 * len(words) + 0.6) * np.log(10), abs=2e-3)]
            ids = [[SYMBOLS.index(word) for word in words] for words in sentences]
            reference = [SYMBOLS.index(word) if word in SYMBOLS else 0 for word in said[utterance]]
            errors += min(edits(reference, sentence) for sentence in ids)
        assert summary["oracle_wer"][split] == pytest.approx(errors / sum(map(len, said.values())))
        ctm = [line.split() for line in (folder / f"{split}.ctm").read_text().splitlines()]
        for utterance, rows in lists.items():
            mine = [row for row in ctm if row[0] == utterance]
            assert [row[4] for row in mine] == rows[0][3]
            starts = [float(row[2]) for row in mine]
            ends = [float(row[2]) + float(row[3]) for row in mine]
            assert starts == sorted(starts) and max([0.0, *ends]) <= 0.315
            assert all(end <= start + 0.011 for end, start in zip(ends, starts[1:], strict=False))
            assert all(0 < float(row[5]) <= 1 for row in mine)
    assert not (folder / "dev.rescored.txt").exists()


def test_rescoring_takes_the_graphs_model_out(decoding: Decoding, tmp_path: Path) -> None:
    folder = decoding.work.decode("student")
    run(decoding)
    before = read_lists(folder / "dev.nbest")
    (folder / "lattice.json").unlink()
    (tmp_path / "other.arpa").write_text(arpa(a=-0.1, bat=-3.0, tab=-2.0))
    summary = run(decoding, NGram(arpa=str(tmp_path / "other.arpa")))
    scales = summary["rescored"]["scales"]
    after, log10 = read_lists(folder / "dev.nbest"), {"a": -0.1, "bat": -3.0, "tab": -2.0}
    for utterance, rows in after.items():
        old = {tuple(words): (cost, lm_costs[0]) for _, cost, lm_costs, words in before[utterance]}
        for _, cost, (graph, new), words in rows:
            was, lm_cost = old[tuple(words)]
            assert graph == pytest.approx(lm_cost, abs=2e-3)
            assert new == pytest.approx(-(sum(log10[word] for word in words) - 0.6) * np.log(10), abs=2e-3)
            base = was - lm_cost - 0.5 * len(words)
            expected = base + scales["lm_scale"] / 2.0 * new + scales["word_penalty"] * len(words)
            assert cost == pytest.approx(expected, abs=0.02)
        text = dict(line.partition(" ")[::2] for line in (folder / "dev.rescored.txt").read_text().splitlines())
        assert text[utterance].split() == rows[0][3]


def test_what_is_made_already_stays(decoding: Decoding) -> None:
    run(decoding)
    path = decoding.work.decode("student") / "dev.nbest"
    path.unlink()
    run(decoding)
    assert not path.exists()


def test_a_model_without_words_of_the_graph_is_named(tmp_path: Path) -> None:
    (tmp_path / "small.arpa").write_text(arpa(a=-0.5, bat=-0.5, tab=-0.5))
    recipe = NGram(arpa=str(tmp_path / "small.arpa"))
    with pytest.raises(UserError, match=r"rescore\.arpa: .*small\.arpa: 1 words .*zebra"):
        rescoring_ngram(frozenset(["a", "zebra"]), tmp_path / "text", recipe)
    (tmp_path / "text").write_text("a bat\na tab\na bat\n" * 30)
    trained = rescoring_ngram(frozenset(["a", "bat"]), tmp_path / "text", NGram(order=2, cutoffs=(0,)))
    assert set(trained.words) == {"a", "bat"}


def test_rescoring_pieces_of_words_is_refused(decoding: Decoding) -> None:
    pieces = SimpleNamespace(pieces=object(), job=decoding.job, work=decoding.work)
    with pytest.raises(UserError, match=r"decode\.lattice\.rescore: .*lang\.tokens"):
        SecondPass(pieces, Lattice(rescore=NGram()))  # type: ignore[arg-type]


def joined(pieces: list[str]) -> list[str]:
    return "".join(pieces).replace("▁", " ").split()


def test_pieces_are_put_together_before_they_are_listed(decoding: Decoding) -> None:
    """The toy's words taken for pieces, two of which spell the third: a list has each sentence of words once."""
    run(decoding)
    folder = decoding.work.decode("student")
    over_pieces = {split: read_lists(folder / f"{split}.nbest") for split in SAID}
    (folder / "lattice.json").unlink()
    piece = {"a": "▁B", "bat": "T", "tab": "▁BT"}
    decoding.symbols = [piece.get(symbol, symbol) for symbol in SYMBOLS]
    decoding.pieces = SimpleNamespace(join=joined)  # type: ignore[assignment]
    said = {"dev": {"d1": ["BT"], "d2": ["B", "BT"]}, "test": {"t1": ["BT", "B"], "t2": ["zebra"], "t3": ["B"]}}
    decoding.speech = {split: replace(decoding.speech[split], words=words) for split, words in said.items()}
    summary = run(decoding)
    merged = 0
    for split, sentences in said.items():
        lists, errors = read_lists(folder / f"{split}.nbest"), 1 if split == "test" else 0  # t3 is deleted
        for utterance, rows in lists.items():
            cheapest: dict[tuple[str, ...], float] = {}
            for _, cost, _, words in over_pieces[split][utterance]:
                cheapest.setdefault(tuple(joined([piece[word] for word in words])), cost)
            merged += len(over_pieces[split][utterance]) - len(cheapest)
            assert {tuple(words): cost for _, cost, _, words in rows} == cheapest and len(rows) == len(cheapest)
            assert sum(posterior for posterior, *_ in rows) == pytest.approx(1.0, abs=2e-2)
            errors += min(kaldialign.edit_distance(sentences[utterance], list(words))["total"] for words in cheapest)
        assert summary["oracle_wer"][split] == pytest.approx(errors / sum(map(len, sentences.values())))
        ctm = [line.split() for line in (folder / f"{split}.ctm").read_text().splitlines()]
        for utterance, rows in lists.items():
            assert [row[4] for row in ctm if row[0] == utterance] == rows[0][3]
        assert all(0 < float(row[5]) <= 1 for row in ctm)
    assert merged > 0
