"""Watching over a service that comes, goes and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from duologue.cli import watch
from duologue.cli.output import Failure
from duologue.cli.watch import watch_campaign
from duologue.contracts.v1 import campaign_pb2 as pb


class Unavailable(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "failed to connect to all addresses; last error: ... Connection refused"


class ScriptedCampaigns:
    """An imitation of the campaign service: each watching hears the next messages; None breaks it off.

    `waits_for`: what a training waits for, all the time.
    """

    def __init__(self, *watchings: list[pb.Campaign | None], waits_for: str = "") -> None:
        self._watchings = iter(watchings)
        self._waits_for = waits_for

    def GetCampaign(self, request: pb.GetCampaignRequest) -> pb.GetCampaignResponse:  # noqa: N802
        return pb.GetCampaignResponse(campaign=campaign())

    def WatchCampaign(self, request: pb.WatchCampaignRequest) -> Iterator[pb.WatchCampaignResponse]:  # noqa: N802
        for message in next(self._watchings, [None]):
            if message is None:
                raise Unavailable
            yield pb.WatchCampaignResponse(campaign=message, training_waits_for=self._waits_for)


def campaign(finished_at: str = "", remaining_seconds: float = 0.0, **round_: Any) -> pb.Campaign:
    state = pb.CAMPAIGN_STATE_COMPLETED if finished_at else pb.CAMPAIGN_STATE_RUNNING
    return pb.Campaign(
        id="0b0e7a52",
        name="desk",
        state=state,
        finished_at=finished_at,
        remaining_seconds=remaining_seconds,
        history=[pb.Round(**{"number": 1, "phase": pb.ROUND_PHASE_GENERATING} | round_)],
    )


OVER = campaign(finished_at="2026-11-22T21:41:21+00:00")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PAUSE_SECONDS", 0.0)


def test_a_service_that_comes_back_is_watched_on_and_its_silence_told_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    service: Any = ScriptedCampaigns([campaign(), None], [None], [None], [campaign(), None], [OVER])
    assert watch_campaign(service, "desk") == 0
    told = capsys.readouterr()
    assert told.err.count("The campaign service does not answer, waiting.") == 2
    assert "desk 0b0e7a52: completed" in told.out


def test_a_service_that_stays_away_is_given_up_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PATIENCE_SECONDS", 0.0)
    service: Any = ScriptedCampaigns([campaign()])
    with pytest.raises(Failure, match=r"The campaign service does not answer at (.|\n)* up`") as caught:
        watch_campaign(service, "desk")
    assert caught.value.status == 1


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            campaign(wanted=10, scored=4, means={"ended": 0.25}, remaining_seconds=30.0),
            "round 1: generating 4 of 10 dialogues, 25% ended, 12 a minute, about 30 s left, 0 tokens",
        ),
        (
            campaign(wanted=10, scored=10, means={"ended": 0.25}, phase=pb.ROUND_PHASE_SEALING, kept=3, dropped=1),
            "round 1: sealing 10 of 10 dialogues, 75% kept, 0 tokens",
        ),
        (
            campaign(wanted=8, scored=2, means={"ended": 0.25}, phase=pb.ROUND_PHASE_EVALUATING, remaining_seconds=6.0),
            "round 1: evaluating 2 of 8 dialogues, 60 a minute, about 6 s left, 0 tokens",
        ),
        (
            campaign(wanted=9, scored=2, lost=3, phase=pb.ROUND_PHASE_GENERATING, remaining_seconds=4.0),
            "round 1: generating 2 of 9 dialogues, 3 lost, 60 a minute, about 4 s left, 0 tokens",
        ),
    ],
    ids=["generating", "sealing", "evaluating", "lost"],
)
def test_yield_and_speed_are_told_as_far_as_they_are_known(
    message: pb.Campaign, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    service: Any = ScriptedCampaigns([message, OVER])
    watch_campaign(service, "desk")
    assert said in capsys.readouterr().out


def test_a_training_that_can_not_begin_says_what_it_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    trains = campaign(phase=pb.ROUND_PHASE_TRAINING)
    service: Any = ScriptedCampaigns([trains, OVER], waits_for="Unschedulable: 0/1 nodes [are] available")
    watch_campaign(service, "desk")
    assert "round 1: training waits: Unschedulable: 0/1 nodes [are] available" in capsys.readouterr().out


def test_a_campaign_that_is_paused_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    paused = campaign(wanted=4)
    paused.state, paused.reason = pb.CAMPAIGN_STATE_PAUSED, "round 1 stands still: see why with `duologue dlq list`"
    service: Any = ScriptedCampaigns([campaign(wanted=4), paused, paused, OVER])
    watch_campaign(service, "desk")
    assert capsys.readouterr().out.count(f"paused, {paused.reason}\n") == 1
