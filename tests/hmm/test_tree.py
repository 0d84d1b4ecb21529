"""The decision tree against exhaustive search on a small case."""

import numpy as np
from toy import PHONES

from asr_kd.hmm.topology import ContextCodes
from asr_kd.hmm.tree import Tree, TreeStats, build_tree, log_likelihood, phonetic_questions

CODES = ContextCodes(len(PHONES))


def statistics(seed: int, contexts: int = 6) -> TreeStats:
    """Frames of one phone in several contexts: two kinds of left neighbour pull the mean apart."""
    rng, codes, rows = np.random.default_rng(seed), [], []
    for left in range(3, 3 + contexts):
        for state in range(3):
            frames = rng.normal(loc=(5.0 if left % 2 else 0.0) + state, size=(int(rng.integers(30, 90)), 2))
            codes.append(CODES.encode(left, PHONES.ids["AA_I"], PHONES.ids["T_E"], state))
            rows.append((len(frames), frames.sum(0), (frames**2).sum(0)))
    order = np.argsort(codes)
    counts, sums, squares = (np.array([rows[i][k] for i in order]) for k in range(3))
    return TreeStats(np.array(codes)[order], counts.astype(float), sums, squares)


def all_subsets(phones: list[int]) -> np.ndarray:
    questions = np.zeros((2 ** len(phones) - 2, len(PHONES)), dtype=bool)
    for number, row in enumerate(questions, 1):
        row[[phone for bit, phone in enumerate(phones) if number >> bit & 1]] = True
    return questions


def gain(stats: TreeStats, rows: np.ndarray, yes: np.ndarray) -> float:
    def score(keep: np.ndarray) -> float:
        return float(log_likelihood(stats.counts[keep].sum(), stats.sums[keep].sum(0), stats.squares[keep].sum(0)))

    return score(rows & yes) + score(rows & ~yes) - score(rows)


def test_first_split_is_the_best_of_all() -> None:
    stats = statistics(0)
    left, _, _, state = CODES.decode(stats.codes)
    questions = all_subsets(list(range(3, 9)))
    candidates = [(gain(stats, state == s, q[left]), s, q) for s in range(3) for q in questions]
    best_gain, best_state, best = max(candidates, key=lambda candidate: candidate[0])
    roots = len(PHONES.bases) * 3 + 10
    tree = build_tree(stats, PHONES, questions, roots + 1, min_occupancy=1, merge=False)
    assert tree.num_pdfs == roots + 1
    root = tree.roots[PHONES.ids["AA_I"], best_state]
    chosen = tree.questions[tree.question[root]]
    assert gain(stats, state == best_state, chosen[left]) == best_gain
    answers = set(left[chosen[left]])
    assert answers in ({3, 5, 7}, {4, 6, 8})  # the parity that made the difference
    assert best is not None


def test_min_occupancy_holds_in_every_leaf() -> None:
    stats = statistics(1)
    tree = build_tree(stats, PHONES, all_subsets(list(range(3, 9))), 100, min_occupancy=150, merge=False)
    occupancy = np.bincount(tree.pdfs_of_codes(stats.codes), weights=stats.counts, minlength=tree.num_pdfs)
    assert tree.num_pdfs > len(PHONES.bases) * 3 + 10
    assert occupancy[occupancy > 0].min() >= 150


def test_merge_joins_leaves_that_cost_less_than_the_last_gain() -> None:
    """Questions that name one odd neighbour each part the odd ones, which sound alike, from one another too."""
    stats = statistics(2)
    left, _, _, state = CODES.decode(stats.codes)
    questions = np.zeros((3, len(PHONES)), dtype=bool)
    questions[[0, 1, 2], [3, 5, 7]] = True
    merged = build_tree(stats, PHONES, questions, 100, min_occupancy=1)
    plain = build_tree(stats, PHONES, questions, 100, min_occupancy=1, merge=False)
    assert plain.num_pdfs == len(PHONES.bases) * 3 + 10 + 3 * 3
    assert merged.num_pdfs <= plain.num_pdfs - 3 * 2
    odd = left % 2 == 1
    for number in range(3):
        assert len(set(plain.pdfs_of_codes(stats.codes[odd & (state == number)]))) == 3
        assert len(set(merged.pdfs_of_codes(stats.codes[odd & (state == number)]))) == 1


def test_positions_share_a_root_and_edges_count_as_silence() -> None:
    tree = build_tree(statistics(3), PHONES, all_subsets(list(range(3, 9))), 30, min_occupancy=1)
    assert len({tuple(tree.roots[PHONES.ids[f"AA_{p}"]]) for p in "BEIS"}) == 1
    phone, silence = np.array([PHONES.ids["AA_B"]]), np.array([PHONES.ids["SIL"]])
    right = np.array([PHONES.ids["T_E"]])
    np.testing.assert_array_equal(tree.pdfs(np.array([0]), phone, right), tree.pdfs(silence, phone, right))
    assert (tree.pdfs(np.array([0]), silence, np.array([0])) >= 0).all()
    assert tree.pdfs(right, phone, right)[0, 3:].tolist() == [-1, -1]


def test_questions_hold_clusters_positions_and_single_phones() -> None:
    questions = {tuple(np.flatnonzero(row)) for row in phonetic_questions(statistics(4), PHONES)}
    for base in range(len(PHONES.bases)):
        assert tuple(range(3 + 4 * base, 7 + 4 * base)) in questions
    assert tuple(PHONES.ids[f"{base}_B"] for base in PHONES.bases) in questions


def test_save_and_load(tmp_path) -> None:
    tree = build_tree(statistics(5), PHONES, all_subsets(list(range(3, 9))), 30, min_occupancy=1)
    tree.save(tmp_path / "tree.json")
    again = Tree.load(tmp_path / "tree.json")
    codes = statistics(5).codes
    np.testing.assert_array_equal(tree.pdfs_of_codes(codes), again.pdfs_of_codes(codes))
    assert tree.digest == again.digest
