"""The embedded corpus: requests of the grammar, said by eSpeak NG in noisy rooms, with the true times of their words.

A speaker is a voice variant with a pitch and a rate; no variant is in two splits. Each speaker is made in a process
of its own, because eSpeak's samples depend on what the process said before: so the corpus depends on the seed alone,
not on the number of processes.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
from lhotse.supervision import AlignmentItem
from scipy.signal import resample_poly

from asr_kd.corpora import acoustics
from asr_kd.corpora.espeak import espeak
from asr_kd.corpora.grammar import sentences
from asr_kd.corpora.utterance import Utterance
from asr_kd.errors import UserError
from asr_kd.files import atomic_path
from asr_kd.interruption import become_worker
from asr_kd.recipe import Corpus, Embedded

# eSpeak's variants but for whispers, robots, echoes and the like; near twins are in the same split.
_VARIANTS = {
    "train": """Alex Andy AnxiousAndy Annie Alicia Andrea Denis Diogo Henrique Hugo miguel michel anika Jacky Lee
        Marco Mario Michael gustave marcelo Mike mike2 Nguyen Reed adam antonio benjamin boris croak david
        ed f1 f4 aunty grandma grandpa victor ian iven iven2 iven3 iven4 john klatt klatt2 klatt3 klatt4
        klatt5 klatt6 m1 m3 m4 m5 max norbert pablo sandro shelby travis Tweaky""",
    "dev": "f2 m2 m6 steph steph2 steph3 Gene Gene2",
    "test": "f3 f5 linda belinda m7 m8 paul pedro quincy rob robert edward edward2",
}
VARIANTS = {split: tuple(names.split()) for split, names in _VARIANTS.items()}
PITCHES, WORDS_PER_MINUTE = (30, 75), (140, 210)
PAUSE_PROBABILITY = 0.5
MARGIN_SECONDS = (0.15, 0.4)
DIRECT_TO_REVERBERANT_DB = (0.0, 12.0)
NOISE_SLOPE = (0.0, 2.0)
BABBLERS, BABBLE_SENTENCES = 4, 3

# The purpose of a random stream, the second number of its seed.
PROMPTS, SPEAKERS, SPEECH, LM_TEXT = range(4)


@dataclass(frozen=True)
class Speaker:
    """pitch: eSpeak's 0–100; rate: words per minute."""

    name: str
    variant: str
    pitch: int
    rate: int


@dataclass(frozen=True)
class Task:
    """Everything that determines one speaker's recordings."""

    split: str
    number: int
    speaker: Speaker
    babblers: tuple[Speaker, ...]
    prompts: tuple[str, ...]


def generate(
    corpus: Corpus, seed: int, folder: Path, jobs: int, progress: Callable[..., Iterator[list[Utterance]]]
) -> dict[str, list[Utterance]]:
    """Write the corpus's recordings as `folder`/SPLIT/UTTERANCE.flac; utterances by split, with their words' times."""
    tasks = plan(corpus.embedded, seed)
    record = partial(record_speaker, corpus=corpus, seed=seed, folder=folder)
    splits: dict[str, list[Utterance]] = {split: [] for split in VARIANTS}
    multiprocessing.set_forkserver_preload([__name__])
    pool = ThreadPoolExecutor(jobs)
    try:
        made = pool.map(partial(_in_fresh_process, record), tasks)
        for task, utterances in zip(tasks, progress(made, "speakers of the embedded corpus", len(tasks)), strict=True):
            splits[task.split] += utterances
    finally:
        pool.shutdown(cancel_futures=True)  # or an interrupted run would first make the others
    return splits


def lm_sentences(sizes: Embedded, seed: int) -> list[str]:
    """Text for the language model: drawn from the grammar independently of what the speakers say."""
    drawn = sentences(np.random.default_rng([seed, LM_TEXT]))
    return [text.replace(",", "") for text in islice(drawn, sizes.lm_sentences)]


def plan(sizes: Embedded, seed: int) -> list[Task]:
    """One task a speaker; no sentence is said twice in the corpus.

    Raises UserError when a split has fewer utterances than speakers.
    """
    speakers = {
        "train": draw_speakers("train", sizes.train_speakers, seed),
        "dev": draw_speakers("dev", sizes.dev_speakers, seed),
        "test": draw_speakers("test", sizes.test_speakers, seed),
    }
    counts = {"train": sizes.train_utterances, "dev": sizes.dev_utterances, "test": sizes.test_utterances}
    drawn = _distinct(sentences(np.random.default_rng([seed, PROMPTS])))
    tasks = []
    for split, members in speakers.items():
        if counts[split] < len(members):
            raise UserError(
                f"corpus.embedded.{split}_utterances: {counts[split]} is less than one for each of "
                f"{len(members)} speakers; raise it or lower corpus.embedded.{split}_speakers"
            )
        prompts = list(islice(drawn, counts[split]))
        for number, speaker in enumerate(members):
            others = [members[(number + step) % len(members)] for step in range(1, BABBLERS + 1)]
            babblers = tuple(other for other in others if other is not speaker)
            tasks.append(Task(split, number, speaker, babblers, tuple(prompts[number :: len(members)])))
    return tasks


