"""Kaldi's trees: a small one whose answers are worked out by hand, the way back, and messages for damaged ones."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from asr_kd.errors import UserError
from asr_kd.hmm.topology import ContextCodes, arcs
from asr_kd.hmm.transitions import initial_transitions
from asr_kd.hmm.tree import Tree, TreeStats, build_tree, phonetic_questions
from asr_kd.kaldi.tree import read_tree, write_tree
from asr_kd.lang.phones import PhoneSet
from asr_kd.wfst.hmm import Emissions, models_of_windows

PHONES = PhoneSet(("AA", "B"))  # <eps> SIL SPN AA_B AA_E AA_I AA_S B_B B_E B_I B_S
# as Kaldi's lang folder would number them, with a phone that we do not have, and other names for silence and noise
SYMBOLS = "<eps> sil nsn AA_B AA_E AA_I AA_S B_B B_E B_I B_S CH_B CH_E CH_I CH_S #0"
TREE = """ContextDependency 3 1 ToPdf SE 1 [ 1 2 ]
{ SE 1 [ 1 ]
{ TE -1 5 ( CE 0 CE 1 CE 2 CE 3 CE 4 )
SE -1 [ 0 1 ]
{ CE 5 CE 6 }
}
SE 1 [ 3 4 5 6 ]
{ TE -1 3 ( SE 0 [ 0 1 7 8 9 10 ]
{ SE 2 [ 8 ]
{ CE 7 CE 8 }
CE 9 }
CE 10 SE 1 [ 4 6 ]
{ CE 11 CE 12 }
)
TE 1 15 ( NULL NULL NULL NULL NULL NULL NULL TE -1 3 ( CE 13 CE 14 CE 15 )
TE -1 3 ( CE 13 CE 14 CE 15 )
TE -1 3 ( CE 13 CE 14 CE 15 )
TE -1 3 ( CE 13 CE 14 CE 15 )
SE -1 [ 0 ]
{ CE 16 CE 17 }
NULL NULL NULL )
}
}
EndContextDependency """


def kaldi_files(folder: Path, tree: str = TREE, symbols: str = SYMBOLS) -> tuple[Path, Path]:
    (folder / "tree.txt").write_text(tree)
    (folder / "phones.txt").write_text("".join(f"{s} {n}\n" for n, s in enumerate(symbols.split())))
    return folder / "tree.txt", folder / "phones.txt"


def read(folder: Path, tree: str = TREE, symbols: str = SYMBOLS) -> Tree:
    path, phones = kaldi_files(folder, tree, symbols)
    return read_tree(path, PHONES, phones, silence="sil", noise="nsn")


def lookup(tree: Tree, left: str, phone: str, right: str) -> list[int]:
    ids = {**PHONES.ids, "": 0}
    return tree.pdfs(*(np.array([ids[symbol]]) for symbol in (left, phone, right)))[0].tolist()


def test_answers_worked_out_by_hand(tmp_path: Path) -> None:
    tree = read(tmp_path)
    assert tree.num_pdfs == 18, "those of CH too, which our phones lack"
    assert lookup(tree, "", "SIL", "B_B") == [0, 1, 2, 3, 4]
    assert lookup(tree, "", "SPN", "") == [5, 5, 6, 6, 6]
    # AA: state 0 asks about the left phone (the edge 0, silence or B), then whether B_E follows; state 2 for AA_E, AA_S
    assert lookup(tree, "B_B", "AA_E", "SIL") == [8, 10, 11, -1, -1]
    assert lookup(tree, "B_B", "AA_I", "B_E") == [7, 10, 12, -1, -1]
    assert lookup(tree, "AA_E", "AA_B", "B_E") == [9, 10, 12, -1, -1]
    assert lookup(tree, "SPN", "AA_S", "B_E") == [9, 10, 11, -1, -1]
    assert lookup(tree, "SIL", "AA_B", "B_E") == [7, 10, 12, -1, -1]
    assert lookup(tree, "AA_E", "B_S", "AA_B") == lookup(tree, "", "B_B", "") == [13, 14, 15, -1, -1]


def test_the_edge_is_not_silence(tmp_path: Path) -> None:
    assert lookup(read(tmp_path), "", "AA_B", "B_E") == [7, 10, 12, -1, -1]
    without = TREE.replace("[ 0 1 7 8 9 10 ]", "[ 1 7 8 9 10 ]")
    assert lookup(read(tmp_path, without), "", "AA_B", "B_E") == [9, 10, 12, -1, -1]
    assert lookup(read(tmp_path, without), "SIL", "AA_B", "B_E") == [7, 10, 12, -1, -1]


def test_an_imported_tree_is_saved_and_loaded(tmp_path: Path) -> None:
    tree = read(tmp_path, TREE.replace("[ 0 1 7 8 9 10 ]", "[ 1 7 8 9 10 ]"))
    tree.save(tmp_path / "tree.json")
    again = Tree.load(tmp_path / "tree.json")
    assert (again.num_pdfs, again.digest) == (18, tree.digest)
    assert lookup(again, "", "AA_B", "B_E") == [9, 10, 12, -1, -1]


def test_phones_without_word_positions(tmp_path: Path) -> None:
    """N = 2, P = 1: a left neighbour alone."""
    text = (
        "ContextDependency 2 1 ToPdf TE 1 5 ( NULL TE -1 5 ( CE 0 CE 1 CE 2 CE 3 CE 4 ) "
        "TE -1 5 ( CE 0 CE 0 CE 0 CE 0 CE 0 ) TE -1 3 ( SE 0 [ 4 ] { CE 5 CE 6 } CE 7 CE 7 ) "
        "TE -1 3 ( CE 8 CE 8 CE 8 ) ) EndContextDependency"
    )
    tree = read(tmp_path, text, "<eps> sil nsn AA B")
    assert lookup(tree, "B_I", "AA_E", "SIL") == [5, 7, 7, -1, -1]
    assert lookup(tree, "AA_I", "AA_E", "B_E") == [6, 7, 7, -1, -1]
    assert lookup(tree, "AA_I", "B_S", "B_E") == [8, 8, 8, -1, -1]


def grown_tree() -> Tree:
    """A tree of ours with questions about both neighbours and the position, grown on random statistics."""
    rng, codes = np.random.default_rng(0), ContextCodes(len(PHONES))
    windows = [
        (left, phone, right, state)
        for left, phone, right in itertools.product(range(len(PHONES)), range(3, len(PHONES)), range(len(PHONES)))
        for state in range(3)
    ]
    rows = np.array(sorted(codes.encode(*window) for window in windows))
    counts = rng.integers(20, 90, len(rows)).astype(float)
    means = rng.normal(scale=3, size=(len(rows), 2))
    stats = TreeStats(rows, counts, counts[:, None] * means, counts[:, None] * (means**2 + 1))
    return build_tree(stats, PHONES, phonetic_questions(stats, PHONES), 120, min_occupancy=1)


def test_our_tree_written_as_kaldis_gives_the_same_pdfs(tmp_path: Path) -> None:
    tree = grown_tree()
    assert {*tree.about} == {-1, 0, 1, 2}
    write_tree(tmp_path / "tree", tree)
    PHONES.write(tmp_path / "phones.txt")
    again = read_tree(tmp_path / "tree", PHONES, tmp_path / "phones.txt", "SIL", "SPN")
    ids = np.arange(len(PHONES))
    left, phone, right = (axis.ravel() for axis in np.meshgrid(ids, ids[1:], ids, indexing="ij"))
    np.testing.assert_array_equal(again.pdfs(left, phone, right), tree.pdfs(left, phone, right))
    assert again.num_pdfs == tree.num_pdfs
    write_tree(tmp_path / "twice", again)
    assert read_tree(tmp_path / "twice", PHONES, tmp_path / "phones.txt", "SIL", "SPN").digest == again.digest


def test_a_map_of_states_is_a_tree_without_questions(tmp_path: Path) -> None:
    states = {"SIL": 5, "AA": 3, "B_B": 3, "B": 3}
    rows = [(phone, state) for phone, count in states.items() for state in range(count)]
    path = tmp_path / "map.txt"
    path.write_text("".join(f"{phone} {state} {pdf}\n" for pdf, (phone, state) in enumerate(rows)))
    tree = read_tree(path, PHONES, None, "SIL", "SIL")
    assert tree.num_pdfs == 14
    assert lookup(tree, "", "SPN", "") == lookup(tree, "B_I", "SIL", "") == [0, 1, 2, 3, 4]
    assert lookup(tree, "B_I", "AA_E", "") == [5, 6, 7, -1, -1]
    assert lookup(tree, "B_I", "B_B", "") == [8, 9, 10, -1, -1]
    assert lookup(tree, "B_I", "B_E", "") == [11, 12, 13, -1, -1]


def emissions_of(tree: Tree) -> Emissions:
    """Of every window, with the transition probabilities that training starts from."""
    ids = np.arange(len(PHONES))
    windows = np.array(list(itertools.product(ids, ids[1:], ids)))
    topologies = {phone: arcs(PHONES, phone) for phone in range(1, len(PHONES))}
    return models_of_windows(windows, topologies, tree.pdfs, initial_transitions(tree))[2]


def test_staying_and_leaving_sum_to_one_where_states_share_a_pdf(tmp_path: Path) -> None:
    """SPN's states 2 and 3 with four arcs have the same pdf as state 4 with two."""
    emissions = emissions_of(read(tmp_path))
    total = np.exp(emissions.log_stay - emissions.log_excess) + np.exp(emissions.log_leave - emissions.log_excess)
    np.testing.assert_allclose(total[1:], 1)
    assert emissions.log_excess.any()
    assert not emissions_of(grown_tree()).log_excess.any()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("CE 10 SE", "CE x SE", r"tree\.txt:12: want a whole number, not x"),
        ("CE 10 SE", "XE 10 SE", r"tree\.txt:12: want CE, SE, TE or NULL, not XE"),
        ("SE 2 [ 8 ]", "SE 3 [ 8 ]", r"tree\.txt:9: key 3 is none of the context's"),
        ("EndContextDependency", "", r"tree\.txt:23: the file ends in the middle of the tree"),
        ("CE 7 CE 8 }", "CE 7 }", r"tree\.txt:10: want CE, SE, TE or NULL, not }"),
        ("CE 16 CE 17", "CE 16 NULL", r"tree\.txt:20: a question \(SE\) without both"),
        ("3 1 ToPdf", "3 7 ToPdf", r"tree\.txt:1: a context of 3 phones has no place 7"),
        ("3 1 ToPdf", "5 2 ToPdf", r"tree\.txt: 5 phones of context"),
        ("TE -1 5 ( CE 0", "TE -1 3 ( CE 0 CE 1 CE 2 ) TE -1 5 ( CE 0", r"tree\.txt:4: want }, not SE"),
        ("CE 3 CE 4 )", "NULL NULL )", r"tree\.txt: SIL, number 1, HMM state 3: has no pdf"),
        ("SE -1 [ 0 1 ]\n", "SE 0 [ 3 ]\n", r"tree\.txt: SPN, number 2, HMM state 0: depends on its neighbours"),
        ("SE 2 [ 8 ]\n{ CE 7 CE 8 }", "TE 2 2 ( CE 7 CE 8 )", r"AA_B.*table of neighbours"),
    ],
)
def test_what_is_wrong_with_a_tree_is_said(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert TREE.count(old) == 1
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, TREE.replace(old, new))
    assert "\n" not in str(caught.value)


