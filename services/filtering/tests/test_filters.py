"""Which dialogues are kept, and what is said of the others."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.core.campaign import AtLeastFilter, AtMostFilter, EndedFilter, Filter, RandomFilter, TopFilter
from duologue.core.problems import InvalidInput
from duologue_filtering.filters import KEPT, Decision, decide, dropped_by, parse_filters
from tests.support.desk import scores


def candidates(**metrics: list[Any]) -> dict[str, dict[str, object]]:
    """Candidates a, b, c, ... with the given metrics, one value each."""
    count = len(next(iter(metrics.values())))
    measured = [scores(**{name: values[index] for name, values in metrics.items()}) for index in range(count)]
    return {chr(ord("a") + index): item.as_dict() for index, item in enumerate(measured)}


def kept(decisions: dict[str, Decision]) -> str:
    return "".join(name for name, decision in decisions.items() if decision.kept)


@pytest.mark.parametrize(
    ("rule", "found", "left", "reasons"),
    [
        (
            AtLeastFilter(kind="at_least", metric="subgoals_absolute", value=4),
            candidates(subgoals_absolute=[3, 4, 5]),
            "bc",
            {"a": "subgoals_absolute is 3, at_least asks for 4"},
        ),
        (
            AtMostFilter(kind="at_most", metric="role_leaks", value=0),
            candidates(role_leaks=[0, 1, 2]),
            "a",
            {"b": "role_leaks is 1, at_most asks for 0", "c": "role_leaks is 2, at_most asks for 0"},
        ),
        (
            AtLeastFilter(kind="at_least", metric="success", value=1),
            candidates(success=[True, False]),
            "a",
            {"b": "success is 0, at_least asks for 1"},
        ),
        (
            AtLeastFilter(kind="at_least", metric="character_agent", value=0.5),
            candidates(character_agent=[0.5, None, 0.499]),
            "a",
            {"b": "character_agent was not measured", "c": "character_agent is 0.499, at_least asks for 0.5"},
        ),
        (EndedFilter(kind="ended"), candidates(ended=[True, False]), "a", {"b": "did not reach an ending"}),
        (
            TopFilter(kind="top", metric="subgoals_relative", share=0.5),
            candidates(subgoals_relative=[0.1, 0.9, 0.5, 0.5]),
            "bc",
            {
                "a": "subgoals_relative is 0.1, the top 50% ends at 0.5",
                "d": "subgoals_relative is 0.5, the top 50% ends at 0.5 and is full: of equals it has the lowest ids",
            },
        ),
        (
            TopFilter(kind="top", metric="character_client", share=1),
            candidates(character_client=[0.2, None]),
            "a",
            {"b": "character_client was not measured"},
        ),
        (TopFilter(kind="top", share=0.01), candidates(subgoals_relative=[0.5]), "a", {}),
    ],
)
def test_a_filter_drops_what_it_should_and_says_why(
    rule: Filter, found: dict[str, Any], left: str, reasons: dict[str, str]
) -> None:
    decisions = decide(found, [rule], seed=1)
    assert kept(decisions) == left
    assert {name: decision.reason for name, decision in decisions.items() if not decision.kept} == reasons
    assert {decision.dropped_by for decision in decisions.values() if not decision.kept} <= {rule.kind}


def test_without_filters_all_are_kept() -> None:
    assert decide(candidates(words=[1, 2]), [], seed=0) == {"a": KEPT, "b": KEPT}


def test_nothing_of_nothing_is_kept() -> None:
    assert decide({}, [TopFilter(kind="top", share=0.5), RandomFilter(kind="random", share=0.5)], seed=0) == {}


def test_a_random_share_depends_on_the_seed_alone() -> None:
    found = {f"d{number}": scores().as_dict() for number in range(40)}
    rule = RandomFilter(kind="random", share=0.25)
    draws = {seed: kept(decide(found, [rule], seed)) for seed in range(5)}
    assert draws == {seed: kept(decide(found, [rule], seed)) for seed in range(5)}
    assert len(set(draws.values())) == 5
    (reason,) = {decision.reason for decision in decide(found, [rule], 0).values() if not decision.kept}
    assert reason == "not in the random 25%"


def test_a_random_share_favours_nobody() -> None:
    found = {f"d{number}": scores().as_dict() for number in range(10)}
    counts = dict.fromkeys(found, 0)
    for seed in range(400):
        for name, decision in decide(found, [RandomFilter(kind="random", share=0.5)], seed).items():
            counts[name] += decision.kept
    assert all(140 < count < 260 for count in counts.values())  # six standard deviations


def test_a_share_is_of_what_the_filters_before_left() -> None:
    found = candidates(ended=[True] * 4 + [False] * 6, subgoals_relative=[number / 10 for number in range(10)])
    decisions = decide(found, [EndedFilter(kind="ended"), TopFilter(kind="top", share=0.5)], seed=0)
    assert kept(decisions) == "cd"
    assert dropped_by(decisions) == {"ended": 6, "top": 2}


@pytest.mark.parametrize(("share", "of", "left"), [(0.1, 30, 3), (0.3, 10, 3), (0.05, 20, 1), (0.05, 21, 2), (1, 7, 7)])
def test_a_share_is_rounded_up_and_binary_fractions_do_not_matter(share: float, of: int, left: int) -> None:
    found = {f"d{number:02}": scores().as_dict() for number in range(of)}
    for rule in (RandomFilter(kind="random", share=share), TopFilter(kind="top", share=share)):
        assert sum(decision.kept for decision in decide(found, [rule], seed=3).values()) == left


RULES = st.lists(
    st.one_of(
        st.builds(RandomFilter, kind=st.just("random"), share=st.floats(0.01, 1)),
        st.builds(
            TopFilter,
            kind=st.just("top"),
            metric=st.sampled_from(["subgoals_relative", "character_agent", "ended"]),
            share=st.floats(0.01, 1),
        ),
        st.builds(
            AtLeastFilter,
            kind=st.just("at_least"),
            metric=st.sampled_from(["words", "character_agent"]),
            value=st.floats(0, 1),
        ),
        st.builds(AtMostFilter, kind=st.just("at_most"), metric=st.just("role_leaks"), value=st.floats(0, 2)),
        st.just(EndedFilter(kind="ended")),
    ),
    max_size=4,
)
FOUND = st.lists(
    st.builds(
        scores,
        subgoals_relative=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        character_agent=st.none() | st.floats(0, 1) | st.just(math.nan),
        ended=st.booleans(),
        role_leaks=st.integers(0, 2),
        words=st.integers(0, 2),
    ),
    max_size=12,
).map(lambda found: {f"id-{number * 7 % 13}": item.as_dict() for number, item in enumerate(found)})


@settings(deadline=None)
@given(found=FOUND, rules=RULES, seed=st.integers(0, 9), order=st.randoms(use_true_random=False))
def test_the_order_of_candidates_never_matters(
    found: dict[str, Any], rules: list[Filter], seed: int, order: random.Random
) -> None:
    shuffled = list(found.items())
    order.shuffle(shuffled)
    assert decide(dict(shuffled), rules, seed) == decide(found, rules, seed)


@settings(deadline=None)
@given(found=FOUND, rules=RULES, seed=st.integers(0, 9))
def test_every_candidate_is_kept_or_dropped_by_one_filter_for_a_reason(
    found: dict[str, Any], rules: list[Filter], seed: int
) -> None:
    decisions = decide(found, rules, seed)
    assert set(decisions) == set(found)
    assert sum(dropped_by(decisions).values()) + len(kept_of(decisions)) == len(found)
    for decision in decisions.values():
        assert bool(decision.reason) is not decision.kept
        assert (decision.dropped_by in {rule.kind for rule in rules}) is not decision.kept


@settings(deadline=None)
@given(found=FOUND, rules=RULES, seed=st.integers(0, 9))
def test_one_more_filter_never_brings_anything_back(found: dict[str, Any], rules: list[Filter], seed: int) -> None:
    for count in range(len(rules)):
        before, after = decide(found, rules[:count], seed), decide(found, rules[: count + 1], seed)
        assert kept_of(after) <= kept_of(before)
        for name in set(found) - kept_of(before):
            assert after[name] == before[name]


def kept_of(decisions: dict[str, Decision]) -> set[str]:
    return {name for name, decision in decisions.items() if decision.kept}


def test_filters_travel_as_json() -> None:
    rules = (EndedFilter(kind="ended"), TopFilter(kind="top", share=0.3), RandomFilter(kind="random", share=0.5))
    assert parse_filters(json.dumps([rule.model_dump() for rule in rules])) == rules
    assert parse_filters("") == parse_filters("[]") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Invalid JSON"),
        ("{}", "filters: the list: Input should be a valid array"),
        ('[{"kind": "best"}]', "best"),
        ('[{"kind": "top", "share": 0}]', r"filters: 0\.top\.share: Input should be greater than 0"),
        ('[{"kind": "at_least", "metric": "beauty", "value": 1}]', "subgoals_absolute"),
        ('[{"kind": "ended", "value": 1}]', "Extra inputs"),
    ],
)
def test_a_wrong_filter_is_refused_with_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse_filters(text)
