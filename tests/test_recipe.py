"""Recipes: layers, overrides, and one line for every mistake."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.errors import UserError
from asr_kd.recipe import Network, Recipe
from asr_kd.recipe_file import load_recipe


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_recipe_is_the_defaults_under_the_files_name(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "mine.yaml", ""))
    assert recipe == Recipe(name="mine")


def test_a_child_overrides_keys_and_keeps_the_rest(tmp_path: Path) -> None:
    write(
        tmp_path / "base.yaml",
        "name: base\nteachers: {members: 3, network: {width: 64, layers: 2}}\nseed: 7\n",
    )
    write(tmp_path / "middle.yaml", "extends: base.yaml\nteachers: {network: {width: 128}}\n")
    child = write(tmp_path / "child.yaml", "extends: middle.yaml\nseed: 8\n")
    recipe = load_recipe(child)
    assert (recipe.teachers.members, recipe.teachers.network.width, recipe.teachers.network.layers) == (
        3,
        128,
        2,
    )
    assert recipe.seed == 8
    assert recipe.name == "child", "a parent's name would put two recipes into one experiment directory"


def test_set_comes_last_and_parses_yaml(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", "student: {temperature: 5}\n")
    overrides = [
        "student.temperature=4",
        "decode.systems=[baseline, student]",
        "targets.top_k=null",
        "name=other",
    ]
    recipe = load_recipe(path, overrides)
    assert recipe.student.temperature == 4
    assert recipe.decode.systems == ("baseline", "student")
    assert recipe.targets.top_k is None
    assert recipe.name == "other"


def test_the_student_has_the_teachers_network_unless_it_names_its_own(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", "teachers: {network: {width: 99}}\n")
    assert load_recipe(path).student_network.width == 99
    assert load_recipe(path, ["student.network.width=33"]).student_network.width == 33


def test_networks_have_what_they_leave_out_from_the_teachers(tmp_path: Path) -> None:
    network = "{input: fmllr, left: 9, norm: batch, width: 99, input_dropout: 0.1}"
    text = f"teachers: {{network: {network}, networks: [{{}}, {{layers: 1, norm: null}}]}}\n"
    recipe = load_recipe(write(tmp_path / "r.yaml", text + "student: {network: {width: 33, input_dropout: null}}\n"))
    common = recipe.teachers.network.model_dump()
    assert (common["input"], common["right"]) == ("fmllr", 5)
    assert recipe.student_network.model_dump() == {**common, "width": 33, "input_dropout": None}
    assert recipe.teachers.network_of(0) == recipe.teachers.network
    assert recipe.teachers.network_of(1).model_dump() == {**common, "layers": 1, "norm": None}
    dumped = write(tmp_path / "dumped.yaml", yaml.safe_dump(recipe.model_dump(mode="json")))
    assert load_recipe(dumped) == recipe
    other = load_recipe(dumped, ["teachers.network.norm=layer"])
    assert other.student_network == recipe.student_network, "a dumped recipe leaves nothing out"


def test_students_of_the_projects_recipes_are_networks_of_their_own(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASR_KD_CORPORA", "/nowhere")
    pixels = {"input": "pixels", "left": 0, "right": 0, "dropout": 0}
    students = {"mnist": Network(**pixels, layers=2, width=800), "svhn": Network(**pixels, kind="lenet")}
    for name, network in (*students.items(), ("cifar10", students["svhn"])):
        assert load_recipe(repository / "recipes" / "images" / f"{name}.yaml").student_network == network


def test_environment_variables_are_expanded_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_KD_TEST_DIR", "/somewhere")
    path = write(tmp_path / "r.yaml", "corpus: {dir: '${ASR_KD_TEST_DIR}/speech'}\n")
    assert load_recipe(path).corpus.dir == "/somewhere/speech"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("student: {temprature: 2}", "r.yaml: student.temprature: unknown key; did you mean temperature?"),
        ("student: {network: {widht: 2}}", "r.yaml: student.network.widht: unknown key; did you mean width?"),
        ("teachers: {networks: [{widht: 2}]}", "r.yaml: teachers.networks.0.widht: unknown key; did you mean width?"),
        (
            "teachers: {network: {widht: 2}}\nstudent: {network: {}}",
            "r.yaml: teachers.network.widht: unknown key; did you mean width?",
        ),
        ("needs: {align: {cpu: 2}}", "r.yaml: needs.align.cpu: unknown key; did you mean cpus?"),
        ("xyzzy: 1", "r.yaml: xyzzy: unknown key; valid here: name, description, seed"),
        ("teachers: {members: many}", "r.yaml: teachers.members: Input should be a valid integer"),
        (
            "teachers: {members: 0}",
            "r.yaml: teachers.members: Input should be greater than or equal to 1 (got 0)",
        ),
        ("teachers: null", "r.yaml: teachers: "),
        ("lang: {tokens: bpe}", "r.yaml: lang: tokens: bpe needs pieces that can be pronounced; set lang.units"),
        ("lang: {units: grapheme, lexicon: my.txt}", "r.yaml: lang: units: grapheme needs no lexicon; remove lang."),
        ("lang: {units: grapheme, tokens: bpe, max_words: 9}", "remove lang.ngram.arpa, lang.max_words"),
        (
            "{lang: {units: grapheme, tokens: bpe}, decode: {lattice: {rescore: {}}}}",
            "r.yaml: decode.lattice.rescore: not over pieces",
        ),
        ("lang: {pieces: 100}", "r.yaml: lang: pieces: only of tokens: bpe; set lang.tokens or remove lang.pieces"),
        ("decode: {systems: [basline]}", "r.yaml: decode.systems.0: "),
        ("decode: {systems: []}", "r.yaml: decode.systems: "),
        ("name: a/b", "r.yaml: name: "),
        ("hmm: {beem: 1, mono: {iterations: x}}", "(and 1 more problem)"),
        ("seed: 1\nstudent: [\n", "r.yaml:3: not valid YAML"),
        ("- a\n- b\n", "r.yaml: a recipe is a mapping of keys to values, this is a list"),
        ("extends: [a, b]", "r.yaml: extends: must be the name of one recipe file"),
        ("extends: nowhere.yaml", "nowhere.yaml: No such file"),
        ("extends: r.yaml", "r.yaml: 'extends' comes back to this file"),
        (
            "corpus: {dir: '${ASR_KD_UNSET}/x'}",
            "r.yaml: ${ASR_KD_UNSET} is not set; run: export ASR_KD_UNSET=",
        ),
    ],
)
def test_a_mistake_is_one_line_naming_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "r.yaml", text)
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_extends_in_a_circle_of_two(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "extends: b.yaml")
    with pytest.raises(UserError, match=r"b\.yaml: 'extends' comes back"):
        load_recipe(write(tmp_path / "b.yaml", "extends: a.yaml"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("teachers.members", "write it as key.path=value"),
        ("=3", "write it as key.path=value"),
        ("student.temperature=[", "not valid YAML"),
        ("name=2026-13-45", "--set name=2026-13-45: the value is not valid YAML"),
        pytest.param("name=" + "[" * 3000, "not valid YAML", id="deep"),
        ("student.temprature=2", "did you mean temperature?"),
        ("seed.x=2", "seed is a value, not a section"),
    ],
)
def test_a_bad_set_is_one_line(tmp_path: Path, override: str, message: str) -> None:
    path = write(tmp_path / "r.yaml", "seed: 1\n")
    with pytest.raises(UserError) as caught:
        load_recipe(path, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_not_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"r\.yaml: not UTF-8"):
        load_recipe(path)


@given(
    members=st.integers(1, 100),
    temperature=st.floats(0.01, 100),
    systems=st.lists(st.sampled_from(["gmm-mono", "baseline", "student"]), min_size=1, max_size=3),
)
def test_a_resolved_recipe_reads_back_as_itself(
    tmp_path_factory: pytest.TempPathFactory, members: int, temperature: float, systems: list[str]
) -> None:
    sections = {
        "teachers": {"members": members},
        "student": {"temperature": temperature},
        "decode": {"systems": systems},
    }
    recipe = Recipe.model_validate(sections)
    text = yaml.safe_dump(recipe.model_dump(mode="json"))
    assert load_recipe(write(tmp_path_factory.mktemp("recipe") / "r.yaml", text)) == recipe


def test_every_recipe_of_the_project_is_valid(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ASR_KD_CORPORA", "KALDI_DATA"):
        monkeypatch.setenv(variable, "/nowhere")
    experiments = {repository / "recipes" / f"{name}.yaml" for name in ("mnist", "svhn", "cifar10")}
    paths = sorted(
        {*(repository / "recipes").glob("*.yaml"), *(repository / "recipes/images").glob("*.yaml")} - experiments
    )
    assert repository / "recipes" / "default.yaml" in paths
    names = [load_recipe(path).name for path in paths]
    assert len(set(names)) == len(paths), "two recipes would share an experiment directory"
    for path in experiments:
        with pytest.raises(UserError, match=rf"{path.name}: an experiment over recipes; run: asr-kd experiment"):
            load_recipe(path)