def test_what_is_wrong_with_the_phones_is_said(tmp_path: Path) -> None:
    path, phones = kaldi_files(tmp_path, symbols="<eps> SIL AA")
    with pytest.raises(
        UserError, match=r"phones\.txt: lacks 5 of 10 phones \(SPN B_B B_E B_I B_S\); set lang\.lexicon"
    ):
        read_tree(path, PHONES, phones, "SIL", "SPN")
    with pytest.raises(UserError, match=r"hmm\.external\.phones: null"):
        read_tree(kaldi_files(tmp_path)[0], PHONES, None, "sil", "nsn")
    (tmp_path / "phones.txt").write_text("<eps> 0\nsil one\n")
    with pytest.raises(UserError, match=r"phones\.txt:2: want 'phone number'"):
        read_tree(tmp_path / "tree.txt", PHONES, tmp_path / "phones.txt", "sil", "nsn")
    with pytest.raises(UserError, match=r"hmm\.external: .*absent: No such file"):
        read_tree(tmp_path / "absent", PHONES, None, "sil", "nsn")
    (tmp_path / "tree").write_bytes(b"\0BContextDependency \4\3\0\0\0")
    with pytest.raises(UserError, match="not text; write it by copy-tree --binary=false"):
        read_tree(tmp_path / "tree", PHONES, None, "sil", "nsn")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("AA 0 1\nAA 0 2\n", r"map\.txt:2: AA 0: wants one line"),
        ("AA 0 1\nAA 1\n", r"map\.txt:2: want 'phone state pdf'"),
        ("", r"map\.txt: lacks 10 of 10 phones"),
    ],
)
def test_what_is_wrong_with_a_map_is_said(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "map.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        read_tree(tmp_path / "map.txt", PHONES, None, "SIL", "SPN")


def test_every_state_of_every_phone_has_a_pdf(tmp_path: Path) -> None:
    tree = read(tmp_path)
    for phone in range(1, len(PHONES)):
        assert (tree.roots[phone] >= 0).sum() == len(arcs(PHONES, phone))
