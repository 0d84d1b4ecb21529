"""How large a recipe's experiment is: hours of speech, frames, words, parameters."""

import gzip
import itertools
import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from lhotse import MonoCut

from asr_kd.corpora.splits import READERS
from asr_kd.corpora.utterance import to_cut
from asr_kd.errors import UserError
from asr_kd.files import read_json
from asr_kd.nn.frames import SPEED
from asr_kd.recipe import Corpus, Network, Recipe
from asr_kd.workspace import SPLITS, Workspace

FRAMES_AN_HOUR = 360_000
PROBED = 100  # utterances of a split whose audio is looked at
SAMPLED_BYTES = 1 << 24  # of the language model's text
WORDS_AN_HOUR = 9_400  # of read English
UTTERANCE_SECONDS = 9.0  # of the same
EMBEDDED_SECONDS, EMBEDDED_WORDS = 2.5, 8  # of an utterance and sentence of the embedded corpus
OTHERS_HOURS = 5.4  # of dev and of test, where nothing is known: LibriSpeech's
CEPSTRA = 40  # dimension of adapted features where hmm.lda_dim is not asked


@dataclass(frozen=True)
class Sizes:
    """Hours and utterances by split, without sped-up copies; words of the language model's text; n-grams, if known."""

    hours: dict[str, float]
    utterances: dict[str, int]
    lm_words: float
    ngrams: int | None = None
    pdfs: int | None = None

    def frames(self, split: str) -> float:
        return self.hours[split] * FRAMES_AN_HOUR


def sizes_of(recipe: Recipe, hours: float | None = None) -> Sizes:
    """Of the recipe's corpus, from its lists and a sample of its audio; `hours`: of train, in place of the corpus's.

    With `hours` the corpus need not be there: dev and test then count as LibriSpeech's. Raises UserError for images,
    and as stage 0 does.
    """
    corpus = recipe.corpus
    if hours is not None and not 0 < hours < math.inf:
        raise UserError(f"--hours {hours}: write the hours of training speech, such as 960")
    if corpus.of_images:
        raise UserError(
            f"corpus.kind: {corpus.kind}: the costs that were measured are those of speech; nothing to plan"
        )
    try:
        found = _splits(corpus)
    except UserError:
        if hours is None:
            raise
        found = {split: (hours if split == "train" else OTHERS_HOURS, 0) for split in SPLITS}
    if hours is not None:
        known, utterances = found["train"]
        found["train"] = (hours, round(utterances * hours / known) if known else 0)
    by_split = {split: time for split, (time, _) in found.items()}
    counts = {split: count or round(3600 * by_split[split] / UTTERANCE_SECONDS) for split, (_, count) in found.items()}
    arpa = recipe.lang.ngram.arpa
    return Sizes(by_split, counts, _lm_words(corpus, by_split["train"]), _ngrams_of(Path(arpa)) if arpa else None)


def sizes_of_experiment(recipe: Recipe, work: Workspace) -> Sizes:
    """Of what an experiment's first stages have found; those that are not done are estimated as without it."""
    hours, utterances = dict[str, float](), dict[str, int]()
    for split in SPLITS:
        frames = read_json(work.features("fbank", split) / "index.json")["utterances"]
        originals = [rows[2] for name, rows in frames.items() if not SPEED.search(name)]
        hours[split], utterances[split] = sum(originals) / FRAMES_AN_HOUR, len(originals)
    lm_words = _words(work.lm_text) if work.lm_text.exists() else _lm_words(recipe.corpus, hours["train"])
    lang, alignment = work.lang / "lang.json", work.alignment("train") / "index.json"
    ngrams = sum(read_json(lang)["ngrams"]) if lang.exists() else None
    return Sizes(
        hours, utterances, lm_words, ngrams, read_json(alignment)["meta"]["num_pdfs"] if alignment.exists() else None
    )


def _splits(corpus: Corpus) -> dict[str, tuple[float, int]]:
    """Hours and utterances of each split, by a sample of the audio."""
    if corpus.kind == "embedded":
        counts = {split: getattr(corpus.embedded, f"{split}_utterances") for split in SPLITS}
        return {split: (count * EMBEDDED_SECONDS / 3600, count) for split, count in counts.items()}
    found = {}
    for split, utterances in READERS[corpus.kind](corpus.model_copy(update={"download": False})).items():
        usable = [utterance for utterance in utterances if not utterance.fault]
        probed = (to_cut(utterance, corpus.sample_rate) for utterance in usable[:: max(1, len(usable) // PROBED)])
        seconds = [cut.duration for cut in probed if isinstance(cut, MonoCut)]
        if not seconds:
            raise UserError(f"corpus.{split}: no usable utterance; asr-kd validate says why")
        found[split] = (sum(seconds) / len(seconds) * len(usable) / 3600, len(usable))
    return found


def _lm_words(corpus: Corpus, hours: float) -> float:
    if corpus.lm_text and Path(corpus.lm_text).exists():
        return _words(Path(corpus.lm_text))
    return corpus.embedded.lm_sentences * EMBEDDED_WORDS if corpus.kind == "embedded" else hours * WORDS_AN_HOUR


def _words(path: Path) -> float:
    """Words of a text, plain or .gz, of a long one by its beginning."""
    with path.open("rb") as file, gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else nullcontext(file) as text:
        beginning = text.read(SAMPLED_BYTES)
        words, ended = len(beginning.split()), not text.read(1)
        return words if ended else words * path.stat().st_size / file.tell()


def _ngrams_of(arpa: Path) -> int:
    r"""The n-grams that an ARPA file's \data\ section counts."""
    try:
        with arpa.open(encoding="utf-8") as file:
            head = itertools.takewhile(lambda line: not line.endswith("-grams:\n"), itertools.islice(file, 100))
            return sum(int(line.split("=")[1]) for line in head if line.startswith("ngram "))
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"lang.ngram.arpa: {arpa}: cannot be read ({error})") from None


def layer_products(network: Network, pdfs: int) -> list[int]:
    """Weights of each layer of a fully connected network: a product with them takes two operations a weight."""
    dim = {"fbank": CEPSTRA, "fmllr": CEPSTRA, "fmllr+fbank": 2 * CEPSTRA}.get(network.input, CEPSTRA)
    window = (network.left + 1 + network.right) * dim
    sizes = [window, *[network.width] * network.layers, pdfs]
    return [below * above for below, above in itertools.pairwise(sizes)]


def parameters(network: Network, pdfs: int) -> int:
    return sum(layer_products(network, pdfs)) + network.layers * network.width + pdfs


def input_bytes(network: Network) -> int:
    """Of one frame as stored, float16."""
    return 2 * CEPSTRA * (2 if network.input == "fmllr+fbank" else 1)


def members_of(recipe: Recipe) -> Iterator[Network]:
    yield from map(recipe.teachers.network_of, range(recipe.teachers.members))
