"""Usage adds up, and a server that tells nothing is another thing than one that had nothing."""

from hypothesis import given
from hypothesis import strategies as st

from duologue.core.usage import NOTHING, Account, Ledger, Part, Usage, by_part, total

COUNTS = st.integers(0, 10**9)
REQUESTS = st.builds(Usage.of, COUNTS, COUNTS, st.none() | st.integers(-5, 10**9), st.integers(0, 1000).map(float))


@given(st.lists(REQUESTS), st.lists(REQUESTS))
def test_the_usage_of_all_is_the_sum_of_the_usage_of_each_in_any_order(one: list[Usage], other: list[Usage]) -> None:
    assert total([*one, *other]) == total(one) + total(other) == total([*other, *reversed(one)])


@given(st.lists(REQUESTS))
def test_no_cache_has_more_than_was_asked_for(requests: list[Usage]) -> None:
    usage = total(requests)
    assert 0 <= usage.cached_tokens <= usage.told_tokens <= usage.prompt_tokens
    assert usage.cached_share is None or 0 <= usage.cached_share <= 1


def test_the_share_is_of_the_prompts_whose_server_tells() -> None:
    assert Usage.of(100, 5).cached_share is None
    assert Usage.of(100, 5, 0).cached_share == 0
    assert (Usage.of(100, 5) + Usage.of(50, 5, 40)).cached_share == 0.8


def test_what_is_booked_is_found_by_part_model_and_whether_it_was_wasted() -> None:
    ledger = Ledger()
    ledger.book(Part.CLIENT, "a", Usage.of(10, 1))
    ledger.book(Part.CLIENT, "a", Usage.of(20, 2))
    ledger.book(Part.CLIENT, "a", Usage.of(5, 1), wasted=True)
    ledger.book(Part.MANAGER, "a", NOTHING)
    assert ledger.accounts == {
        Account("client", "a"): Usage(30, 3),
        Account("client", "a", wasted=True): Usage(5, 1),
    }
    assert by_part(ledger.accounts.items()) == {"client": Usage(35, 4)}
