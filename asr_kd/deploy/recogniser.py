"""From normalised frames to words: network, search, times."""

from dataclasses import dataclass

import numpy as np

from asr_kd.deploy.bundle import Bundle
from asr_kd.deploy.network import Network
from asr_kd.deploy.search import BestPath, SearchGraph
from asr_kd.deploy.words import MARK, Word, divide, joined, timed_words
from asr_kd.errors import UserError


@dataclass(frozen=True)
class Recogniser:
    """A loaded bundle; after a fork all processes share the graph."""

    bundle: Bundle
    network: Network
    graph: SearchGraph

    @staticmethod
    def load(bundle: Bundle, int8: bool = False) -> "Recogniser":
        return Recogniser(bundle, bundle.network(int8), bundle.graph())

    def scores(self, log_post: np.ndarray) -> np.ndarray:
        """(T, num_pdfs) log posteriors to float32 log-likelihoods up to a constant a frame."""
        return log_post - (self.bundle.prior_scale * self.bundle.states.log_prior).astype(np.float32)

    def recognise(self, frames: np.ndarray) -> list[Word]:
        """The words of an utterance's normalised (T, dim) frames, times from its beginning."""
        log_post = self.network.log_posteriors(frames)
        search = self.graph.start()
        search.advance(self.scores(log_post))
        return self.timed(search.best_path(), self.bundle.states.phone_posteriors(log_post))

    def timed(self, path: BestPath, phone_posteriors: np.ndarray) -> list[Word]:
        """A path's words with times and confidences; (T, phones) phone_posteriors of its frames."""
        bundle = self.bundle
        symbols = [bundle.words[word] for word in path.words]
        try:
            spans = divide(bundle.states.runs(path.pdfs)[0], symbols, bundle.pronunciations, path.complete)
        except (KeyError, ValueError) as error:
            raise UserError(f"{bundle.root}: lexicon and graph do not belong together ({error})") from None
        words = timed_words(symbols, spans, path.pdfs, bundle.states, phone_posteriors)
        return joined(words) if bundle.has_pieces else words

    def text(self, path: BestPath) -> str:
        """A path's words without times."""
        symbols = [self.bundle.words[word] for word in path.words]
        return "".join(symbols).replace(MARK, " ").strip() if self.bundle.has_pieces else " ".join(symbols)
