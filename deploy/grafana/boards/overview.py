"""Overview: does it yield, what does it cost, does it get on."""

from __future__ import annotations

from boards.board import AGENT, HERE, OF_AGENT, Dashboard, Panel, Query, Variable

_KEPT = f'sum(increase(duologue_dialogues_filtered_total{{{HERE},decision="kept"}}[$__range]))'
_DECIDED = f"sum(increase(duologue_dialogues_filtered_total{{{HERE}}}[$__range]))"
# Servers are seen by several services, so each counts once; it is in use while any request is under way.
_GPU_HOURS = (
    f"sum(avg_over_time((max by (server) (duologue_model_running{{{HERE}}}) > bool 0)[$__range:])) "
    "* $gpus * $__range_s / 3600"
)
_MODEL_HOURS = f"sum(increase(duologue_dialogue_model_seconds_total{{{HERE}}}[$__range])) / 3600"

OVERVIEW = Dashboard(
    "overview",
    "Duologue / Overview",
    "Whether campaigns yield dialogues, what these cost, and whether anything stands still.",
    (
        Panel(
            "Kept per GPU-hour",
            "Dialogues that the filters kept, over the hours that model servers had requests under way, times the GPUs "
            "of a server as set above. Filters decide when a round ends: choose a time that holds a whole round.",
            "short",
            [Query(f"{_KEPT} / ({_GPU_HOURS})", "kept per GPU-hour")],
            kind="stat",
            width=5,
            height=5,
            decimals=1,
        ),
        Panel(
            "Kept per model hour",
            "The yield as `duologue campaign show` has it: kept dialogues over hours of answers, one after the other. "
            "A server that answers many at once gives many model hours in an hour.",
            "short",
            [Query(f"{_KEPT} / ({_MODEL_HOURS})", "kept per model hour")],
            kind="stat",
            width=5,
            height=5,
            decimals=1,
        ),
        Panel(
            "Cost per kept dialogue",
            "What scored dialogues cost by the price table, evaluation included, over the kept ones, in the table's "
            "currency. Empty without `prices` in the settings of the campaign service.",
            "short",
            [
                Query(
                    f"sum by (currency) (increase(duologue_dialogue_cost_total{{{HERE}}}[$__range])) / scalar({_KEPT})",
                    "{{currency}} per kept",
                )
            ],
            kind="stat",
            width=5,
            height=5,
            decimals=4,
        ),
        Panel(
            "Kept",
            "Share of the dialogues that the filters kept, of those that they decided on.",
            "percentunit",
            [Query(f"{_KEPT} / {_DECIDED}", "kept")],
            kind="stat",
            width=4,
            height=5,
            decimals=0,
        ),
        Panel(
            "Alerts firing",
            "Alerts of Duologue that fire now; each names its runbook.",
            "short",
            [Query('count(ALERTS{alertname=~"Duologue.*",alertstate="firing"}) or vector(0)', "firing")],
            kind="stat",
            width=5,
            height=5,
            warn=1,
            bad=3,
        ),
        Panel(
            "Kept and dropped",
            "Dialogues that the filters decided on in an hour. They decide on a round at its end, all at once.",
            "short",
            [
                Query(
                    f"sum by (decision) (rate(duologue_dialogues_filtered_total{{{HERE}}}[$__rate_interval])) * 3600",
                    "{{decision}} per hour",
                )
            ],
            stacked=True,
        ),
        Panel(
            "Running campaigns",
            "By the phase that their round is in.",
            "short",
            [Query(f"max by (phase) (duologue_campaigns_running{{{HERE}}})", "{{phase}}")],
            stacked=True,
            decimals=0,
        ),
        Panel(
            "Since the running phase got on",
            "Time since anything came back for a running campaign, of each agent the one that waits longest. It begins "
            "anew when what is out is asked for again; a training tells of its steps.",
            "s",
            [
                Query(
                    f"time() - max by (agent, phase) (duologue_campaign_progress_timestamp_seconds{{{OF_AGENT}}})",
                    "{{agent}} {{phase}}",
                )
            ],
            warn=300,
            bad=600,
        ),
        Panel(
            "Cost",
            "What is spent in an hour, by the price table. Empty without one.",
            "short",
            [
                Query(
                    f"sum by (currency) (rate(duologue_dialogue_cost_total{{{HERE}}}[$__rate_interval])) * 3600",
                    "{{currency}} per hour",
                )
            ],
            decimals=4,
        ),
        Panel(
            "Cost of the newest campaign",
            "So far, by the price table as it is now. Of each agent.",
            "short",
            [Query(f"max by (agent, currency) (duologue_campaign_cost{{{OF_AGENT}}})", "{{agent}} ({{currency}})")],
            kind="bargauge",
            decimals=2,
        ),
        Panel(
            "Budget spent",
            "Of running campaigns that have a budget, of tokens or time the larger share. At 100% a campaign ends.",
            "percentunit",
            [Query(f"max by (agent) (duologue_campaign_budget_spent_ratio{{{OF_AGENT}}})", "{{agent}}")],
            top=1,
            warn=0.75,
            bad=0.9,
        ),
        Panel(
            "The adapter that answers, since",
            "How long ago it was released. An agent that is not here is answered for by its base model.",
            "s",
            [
                Query(
                    f"time() - max by (agent, adapter) (duologue_adapter_released_timestamp_seconds{{{OF_AGENT}}})",
                    "{{agent}}: {{adapter}}",
                )
            ],
            kind="bargauge",
            width=12,
        ),
        Panel(
            "Campaigns",
            "By state, since the database was made.",
            "short",
            [Query(f"max by (state) (duologue_campaigns{{{HERE}}})", "{{state}}")],
            kind="bargauge",
            width=12,
        ),
    ),
    (AGENT, Variable("gpus", "GPUs per model server", number="1")),
)