def draw_speakers(split: str, count: int, seed: int) -> list[Speaker]:
    """`count` speakers of a split: its variants in turn, each time with a new pitch and rate."""
    generator = np.random.default_rng([seed, SPEAKERS, list(VARIANTS).index(split)])
    speakers = []
    for number, variant in enumerate(islice(cycle(VARIANTS[split]), count)):
        pitch, rate = (int(generator.integers(low, high + 1)) for low, high in (PITCHES, WORDS_PER_MINUTE))
        speakers.append(Speaker(f"{split}{number:03d}-{variant.lower()}", variant, pitch, rate))
    return speakers


def record_speaker(task: Task, corpus: Corpus, seed: int, folder: Path) -> list[Utterance]:
    """Say, place in a room and write the prompts of one speaker. To be run in a fresh process."""
    generator = np.random.default_rng([seed, SPEECH, list(VARIANTS).index(task.split), task.number])
    background = sentences(generator)
    voices = [
        np.concatenate([_say(next(background), babbler, corpus.sample_rate)[0] for _ in range(BABBLE_SENTENCES)])
        for babbler in task.babblers
    ]
    utterances = []
    for index, prompt in enumerate(task.prompts):
        text = _draw_pauses(prompt, generator)
        speech, times = _say(text, task.speaker, corpus.sample_rate)
        before, after = generator.uniform(*MARGIN_SECONDS, size=2)
        margins = (round(before * corpus.sample_rate), round(after * corpus.sample_rate))
        samples = _place_in_room(np.pad(speech, margins), voices, corpus, generator)
        plain, name = text.replace(",", ""), f"{task.speaker.name}-{index:04d}"
        path = folder / task.split / f"{name}.flac"
        with atomic_path(path, durable=False) as temporary:  # checksums tell whether they all were
            soundfile.write(temporary, samples, corpus.sample_rate, subtype="PCM_16", format="FLAC")
        offset = margins[0] / corpus.sample_rate
        words = [
            AlignmentItem(symbol=word, start=round(start + offset, 4), duration=round(end - start, 4))
            for word, (start, end) in zip(plain.split(), times, strict=True)
        ]
        utterances.append(Utterance(name, task.speaker.name, plain, str(path), name, words=tuple(words)))
    return utterances


def _in_fresh_process(record: Callable[[Task], list[Utterance]], task: Task) -> list[Utterance]:
    """Run in a process where eSpeak has said nothing yet; a plain fork is the quicker way where that holds here."""
    context = multiprocessing.get_context("forkserver" if espeak.cache_info().currsize else "fork")
    with ProcessPoolExecutor(1, mp_context=context, initializer=become_worker) as process:
        return process.submit(record, task).result()


def _place_in_room(
    speech: np.ndarray, voices: list[np.ndarray], corpus: Corpus, generator: np.random.Generator
) -> np.ndarray:
    sizes, rate = corpus.embedded, corpus.sample_rate
    reverberation = generator.uniform(*sizes.reverberation_s)
    direct = generator.uniform(*DIRECT_TO_REVERBERANT_DB)
    wet = acoustics.reverberate(speech, acoustics.impulse_response(generator, reverberation, direct, rate))
    noise = acoustics.coloured_noise(generator, len(wet), generator.uniform(*NOISE_SLOPE))
    share = generator.uniform() if voices else 0.0
    babble = acoustics.babble(generator, voices, len(wet))
    noise = acoustics.scale_to_power(noise, 1 - share) + acoustics.scale_to_power(babble, share)
    return acoustics.mix(wet, noise, generator.uniform(*sizes.snr_db))


def _say(text: str, speaker: Speaker, rate: int) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Samples at `rate`, float64 (samples,), and start and end in seconds of each word."""
    speech = espeak().synthesise(text.split(), f"en-us+{speaker.variant}", speaker.pitch, speaker.rate)
    if speech.words is None:
        raise RuntimeError(f"eSpeak NG joined or split words of the grammar's sentence '{text}'")
    divisor = gcd(rate, speech.rate)
    samples = resample_poly(speech.samples.astype(np.float64), rate // divisor, speech.rate // divisor)
    return samples, [(start / speech.rate, end / speech.rate) for start, end in speech.words]


def _draw_pauses(prompt: str, generator: np.random.Generator) -> str:
    """The prompt with each of its commas kept at chance."""
    words = prompt.split()
    kept = generator.uniform(size=len(words)) < PAUSE_PROBABILITY
    return " ".join(word if keep else word.rstrip(",") for word, keep in zip(words, kept, strict=True))


def _distinct(texts: Iterator[str]) -> Iterator[str]:
    seen: set[str] = set()
    for text in texts:
        if text not in seen:
            seen.add(text)
            yield text
