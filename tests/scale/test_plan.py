"""Costs against counted operations, sizes against a corpus that is there, a plan against an experiment's records."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from asr_kd.cli import app
from asr_kd.errors import UserError
from asr_kd.files import write_json, write_text
from asr_kd.nn.model import AcousticModel
from asr_kd.nn.seeds import generator
from asr_kd.plan import STAGE_NAMES
from asr_kd.recipe import Corpus, Lang, Network, NGram, Recipe, Student, Targets, Teachers, Training
from asr_kd.scale import sizes as sizes_module
from asr_kd.scale.costs import SOFT_LOSS, costs
from asr_kd.scale.machine import Machine, calibrate
from asr_kd.scale.plan import duration, make_plan, quantity
from asr_kd.scale.sizes import Sizes, parameters, sizes_of
from asr_kd.workspace import SPLITS, Workspace

NETWORK = Network(left=2, right=1, layers=3, width=24)
SIZES = Sizes({"train": 2.0, "dev": 1.0, "test": 1.0}, {"train": 800, "dev": 400, "test": 400}, 1e5, pdfs=50)
MACHINE = Machine(1e12, 1e11, 1.0, 2)


def by_stage(recipe: Recipe, sizes: Sizes) -> dict:
    return {cost.stage: cost for cost in costs(recipe, sizes, 2)}


def recipe_of(epochs: int = 3, members: int = 2, **sections: object) -> Recipe:
    teachers = Teachers(members=members, network=NETWORK, train=Training(epochs=epochs))
    return Recipe(teachers=teachers, student=Student(train=Training(epochs=epochs)), **sections)  # type: ignore[arg-type]


def test_operations_are_those_that_torch_counts() -> None:
    model = AcousticModel(NETWORK, 40, 50)
    model.initialise(generator((0, "test")))
    assert parameters(NETWORK, 50) == model.parameter_count
    windows = torch.randn(7, model.window, 40)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(windows)
    with FlopCounterMode(display=False) as both:
        model(windows).logsumexp(1).sum().backward()
    a_frame = both.get_total_flops() / 7 * SIZES.frames("train") + forward.get_total_flops() / 7 * SIZES.frames("dev")
    found = by_stage(recipe_of(), SIZES)
    assert found["student"].train == pytest.approx(SOFT_LOSS * 3 * a_frame)
    assert found["teachers"].train == pytest.approx(2 * 3 * a_frame)


def test_work_grows_with_the_hours_and_memory_does_not() -> None:
    tenfold = {split: 10 * hours for split, hours in SIZES.hours.items()}
    larger = replace(SIZES, hours=tenfold, utterances={split: 10 * n for split, n in SIZES.utterances.items()})
    small, large = (by_stage(recipe_of(), sizes) for sizes in (SIZES, larger))
    for stage in ("features", "teachers", "targets", "student"):
        assert large[stage].seconds(MACHINE) == pytest.approx(10 * small[stage].seconds(MACHINE))
    assert large["targets"].bytes == pytest.approx(10 * small["targets"].bytes)
    # monophones are trained on as many utterances, whatever the corpus
    assert 9 < large["align"].seconds(MACHINE) / small["align"].seconds(MACHINE) < 10
    assert all(large[stage].memory == small[stage].memory for stage in STAGE_NAMES)


def test_sped_up_copies_members_and_a_device_count() -> None:
    plain = by_stage(recipe_of(), SIZES)
    copies = by_stage(recipe_of(features={"speed": (0.9, 1.1)}), SIZES)
    assert copies["targets"].bytes == pytest.approx(3 * plain["targets"].bytes)
    assert by_stage(recipe_of(members=6), SIZES)["teachers"].bytes == 3 * plain["teachers"].bytes
    faster = Machine(1e14, 1e13, 1.0, 2)
    assert plain["student"].seconds(MACHINE) == pytest.approx(100 * plain["student"].seconds(faster))
    assert plain["features"].seconds(MACHINE) == plain["features"].seconds(faster)


def test_hours_of_a_corpus_that_is_there(tmp_path: Path) -> None:
    rate, seconds = 16000, np.linspace(0.5, 1.5, 7)
    for split in SPLITS:
        rows = []
        for number, length in enumerate(seconds):
            soundfile.write(tmp_path / f"{split}{number}.wav", np.zeros(round(length * rate)), rate, subtype="PCM_16")
            rows.append({"id": f"{split}{number}", "speaker": split, "text": "a b", "audio": f"{split}{number}.wav"})
        write_text(tmp_path / f"{split}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    corpus = Corpus(kind="manifest", dir=str(tmp_path))
    found = sizes_of(Recipe(corpus=corpus))
    assert found.hours["dev"] == pytest.approx(seconds.sum() / 3600) and found.utterances["dev"] == 7
    assert sizes_of(Recipe(corpus=corpus), hours=5).hours == {**found.hours, "train": 5}
    with pytest.raises(UserError, match=r"gone.jsonl"):
        sizes_of(Recipe(corpus=corpus.model_copy(update={"train": ("gone",)})))
    nowhere = sizes_of(Recipe(corpus=corpus.model_copy(update={"dir": str(tmp_path / "gone")})), hours=5)
    assert nowhere.hours["train"] == 5 and nowhere.hours["test"] > 0
    with pytest.raises(UserError, match="--hours nan"):
        sizes_of(Recipe(corpus=corpus), hours=float("nan"))
    with pytest.raises(UserError, match="mnist"):
        sizes_of(Recipe(corpus=Corpus(kind="mnist")))


@pytest.mark.parametrize("packed", [False, True])
def test_words_of_a_text_are_counted_or_for_a_long_one_estimated(
    tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ("lm.txt.gz" if packed else "lm.txt")
    draws = np.random.default_rng(0).integers(1000, 9999, 40_000)
    text = " ".join(map(str, draws)).encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    recipe = Recipe(corpus=Corpus(lm_text=str(path)))
    assert sizes_of(recipe).lm_words == 40_000
    monkeypatch.setattr(sizes_module, "SAMPLED_BYTES", 50_000)
    assert sizes_of(recipe).lm_words == pytest.approx(40_000, rel=0.4 if packed else 0.1)


def test_ngrams_of_an_arpa_file(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text("\n\\data\\\nngram 1=5\nngram 2=7\n\n\\1-grams:\n-1 a\n")
    assert sizes_of(Recipe(lang=Lang(ngram=NGram(arpa=str(path))))).ngrams == 12


def test_a_plan_from_an_experiment_gives_back_its_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr_kd.scale.plan.calibrate", lambda *_: MACHINE)
    work = Workspace(tmp_path)
    write_text(tmp_path / "recipe.yaml", "name: small\nteachers: {members: 2}\n")
    write_json(tmp_path / "environment.json", {"cpus": 2})
    for split in SPLITS:
        rows = {f"{split}-1": [0, 0, 36000], f"{split}-1_sp0.9": [0, 36000, 40000]}
        write_json(work.features("fbank", split) / "index.json", {"utterances": rows})
    write_json(work.alignment("train") / "index.json", {"meta": {"num_pdfs": 321}})
    write_text(work.lm_text, "a b c\n")
    write_json(work.lang / "lang.json", {"ngrams": [3, 4]})
    for number, stage in enumerate(STAGE_NAMES, start=1):
        write_json(work.record(stage), {"seconds": 10.0 * number})
    recipe = Recipe(name="small", teachers=Teachers(members=2))
    plan = make_plan(recipe, exp=tmp_path, jobs=2)
    assert plan.sizes.hours["train"] == pytest.approx(0.1) and plan.sizes.pdfs == 321 and plan.sizes.ngrams == 7
    assert [plan.seconds(cost) for cost in plan.costs] == pytest.approx([10.0 * n for n in range(1, 10)])
    twice = make_plan(recipe.model_copy(update={"teachers": Teachers(members=4)}), exp=tmp_path, jobs=2)
    assert {cost.stage: twice.seconds(cost) for cost in twice.costs}["teachers"] == pytest.approx(2 * 50.0)
    work.record("lang").write_text("[]")
    with pytest.raises(UserError, match=r"lang\.json: not a completion record; .* run the command with --repair"):
        make_plan(recipe, exp=tmp_path, jobs=2)


def test_calibration_tells_a_fast_machine_from_a_slow_one() -> None:
    one = calibrate("cpu", 1, "float32")
    assert 1e9 < one.infer_flops < 1e14 and 0.01 < one.core < 100
    assert calibrate("cpu", 1, "auto", (400, 50)).train_flops == 400e12


def test_the_paper_on_the_command_line(repository: Path, tmp_path: Path) -> None:
    """720 million frames of 14,000 states: 88 bytes a frame, and 28,000 dense."""
    arguments = ["plan", str(repository / "recipes" / "librispeech_100.yaml"), "--hours", "2000"]
    arguments += ["--set", "hmm.sat.leaves=14000", "--tflops", "400,50", "--jobs", "1"]
    environment = {"ASR_KD_CORPORA": str(tmp_path), "COLUMNS": "120"}
    shown = CliRunner().invoke(app, arguments, env=environment)
    assert shown.exit_code == 0, shown.output
    frames = 2000 * 360_000
    assert f"{frames:,} training frames, 14,000 tied states" in shown.output
    assert f"soft targets {quantity(88 * frames)}; dense they would be {quantity(28_000 * frames)}" in shown.output
    assert all(stage in shown.output for stage in STAGE_NAMES)
    wrong = CliRunner().invoke(app, [*arguments[:2], "--tflops", "fast"], env=environment)
    assert wrong.exit_code == 2


def test_figures_for_a_reader() -> None:
    assert [duration(seconds) for seconds in (4.04, 600, 36000, 864000)] == ["4.04 s", "10 min", "10 h", "10 days"]
    assert [quantity(count) for count in (0, 12, 999.6, 84.8e6, 20.16e12)] == [
        "–",
        "12 B",
        "1 kB",
        "84.8 MB",
        "20.2 TB",
    ]


def test_dense_targets_are_planned_dense() -> None:
    dense = by_stage(recipe_of(targets=Targets(top_k=None)), SIZES)
    assert dense["targets"].bytes == 2 * 50 * SIZES.frames("train")
