"""Damaged files of the HMM room are read, or refused in one line; what is read can be used; nothing in them is run."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import EXAMPLES, Steps, damaged, damages, read_or_refuse
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from test_tree import CODES, statistics
from toy import PHONES, random_gmm
from typer.testing import CliRunner

from asr_kd.cli import app
from asr_kd.errors import UserError
from asr_kd.hmm.checkpoint import STATE, Checkpoint, FinishedSteps
from asr_kd.hmm.gmm import Gmm
from asr_kd.hmm.show import describe
from asr_kd.hmm.steps import Step
from asr_kd.hmm.training import Trainer
from asr_kd.hmm.tree import Tree, build_tree, phonetic_questions
from asr_kd.workspace import Workspace

DIM = 3
CODE = CODES.encode(3, PHONES.ids["AA_I"], PHONES.ids["T_E"])
ROW = {"iteration": 1, "log_likelihood_per_frame": -7.25, "gaussians": 19, "silence_share": 0.25, "failed": 0}


def adapted_step() -> Step:
    """With a tree that asks questions, a projection and a twin, as sat/ has them."""
    stats = statistics(0)
    tree = build_tree(stats, PHONES, phonetic_questions(stats, PHONES), 24, 20.0, merge=False)
    projection = torch.arange(2.0 * DIM * DIM).view(DIM, -1)
    return Step(random_gmm(tree, DIM, 2, 0), [ROW], projection, random_gmm(tree, DIM, 2, 1))


FILES = [
    "model.safetensors",
    "tree.json",
    "projection.safetensors",
    "log.json",
    "independent/model.safetensors",
    "independent/tree.json",
]


def use(path: Path) -> None:
    """All that is done with a finished step."""
    step = Step.load(path)
    for gmm in filter(None, (step.gmm, step.independent)):
        assert gmm.log_likelihoods(torch.zeros(2, DIM)).shape == (2, gmm.num_pdfs)
    assert (
        step.projection is not None and (torch.zeros(1, step.projection.shape[1]) @ step.projection.T).shape[1] == DIM
    )
    tree, phones = step.gmm.tree, np.arange(1, len(PHONES))
    assert tree.pdfs(phones[::-1], phones, phones).max() < tree.num_pdfs
    assert len(tree.base_phone_of_pdfs()) == len(tree.silence_pdfs()) == tree.num_pdfs
    describe(path)


def test_an_undamaged_step_is_used(tmp_path: Path) -> None:
    adapted_step().save(tmp_path)
    use(tmp_path)


@EXAMPLES
@given(st.sampled_from(FILES), damages())
@example("tree.json", [("replace", 0.0, 1.0, b"[]")])
@example("tree.json", [("replace", 0.0, 1.0, b'{"bases": null}')])
@example("log.json", [("replace", 0.0, 1.0, b'[{"iteration": 1}]')])
@example("log.json", [("replace", 0.0, 1.0, b'{"a": 1}')])
@example("log.json", [("replace", 0.0, 1.0, b"1")])
def test_steps(tmp_path: Path, name: str, steps: Steps) -> None:
    adapted_step().save(tmp_path / "sat")
    path = tmp_path / "sat" / name
    path.write_bytes(damaged(path.read_bytes(), steps))
    read_or_refuse(lambda: use(tmp_path / "sat"))


def changed_trees() -> st.SearchStrategy[tuple[str, int, int, object]]:
    """Which entry, row and column of tree.json get which value: JSON that is well formed and may be no tree."""
    value = st.one_of(st.integers(-3, 80), st.sampled_from([2**31, -(2**40), 10**30, 1.5, None, "x", [], {}]))
    return st.tuples(
        st.sampled_from(["nodes", "roots", "questions", "bases"]), st.integers(0, 10**6), st.integers(0, 4), value
    )


@EXAMPLES
@given(st.lists(changed_trees(), min_size=1, max_size=2))
@example([("nodes", 0, 2, 0)])  # a node that leads back to itself
def test_trees(tmp_path: Path, changes: list[tuple[str, int, int, object]]) -> None:
    step = adapted_step()
    step.save(tmp_path / "sat")
    for folder in (tmp_path / "sat", tmp_path / "sat" / "independent"):
        data = json.loads((folder / "tree.json").read_text())
        for entry, row, column, value in changes:
            rows = data[entry]
            row %= len(rows)
            if entry in ("nodes", "roots") and isinstance(rows[row], list):
                rows[row][column] = value
            else:
                rows[row] = value
        (folder / "tree.json").write_text(json.dumps(data))
    read_or_refuse(lambda: use(tmp_path / "sat"))


WRONG: dict[str, tuple[str, object]] = {
    "another pdf": ("pdf_of", lambda t: t + 1),
    "out of order": ("pdf_of", lambda t: t.flip(0)),
    "another type": ("pdf_of", lambda t: t.int()),
    "a Gaussian less": ("weights", lambda t: t[1:]),
    "other dimensions": ("means", lambda t: t[:, 1:]),
    "one dimension": ("means", lambda t: t.flatten()),
    "no variance": ("variances", torch.zeros_like),
    "not a number": ("means", lambda t: t * torch.nan),
    "transitions of fewer pdfs": ("log_transitions", lambda t: t[1:]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, wrong: str) -> None:
    adapted_step().gmm.save(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name, change = WRONG[wrong]
    tensors[name] = change(tensors[name]).contiguous()  # type: ignore[operator]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors: damaged .*--stage 3 \(align\)"):
        Gmm.load(tmp_path)


def test_a_user_sees_one_line_and_status_2(tmp_path: Path) -> None:
    for name in FILES:
        adapted_step().save(Workspace(tmp_path).gmm("sat"))
        (Workspace(tmp_path).gmm("sat") / name).write_bytes(b"\x80\x04]")
        result = CliRunner().invoke(app, ["hmm", "show", str(tmp_path)])
        if not name.startswith(("projection", "independent")):  # which are not shown
            assert result.exit_code == 2 and result.output.startswith("asr-kd: "), name
            assert len(result.output.splitlines()) == 1, name


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "sprung",)

    for name in FILES:
        adapted_step().save(tmp_path / "sat")
        torch.save({"weights": Trap()}, tmp_path / "sat" / name)
        read_or_refuse(lambda: use(tmp_path / "sat"))
        (tmp_path / "sat" / name).write_bytes(pickle.dumps(Trap()))
        read_or_refuse(lambda: use(tmp_path / "sat"))
    assert not (tmp_path / "sprung").exists()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a training that has hardly begun."""
    path, gmm = tmp_path_factory.mktemp("state"), adapted_step().gmm
    trainer = object.__new__(Trainer)
    codes = np.full(9, CODE)
    trainer.gmm, trainer.alignment = gmm, type("", (), {"codes": codes, "words": codes * 0, "scores": np.zeros(1)})()
    trainer.history, trainer.rng, trainer.features_from = [ROW], np.random.default_rng(0), {"lda": torch.eye(DIM)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASR_KD_CHECKPOINT_SECONDS", "0")
        Checkpoint(path, "this one").save(trainer)
    assert Checkpoint(path, "this one").load() is not None
    return path


@EXAMPLES
@given(st.sampled_from([STATE, "tree.json", "codes-*.npy", "words-*.npy"]), damages())
def test_a_damaged_checkpoint_is_as_good_as_none(state: Path, name: str, steps: Steps) -> None:
    (path,) = state.glob(name)
    whole = path.read_bytes()
    content = damaged(whole, steps)
    path.write_bytes(content)
    try:
        found = Checkpoint(state, "this one").load()
        assert found is None or content == whole or name != STATE
        if found is not None:
            assert found.gmm.tree.digest == adapted_step().gmm.tree.digest
            assert set(found.alignment.codes) == {CODE} and not found.alignment.words.any()
            assert len(found.alignment.codes) == len(found.alignment.words) == 9
    finally:
        path.write_bytes(whole)


@EXAMPLES
@given(damages())
@example([("replace", 0.0, 1.0, b'{"identity": "one", "steps": {"mono": 3}}')])
def test_a_damaged_list_of_finished_steps(tmp_path: Path, steps: Steps) -> None:
    path, model = tmp_path / "steps.json", tmp_path / "model"
    model.write_text("a model")
    FinishedSteps(path, "one").add("mono", [model])
    path.write_bytes(damaged(path.read_bytes(), steps))
    FinishedSteps(path, "one").has("mono")


def test_a_tree_that_kaldi_numbers_the_other_way_is_read(tmp_path: Path) -> None:
    tree = adapted_step().gmm.tree
    last = len(tree.about) - 1
    turned = Tree(
        tree.phone_set, tree.questions, *(getattr(tree, name)[::-1] for name in ("about", "question")),
        *((last - getattr(tree, name))[::-1] for name in ("yes", "no")), tree.pdf[::-1],
        np.where(tree.roots >= 0, last - tree.roots, -1), tree.num_pdfs, edge=0,
    )  # fmt: skip
    turned.save(tmp_path / "tree.json")
    assert Tree.load(tmp_path / "tree.json").digest == turned.digest
