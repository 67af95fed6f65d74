"""Tokens, n-grams, ROUGE-L and diversity equal the package rouge_score and a slow reference to 1e-9."""

from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rouge_score import rouge_scorer, tokenizers

from duologue.core.text import Vocabulary, diversity, f_measure, ngrams, rouge_l, tokenize

SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
TOKENIZER = tokenizers.DefaultTokenizer(use_stemmer=False)
# Few words, so that texts have much in common; and anything at all.
WORDS = st.lists(
    st.sampled_from(["the", "The", "order", "number", "is", "is,", "42", "naïve", "İt", "\u212a", "_", "a-b"])
)
TEXTS = WORDS.map(" ".join) | st.text()


def reference_rouge_l(left: str, right: str) -> float:
    return float(SCORER.score(left, right)["rougeL"].fmeasure)


def encoded_rouge_l(left: str, right: str) -> float:
    vocabulary = Vocabulary()
    return rouge_l(vocabulary.encode(left), vocabulary.encode(right))


@given(TEXTS)
@example("İstanbul KELVIN \u212a \u017ftraße ﬁ ½ ² ٣ \u00a0 \u2028 \x1c \x85")
@example("")
def test_tokens_are_those_of_rouge_score(text: str) -> None:
    assert tokenize(text) == TOKENIZER.tokenize(text)


@given(TEXTS, TEXTS)
@example("", "")
@example("", "the")
@example("the order the", "order the order")
def test_rouge_l_is_that_of_rouge_score_and_symmetric(left: str, right: str) -> None:
    assert encoded_rouge_l(left, right) == pytest.approx(reference_rouge_l(left, right), abs=1e-9)
    assert encoded_rouge_l(left, right) == encoded_rouge_l(right, left)


@given(TEXTS)
def test_a_text_is_like_itself_unless_it_says_nothing(text: str) -> None:
    assert encoded_rouge_l(text, text) == (1.0 if tokenize(text) else 0.0)


def test_rouge_l_of_long_texts_is_that_of_rouge_score() -> None:
    # Longer than a machine word, where bit-parallel code goes from one block to the next.
    left = " ".join(f"w{number * number % 97}" for number in range(300))
    right = " ".join(f"w{number * 7 % 89}" for number in range(260))
    assert encoded_rouge_l(left, right) == pytest.approx(reference_rouge_l(left, right), abs=1e-9)


@given(st.lists(TEXTS, max_size=6))
def test_diversity_is_one_less_the_mean_over_all_pairs(texts: list[str]) -> None:
    pairs = [reference_rouge_l(left, right) for left, right in combinations(texts, 2)]
    expected = 1 - sum(pairs) / len(pairs) if pairs else 1.0
    assert diversity(texts) == pytest.approx(expected, abs=1e-9)
    assert 0 <= diversity(texts) <= 1


def test_equal_texts_have_no_diversity_and_strange_ones_all() -> None:
    assert diversity(["one two three"] * 5) == 0
    assert diversity(["one two", "three four", "five six"]) == 1


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 6))
def test_ngrams_are_all_windows_of_every_length(tokens: Sequence[str], longest: int) -> None:
    windows = [
        tuple(tokens[first:end])
        for first in range(len(tokens))
        for end in range(first + 1, len(tokens) + 1)
        if end - first <= longest
    ]
    assert sorted(ngrams(tokens, longest)) == sorted(windows)


def test_more_words_than_fit_below_the_surrogates_keep_their_own_characters() -> None:
    words = [f"w{number}" for number in range(70_000)]
    encoded = Vocabulary().encode(" ".join(words))
    assert len(set(encoded)) == len(words)
    assert encoded.encode().decode() == encoded


def test_a_vocabulary_remembers_its_words() -> None:
    vocabulary = Vocabulary()
    first = vocabulary.encode("yes no yes")
    assert vocabulary.encode("no maybe yes") == first[1] + vocabulary.encode("maybe") + first[0]
    assert first[0] == first[2] != first[1]


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_an_f_measure_lies_between_precision_and_recall(common: int, more_left: int, more_right: int) -> None:
    left, right = common + more_left, common + more_right
    value = f_measure(common, left, right)
    if common:
        assert min(common / left, common / right) - 1e-12 <= value <= max(common / left, common / right) + 1e-12
    else:
        assert value == 0
