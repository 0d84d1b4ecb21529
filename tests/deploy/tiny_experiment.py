"""A finished experiment as `export` finds it, made in a second: three phones, four words, random weights."""

from pathlib import Path

import numpy as np
import torch
import yaml

from asr_kd.features.store import write_store
from asr_kd.files import write_json, write_text
from asr_kd.hmm.topology import arcs
from asr_kd.hmm.tree import LEAF, Tree
from asr_kd.lang.phones import PhoneSet
from asr_kd.lang.pieces import Pieces
from asr_kd.nn.model import AcousticModel
from asr_kd.nn.seeds import generator
from asr_kd.pipeline import Job, fingerprint
from asr_kd.recipe import Network, Recipe
from asr_kd.stages.decode import made_from
from asr_kd.wfst.build import build_graph, build_word_graph
from asr_kd.workspace import Workspace

PHONES = PhoneSet(("A", "B", "C"))
# yes and yea are homophones, oh begins no, and no has two pronunciations
LEXICON = {"yes": ["A B"], "yea": ["A B"], "oh": ["C"], "no": ["C A", "C B B"]}
UNIGRAMS = {"<s>": (-99.0, -0.2), "yes": (-0.7, -0.3), "yea": (-0.9, -0.1), "oh": (-0.8, 0.0), "no": (-0.6, -0.25)}
BIGRAMS = {"<s> yes": -0.4, "yes oh": -0.3, "yea no": -0.5, "yes </s>": -0.9, "no yes": -0.6}
Unigrams, Bigrams = dict[str, tuple[float, float]], dict[str, float]
Language = tuple[list[str], Unigrams, Bigrams]
BINS, NUM_PDFS = 12, 19  # two times five states of silence and noise, three times three of phones
NETWORK = Network(left=3, right=2, layers=2, width=48)
FEATURES = {"fbank": {"num_bins": BINS}}
SCALES = {"lm_scale": 2.0, "word_penalty": 0.5}
RECIPE = Recipe.model_validate({"name": "tiny", "features": FEATURES, "decode": {"beam": 30.0, "prior_scale": 0.7}})


def make_experiment(root: Path, pieces: bool = False) -> Workspace:
    """Everything up to stage 8 that `export` and the experiment's own search read. pieces: a language of such."""
    work = Workspace(root)
    tree, table = monophone_tree(), np.log(np.array([[0.6, 0.4, 1e-4, 1e-4]]).repeat(NUM_PDFS, axis=0))
    table[:4] = table[5:9] = np.log(0.25)  # four arcs out of most states of silence and noise
    tree.save(work.gmm("sat") / "tree.json")
    write_lang(work.lang, *(piece_language(work.lang) if pieces else (list(LEXICON), UNIGRAMS, BIGRAMS)))
    graph, _ = build_graph(build_word_graph(work.lang, 0.5), tree.pdfs, table, 1.0, 0.1)
    graph.write(work.graph("sat") / "HCLG.fst")
    random_model(NETWORK).save(work.model("student"), {})
    draws = np.random.default_rng(3)
    rows = {f"test-{i}": draws.normal(size=(10 + i, BINS)).repeat(6, axis=0).astype(np.float16) for i in range(8)}
    write_store(work.features("fbank", "test"), rows, {"kind": "fbank"})
    speakers = {name: {"frames": f, "mean": [m] * BINS, "std": [s] * BINS} for name, f, m, s in SPEAKERS}
    write_json(work.features("fbank", "train") / "stats.json", speakers)
    leave_decoded(work, "student")
    write_json(work.results, RESULTS)
    write_text(work.root / "recipe.yaml", yaml.safe_dump(RECIPE.model_dump(mode="json")))
    for stage in ("decode", "score"):
        write_json(work.record(stage), {"fingerprint": fingerprint(RECIPE, stage)})
    return work


def leave_decoded(work: Workspace, system: str) -> None:
    """What the decode stage says of a system under RECIPE."""
    summary = {"scales": SCALES, "network_rtf": 0.01, "search_rtf": 0.1}
    made = made_from(Job(RECIPE, work), system)
    write_json(work.decode(system) / "summary.json", {"made_from": made, **summary})


