"""How probable each pronunciation of a word is, by how often the training alignment took it."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from asr_kd.corpora.manifest import read_cuts, words_of
from asr_kd.features.store import FrameStore
from asr_kd.lang.lexicon import Lexicon, Pronunciation
from asr_kd.lang.phones import PhoneSet
from asr_kd.workspace import Workspace

PHONE, STATE, WORD = 2, 4, 5  # columns of an alignment

Variant = tuple[str, Pronunciation]


def variant_probabilities(work: Workspace) -> dict[Variant, float]:
    """Each pronunciation's count and one, over the largest of its word's: the likeliest has 1, so that a word is not
    made dear by having many (Kaldi's steps/get_prons.sh, utils/dict_dir_add_pronprobs.sh --max-normalize true).
    """
    transcripts = {cut.id: words_of(cut) for cut in read_cuts(work.manifest("train"))}
    phone_set = PhoneSet.read(work.lang / "phones.txt")
    counts = count_variants(FrameStore(work.alignment("train")), transcripts, phone_set)
    probabilities: dict[Variant, float] = {}
    for word, variants in Lexicon.read(work.lang / "lexicon.txt").entries.items():
        largest = max(counts[word, variant] + 1 for variant in variants)
        probabilities |= {(word, variant): (counts[word, variant] + 1) / largest for variant in variants}
    return probabilities


def count_variants(
    alignment: FrameStore, transcripts: Mapping[str, Sequence[str]], phone_set: PhoneSet
) -> Counter[Variant]:
    """How often each word of the aligned transcripts was said by which base phones."""
    bases = np.array([phone_set.base(phone) for phone in range(len(phone_set))])
    counts: Counter[Variant] = Counter()
    for utterance in (name for name in alignment if name in transcripts):
        rows = np.asarray(alignment[utterance])
        phone, state, word = rows[:, PHONE], rows[:, STATE], rows[:, WORD]
        begins = np.ones(len(rows), bool)
        begins[1:] = (phone[1:] != phone[:-1]) | (word[1:] != word[:-1]) | (state[1:] < state[:-1])
        begins &= word >= 0
        spoken = word[begins]
        if not len(spoken):
            continue
        firsts = np.flatnonzero(np.diff(spoken, prepend=-1))
        for number, phones in zip(spoken[firsts], np.split(bases[phone[begins]], firsts[1:]), strict=True):
            counts[transcripts[utterance][number], tuple(phones.tolist())] += 1
    return counts
