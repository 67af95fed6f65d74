"""Pauses between attempts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.bus import RetryPolicy

POLICIES = st.builds(
    RetryPolicy,
    first=st.floats(0.001, 3600),
    longest=st.floats(0.001, 86_400),
    deadline=st.floats(0.001, 604_800),
)
ATTEMPTS = st.integers(1, 10**9)
JITTERS = st.floats(0, 1)


@given(POLICIES, ATTEMPTS, JITTERS)
def test_a_pause_is_positive_and_never_longer_than_the_longest(
    policy: RetryPolicy, attempt: int, jitter: float
) -> None:
    assert 0 < policy.delay(attempt, jitter) <= policy.longest


@given(POLICIES, ATTEMPTS, JITTERS)
def test_pauses_double_until_the_longest(policy: RetryPolicy, attempt: int, jitter: float) -> None:
    assert policy.delay(1, 1.0) == min(policy.first, policy.longest)
    this, following = policy.delay(attempt, jitter), policy.delay(attempt + 1, jitter)
    assert this <= following <= 2 * this * (1 + 1e-12)
    if following < policy.delay(10**9, jitter):
        assert following == pytest.approx(2 * this)


@given(POLICIES, ATTEMPTS, JITTERS, JITTERS)
def test_jitter_spreads_a_pause_over_its_upper_half(
    policy: RetryPolicy, attempt: int, jitter: float, more: float
) -> None:
    shortest, longest = policy.delay(attempt, 0), policy.delay(attempt, 1)
    assert shortest == pytest.approx(longest / 2)
    assert shortest <= policy.delay(attempt, jitter) <= longest
    if jitter < more:
        assert policy.delay(attempt, jitter) <= policy.delay(attempt, more)