SPEAKERS = [("one", 300, 18.0, 2.0), ("two", 100, 22.0, 4.0)]
ERRORS = {"wer": 0.35, "ci95": [0.33, 0.37], "words": 7391, "ins": 1, "del": 2, "sub": 3}
STUDENT = {"wer": {"dev": ERRORS, "test": ERRORS}, "frame_accuracy": {"dev": 0.41, "test": 0.42}, "rtf": 0.11}
RESULTS = {"hours": {"train": 2.7, "dev": 0.4, "test": 0.8}, "systems": {"student": STUDENT}}


def monophone_tree() -> Tree:
    """One tied state for each HMM state of each base phone: SIL 0 to 4, SPN 5 to 9, A 10 to 12, …"""
    roots = np.full((len(PHONES), 5), -1, np.int32)
    first: dict[str, int] = {}
    for phone in range(1, len(PHONES)):
        states = len(arcs(PHONES, phone))
        start = first.setdefault(PHONES.base(phone), sum(1 for _ in np.unique(roots[roots >= 0])))
        roots[phone, :states] = np.arange(start, start + states)
    nothing = np.zeros(NUM_PDFS, np.int32)
    questions = np.zeros((0, len(PHONES)), dtype=bool)
    leaves = np.full(NUM_PDFS, LEAF, np.int32)
    return Tree(
        PHONES, questions, leaves, nothing, nothing, nothing, np.arange(NUM_PDFS, dtype=np.int32), roots, NUM_PDFS
    )


def piece_language(folder: Path) -> Language:
    """Pieces of words that are spelt with the phones, all as likely."""
    pieces = Pieces.train({"AB": 5, "CAB": 3, "BA": 2, "ABAC": 2}, "ABC", 11)
    pieces.write(folder / "pieces.model")
    symbols = sorted(pieces.symbols)
    return symbols, {"<s>": (-99.0, 0.0), **dict.fromkeys(symbols, (-1.0, 0.0))}, {f"<s> {symbols[-1]}": -0.9}


def write_lang(folder: Path, symbols: list[str], unigrams: Unigrams, bigrams: Bigrams) -> None:
    PHONES.write(folder / "phones.txt")
    words = ["<eps>", *symbols, "#0", "<s>", "</s>"]
    write_text(folder / "words.txt", "".join(f"{word} {number}\n" for number, word in enumerate(words)))
    lines = [f"{word} {phones}\n" for word, variants in LEXICON.items() for phones in variants]
    write_text(folder / "lexicon.txt", "".join(lines))
    rows = [f"{p}\t{word}\t{backoff}" for word, (p, backoff) in unigrams.items()] + ["-0.75\t</s>"]
    pairs = [f"{p}\t{pair}" for pair, p in bigrams.items()]
    head = f"\\data\\\nngram 1={len(rows)}\nngram 2={len(pairs)}\n"
    body = "\n\\1-grams:\n" + "\n".join(rows) + "\n\n\\2-grams:\n" + "\n".join(pairs) + "\n\n\\end\\\n"
    write_text(folder / "lm.arpa", head + body)


def random_model(network: Network) -> AcousticModel:
    """A network sure of what it says; no parameter is the zero or one that training starts from."""
    model, draws = AcousticModel(network, BINS, NUM_PDFS), generator((0, "tiny"))
    model.initialise(draws)
    with torch.no_grad():
        model.weights[-1].mul_(4)
        for parameter in (*model.gains, *model.biases):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draws))
        model.mean.copy_(0.1 * torch.randn(BINS, generator=draws))
        model.scale.copy_(1 + 0.2 * torch.rand(BINS, generator=draws))
        model.log_prior.copy_(torch.randn(NUM_PDFS, generator=draws).log_softmax(0))
        if network.norm == "batch":
            model.running_mean.copy_(torch.randn(model.running_mean.shape, generator=draws))
            model.running_var.copy_(0.5 + torch.rand(model.running_var.shape, generator=draws))
    return model
