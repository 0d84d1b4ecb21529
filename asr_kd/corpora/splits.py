"""The three splits of a corpus, checked utterance by utterance, and the text for the language model."""

import gzip
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import combinations
from pathlib import Path

from lhotse import CutSet, MonoCut

from asr_kd.corpora.kaldi import read_kaldi
from asr_kd.corpora.librispeech import read_librispeech
from asr_kd.corpora.utterance import Utterance, normalise_text, to_cut
from asr_kd.corpora.yesno import read_yesno
from asr_kd.errors import UserError
from asr_kd.files import atomic_path
from asr_kd.recipe import Corpus

log = logging.getLogger("asr_kd")

READERS: dict[str, Callable[[Corpus], dict[str, list[Utterance]]]] = {
    "librispeech": read_librispeech,
    "mini_librispeech": read_librispeech,
    "yesno": read_yesno,
    "kaldi": read_kaldi,
}


def check_utterances(
    splits: dict[str, list[Utterance]],
    corpus: Corpus,
    jobs: int,
    progress: Callable[..., Iterator[MonoCut | str]],
) -> tuple[dict[str, list[MonoCut]], list[dict[str, str]]]:
    """Cuts by split, and the utterances left out as {"id", "split", "reason"}.

    Raises UserError when a split keeps nothing or more than corpus.max_bad_fraction of all is left out.
    """
    cuts: dict[str, list[MonoCut]] = {split: [] for split in splits}
    excluded: list[dict[str, str]] = []
    seen: set[str] = set()
    for split, utterances in splits.items():
        with ThreadPoolExecutor(jobs) as pool:
            checked = pool.map(partial(to_cut, sample_rate=corpus.sample_rate), utterances)
            for utterance, cut in zip(utterances, progress(checked, f"audio of {split}", len(utterances)), strict=True):
                if utterance.id in seen:
                    cut = "utterance id occurs twice"
                seen.add(utterance.id)
                if isinstance(cut, MonoCut):
                    cuts[split].append(cut)
                else:
                    excluded.append({"id": utterance.id, "split": split, "reason": cut})
                    log.warning("%s: %s left out: %s", split, utterance.id, cut)
    _refuse_if_too_bad(cuts, excluded, corpus)
    return cuts, excluded


def _refuse_if_too_bad(cuts: dict[str, list[MonoCut]], excluded: list[dict[str, str]], corpus: Corpus) -> None:
    total = len(excluded) + sum(map(len, cuts.values()))
    reasons = Counter(row["reason"].split(":")[0] for row in excluded).most_common(1)
    why = f"; most often: {reasons[0][0]} ({reasons[0][1]} times), for example {excluded[0]['id']}" if reasons else ""
    for split, kept in cuts.items():
        if not kept:
            raise UserError(
                f"corpus.{split}: no usable utterance ({len(excluded)} of {total} left out{why}); see the log"
            )
    if len(excluded) > corpus.max_bad_fraction * total:
        raise UserError(
            f"corpus.max_bad_fraction: {len(excluded)} of {total} utterances cannot be used, more than "
            f"{corpus.max_bad_fraction:.1%}{why}; repair the corpus or raise the key"
        )


def check_speakers_disjoint(splits: dict[str, list[Utterance]]) -> None:
    """Raise UserError naming a speaker that two splits share."""
    speakers = {split: {utterance.speaker for utterance in members} for split, members in splits.items()}
    for one, other in combinations(speakers, 2):
        shared = sorted(speakers[one] & speakers[other] - {""})
        if shared:
            raise UserError(
                f"corpus.{one}, corpus.{other}: both have speaker {shared[0]} ({len(shared)} such speakers); "
                "choose parts whose speakers are disjoint"
            )


def write_cuts(path: Path, cuts: list[MonoCut]) -> None:
    """Write a split's manifest, ordered by utterance id."""
    with atomic_path(path) as temporary:
        # lhotse chooses the format by the name's ending, which a temporary name lacks
        named = temporary.with_name(temporary.name + ".jsonl.gz")
        try:
            CutSet.from_cuts(sorted(cuts, key=lambda cut: cut.id)).to_file(named)
            named.replace(temporary)
        finally:
            named.unlink(missing_ok=True)


def read_sentences(path: Path) -> list[str]:
    """The normalised sentences of a text file, plain or .gz, one a line; UserError when it cannot be read."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            return [sentence for sentence in map(normalise_text, file) if sentence]
    except FileNotFoundError:
        raise UserError(f"corpus.lm_text: {path}: no such file") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"corpus.lm_text: {path}: cannot be read as UTF-8 text, plain or .gz ({error})") from None


def hours(cuts: Iterable[MonoCut]) -> float:
    return sum(cut.duration for cut in cuts) / 3600
