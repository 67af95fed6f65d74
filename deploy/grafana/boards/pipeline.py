"""Pipeline: what travels on the topics, what waits, what went wrong."""

from __future__ import annotations

from boards.board import HERE, Dashboard, Panel, Query

_DONE = f'rate(duologue_records_total{{{HERE},outcome="done"}}[$__rate_interval])'
_RETRIED = f'rate(duologue_records_total{{{HERE},outcome="retried"}}[$__rate_interval])'
_BUCKETS = f"sum by (le, topic, group) (rate(duologue_record_seconds_bucket{{{HERE}}}[$__rate_interval]))"
_NAME = "{{topic}} {{group}}"

PIPELINE = Dashboard(
    "pipeline",
    "Duologue / Pipeline",
    "Records on the topics: how many, how far behind, how long they take, what failed.",
    (
        Panel(
            "Records that ended well",
            "Share that was not a dead letter, of each group. The objective is 99.9%.",
            "percentunit",
            [
                Query(
                    f'1 - sum by (group) (increase(duologue_records_total{{{HERE},outcome="dead"}}[$__range])) '
                    f'/ sum by (group) (increase(duologue_records_total{{{HERE},outcome!="lease_lost"}}[$__range]))',
                    "{{group}}",
                )
            ],
            kind="bargauge",
            decimals=2,
            top=1,
        ),
        Panel(
            "Dead letters",
            "Records that were put aside for good in the time that is shown: `duologue dlq list` has the reasons.",
            "short",
            [
                Query(
                    f'sum by (topic, group) (increase(duologue_records_total{{{HERE},outcome="dead"}}[$__range]))',
                    _NAME,
                )
            ],
            kind="bargauge",
            decimals=0,
            bad=1,
        ),
        Panel(
            "Consumers stopped, leaders",
            "1: a consumer left its group because of too many dead letters. Below, whether a copy leads in each role.",
            "short",
            [
                Query(f"max by (group) (duologue_consumer_stopped{{{HERE}}})", "{{group}} stopped"),
                Query(f"max by (role) (duologue_leader{{{HERE}}})", "{{role}} is led"),
            ],
            kind="bargauge",
            decimals=0,
            top=1,
        ),
        Panel(
            "Records done",
            "Handled to the end, by topic and group.",
            "ops",
            [Query(f"sum by (topic, group) ({_DONE})", _NAME)],
            width=12,
        ),
        Panel(
            "Lag",
            "Records that a group has not committed, and those that wait for another try. A campaign asks for no more "
            "than its `concurrency` at once, so the lag of requests is bounded by that. On Kafka a few count that are "
            "none.",
            "short",
            [
                Query(f'sum by (topic, group) (duologue_consumer_lag_records{{{HERE},topic!~".*[.]retry"}})', _NAME),
                Query(
                    f'sum by (group) (duologue_consumer_lag_records{{{HERE},topic=~".*[.]retry"}})',
                    "{{group}} to be tried again",
                ),
            ],
            width=12,
            decimals=0,
        ),
        Panel(
            "In work",
            "Records being handled. Role-play: dialogues being played.",
            "short",
            [Query(f"sum by (topic, group) (duologue_records_in_flight{{{HERE}}})", _NAME)],
            width=12,
            decimals=0,
        ),
        Panel(
            "Retried",
            "Put aside to be tried again after a pause, as when a model server is full.",
            "ops",
            [Query(f"sum by (topic, group) ({_RETRIED})", _NAME)],
            width=12,
        ),
        Panel(
            "Time to handle a record, median",
            "Of role-play: to play a dialogue. Of training: to train an adapter.",
            "s",
            [Query(f"histogram_quantile(0.5, {_BUCKETS})", _NAME)],
            width=12,
        ),
        Panel(
            "Time to handle a record, 95th percentile",
            "One in twenty takes longer.",
            "s",
            [Query(f"histogram_quantile(0.95, {_BUCKETS})", _NAME)],
            width=12,
        ),
        Panel(
            "Asked again",
            "Times that a campaign asked again for what is out since anything came back. Above 0 it stands still.",
            "short",
            [Query(f"max by (agent, phase) (duologue_campaign_reissues{{{HERE}}})", "{{agent}} {{phase}}")],
            width=12,
            decimals=0,
        ),
        Panel(
            "Overtaken by retention",
            "Records that Kafka deleted before a group had read them. Campaigns ask for what they miss again.",
            "short",
            [
                Query(
                    f"sum(increase(duologue_records_overtaken_total{{{HERE}}}[$__rate_interval])) or vector(0)",
                    "records",
                )
            ],
            width=12,
            decimals=0,
        ),
    ),
)
