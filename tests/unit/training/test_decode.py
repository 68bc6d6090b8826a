"""The reference search against exhaustive search and hand-made models, with no network at all."""

import itertools
import math
from dataclasses import dataclass, replace
from typing import Self

import pytest
import torch
from torch import Tensor

from training.decode import DecodeOptions, best_candidates, greedy_batch, repeated_ngram_ends, translate
from training.models.build import build_model
from training.models.contract import TranslationModel, Vocabulary
from training.models.rnn import RnnSettings
from training.models.transformer import TransformerSettings

VOCABULARY = Vocabulary(source_size=8, target_size=8)
EOS, A, B, C, D = 3, 4, 5, 6, 7


@dataclass(frozen=True)
class Histories:
    tokens: tuple[tuple[int, ...], ...]

    def select(self, rows: Tensor) -> Self:
        return type(self)(tuple(self.tokens[i] for i in rows.tolist()))


class ScriptedModel(TranslationModel[Histories]):
    """Logits are a fixed pseudo-random function of the target so far, or looked up in a script."""

    def __init__(self, script: dict[tuple[int, ...], dict[int, float]] | None = None) -> None:
        super().__init__()
        self.vocabulary, self.script = VOCABULARY, script
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def logits(self, history: tuple[int, ...]) -> Tensor:
        if self.script is None:
            generator = torch.Generator().manual_seed(1000 + hash(history) % 10**6)
            return 2.0 * torch.randn(8, generator=generator)
        probabilities = torch.full((8,), 1e-6)
        for token, p in self.script[history].items():
            probabilities[token] = p
        return probabilities.log()

    def hidden(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def project_vocab(self, hidden: Tensor) -> Tensor:
        raise NotImplementedError

    def attention(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def encode(self, source: Tensor, lengths: Tensor) -> Histories:
        return Histories(((),) * len(source))

    def decode_step(self, tokens: Tensor, state: Histories) -> tuple[Tensor, Histories]:
        grown = tuple((*h, t) for h, t in zip(state.tokens, tokens.tolist(), strict=True))
        return torch.stack([self.logits(h[1:]) for h in grown]), Histories(grown)


def exhaustive(model: ScriptedModel, length: int, alpha: float) -> list[tuple[float, tuple[int, ...]]]:
    """Every finished translation of at most `length` tokens with its score, best first."""
    found = []
    for size in range(length + 1):
        for tokens in itertools.product((A, B, C, D), repeat=size):
            total = 0.0
            for i, token in enumerate((*tokens, EOS)):
                total += float(model.logits(tokens[:i]).log_softmax(0)[token])
            found.append((total / (size + 1) ** alpha, tokens))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_wide_beam_finds_what_exhaustive_search_finds(alpha: float) -> None:
    model = ScriptedModel()
    # 4 + 16 + 64 live prefixes fit a beam of 100, so nothing is ever pruned; 85 translations exist.
    options = DecodeOptions(beam_size=100, n_best=100, length_penalty=alpha, max_length=3)
    hypotheses = [h for h in translate(model, [[5]], options)[0] if h.finished]
    expected = [e for e in exhaustive(model, 3, alpha) if len(e[1]) < 3]
    found = {h.tokens: h.score for h in hypotheses}
    for score, tokens in expected:
        assert found[tokens] == pytest.approx(score, abs=1e-5)
    assert [h.tokens for h in hypotheses if len(h.tokens) < 3] == [tokens for _, tokens in expected]


def test_beam_sees_past_a_greedy_mistake() -> None:
    end = {EOS: 1.0}
    model = ScriptedModel({(): {A: 0.6, B: 0.4}, (A,): {C: 0.5, D: 0.5}, (B,): end, (A, C): end, (A, D): end})
    greedy = translate(model, [[5]], DecodeOptions(max_length=5, length_penalty=0.0))[0][0]
    assert greedy.tokens == (A, C)  # the tie of C and D goes to the lower id
    assert greedy.score == pytest.approx(math.log(0.3), abs=1e-4)
    best, second = translate(model, [[5]], DecodeOptions(beam_size=2, n_best=2, max_length=5, length_penalty=0.0))[0]
    assert best.tokens == (B,)
    assert best.log_probs == pytest.approx((math.log(0.4), 0.0), abs=1e-4)
    assert second.score == pytest.approx(math.log(0.3), abs=1e-4)


def test_eos_ranked_below_the_beam_is_dropped() -> None:
    model = ScriptedModel({(): {A: 0.6, EOS: 0.4}, (A,): {EOS: 0.9, B: 0.1}, (A, B): {EOS: 1.0}})
    found = translate(model, [[5]], DecodeOptions(max_length=5))[0]
    assert [h.tokens for h in found] == [(A,)]


def test_length_limit_gives_unfinished_hypotheses() -> None:
    model = ScriptedModel({(): {A: 0.9, EOS: 0.1}, (A,): {A: 0.9, EOS: 0.1}, (A, A): {A: 1.0}})
    found = translate(model, [[5]], DecodeOptions(max_length=2, length_penalty=0.5))[0][0]
    assert (found.tokens, found.finished) == ((A, A), False)
    assert found.score == pytest.approx(2 * math.log(0.9) / 2**0.5, abs=1e-4)


def test_min_length_prefix_and_suppressed_tokens() -> None:
    model = ScriptedModel()
    plain = DecodeOptions(beam_size=3, n_best=3, max_length=6)
    for hypothesis in translate(model, [[5]], replace(plain, min_length=4))[0]:
        assert len(hypothesis.tokens) >= 4
    for hypothesis in translate(model, [[5]], replace(plain, prefix=(C, C)))[0]:
        assert hypothesis.tokens[:2] == (C, C)
        assert hypothesis.log_probs[0] == pytest.approx(float(model.logits(()).log_softmax(0)[C]), abs=1e-6)
        assert hypothesis.log_probs[1] == pytest.approx(float(model.logits((C,)).log_softmax(0)[C]), abs=1e-6)
    always_bos = ScriptedModel({(): {2: 0.9, A: 0.1}, (A,): {0: 0.9, EOS: 0.1}})
    assert translate(always_bos, [[5]], DecodeOptions(max_length=4))[0][0].tokens == (A,)


def test_repetition_penalty_multiplies_log_probs_of_generated_tokens() -> None:
    model = ScriptedModel({(): {A: 1.0}, (A,): {A: 0.5, B: 0.4, EOS: 0.1}, (A, B): {EOS: 1.0}})
    # log 0.5 x 2 = log 0.25 < log 0.4
    found = translate(model, [[5]], DecodeOptions(max_length=5, repetition_penalty=2.0))[0][0]
    assert found.tokens == (A, B)


def test_no_ngram_is_generated_twice() -> None:
    assert repeated_ngram_ends([4, 5, 4], 2) == {5}
    assert repeated_ngram_ends([4, 5, 4], 1) == {4, 5}
    assert repeated_ngram_ends([4, 5, 6, 4, 5], 3) == {6}
    assert repeated_ngram_ends([4], 2) == set()
    assert repeated_ngram_ends([4, 4], 2) == {4}
    assert repeated_ngram_ends([4, 4], 0) == set()
    options = DecodeOptions(beam_size=4, n_best=4, max_length=12, min_length=8, no_repeat_ngram_size=2)
    for hypothesis in translate(ScriptedModel(), [[5]], options)[0]:
        pairs = list(itertools.pairwise(hypothesis.tokens))
        assert len(pairs) == len(set(pairs))


def test_ties_go_to_the_lower_index_and_minus_infinity_is_no_candidate() -> None:
    scores = torch.tensor([1.0, 3.0, 2.0, 3.0, 2.0, -torch.inf])
    assert best_candidates(scores, 3) == [1, 3, 2]
    assert best_candidates(scores, 6) == [1, 3, 2, 4, 0]


@pytest.mark.parametrize(
    "settings",
    [
        TransformerSettings(dim=16, heads=2, feedforward_dim=16, encoder_layers=1, decoder_layers=1),
        RnnSettings(embedding_dim=8, hidden_dim=12),
    ],
)
def test_batched_greedy_equals_beam_of_one(settings: TransformerSettings | RnnSettings) -> None:
    torch.manual_seed(5)
    vocabulary = Vocabulary(source_size=12, target_size=12)
    model = build_model(settings, vocabulary).eval()
    assert isinstance(model, TranslationModel)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    sources = [[5, 6, 7, 8], [9], [], [11, 10, 4, 4, 4, 5]]
    for reverse in (False, True):
        single = translate(model, sources, DecodeOptions(max_length=15), reverse_source=reverse)
        batched = greedy_batch(model, sources, max_length=15, reverse_source=reverse)
        assert batched == [list(best.tokens) for [best] in single]
