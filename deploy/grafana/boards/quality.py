"""Quality: how good the dialogues are, what the filters and the gate say, and whether it drifts."""

from __future__ import annotations

from boards.board import AGENT, HERE, OF_AGENT, Dashboard, Panel, Query

_TRAINING = f'{HERE},split="training"'
_SUM = f"rate(duologue_dialogue_score_ratio_sum{{{_TRAINING}}}[$__rate_interval])"
_COUNT = f"rate(duologue_dialogue_score_ratio_count{{{_TRAINING}}}[$__rate_interval])"
_SUBGOALS = f'duologue_dialogue_score_ratio_bucket{{{_TRAINING},metric="subgoals_relative"}}[$__rate_interval]'
_PLAYED = f"increase(duologue_dialogues_played_total{{{_TRAINING}}}[$__range])"
_COMPLETED = f'increase(duologue_dialogues_played_total{{{_TRAINING},end_reason="completed"}}[$__range])'
_LATEST = (
    f'max by (agent, metric) (duologue_round_score{{{OF_AGENT},round="latest",metric!~"words|ngrams|.*absolute"}})'
)
_BEFORE = f'max by (agent, metric) (duologue_round_score{{{OF_AGENT},round="before"}})'

QUALITY = Dashboard(
    "quality",
    "Duologue / Quality",
    "Scores of the dialogues, decisions of the filters, verdicts of the gate, and drift against the round before.",
    (
        Panel(
            "Scores of the latest round",
            "Means over its training dialogues so far, and their diversity. All but `repeats` and `role_leaks`, which "
            "count faults, are in [0, 1] and better when higher.",
            "short",
            [Query(_LATEST, "{{agent}} {{metric}}")],
            kind="bargauge",
            decimals=2,
        ),
        Panel(
            "Against the round before",
            "Difference of the means: drift of models, prompts or workflows, or the gain of an adapter.",
            "short",
            [Query(f"{_LATEST} - {_BEFORE}", "{{agent}} {{metric}}")],
            decimals=3,
        ),
        Panel(
            "Kept, latest round and the one before",
            "Share that the filters kept. A round has none before it ends.",
            "percentunit",
            [Query(f"max by (agent, round) (duologue_round_kept_ratio{{{OF_AGENT}}})", "{{agent}} {{round}}")],
            kind="bargauge",
            top=1,
        ),
        Panel(
            "Scores",
            "Means of the training dialogues as they are scored.",
            "percentunit",
            [Query(f"sum by (metric) ({_SUM}) / sum by (metric) ({_COUNT})", "{{metric}}")],
            top=1,
            width=12,
        ),
        Panel(
            "Subgoals",
            "How dialogues spread over the share of the workflow that the agent got through.",
            "percentunit",
            [Query(f"sum by (le) (increase({_SUBGOALS}))", "{{le}}")],
            kind="heatmap",
            width=12,
        ),
        Panel(
            "Why dialogues end",
            "Those played, training and evaluation. `completed`: the agent said an ending of the workflow.",
            "ops",
            [
                Query(
                    f"sum by (end_reason) (rate(duologue_dialogues_played_total{{{HERE}}}[$__rate_interval]))",
                    "{{end_reason}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "Completed, by workflow",
            "Share of the training dialogues in which role-play came to an ending, in the time that is shown. Whether "
            "the agent really said it is the score `ended`.",
            "percentunit",
            [Query(f"sum by (workflow) ({_COMPLETED}) / sum by (workflow) ({_PLAYED})", "{{workflow}}")],
            kind="bargauge",
            top=1,
        ),
        Panel(
            "Dropped, by filter",
            "In the time that is shown. `late`: came after its round was sealed.",
            "short",
            [
                Query(
                    "sum by (filter) "
                    f'(increase(duologue_dialogues_filtered_total{{{HERE},decision="dropped"}}[$__range]))',
                    "{{filter}}",
                )
            ],
            kind="bargauge",
            decimals=0,
        ),
        Panel(
            "Gain of the newest adapter at the gate",
            "Over the adapter that answered, on held-out pairs, with the bounds of its interval. Released when the "
            "lower bound of the gate's metric is above `gate.min_gain`.",
            "short",
            [
                Query(
                    f"max by (agent, metric, bound) (duologue_gate_gain{{{OF_AGENT}}})",
                    "{{agent}} {{metric}} {{bound}}",
                )
            ],
            kind="bargauge",
            decimals=3,
        ),
        Panel(
            "Verdicts of the gate",
            "Adapters that it released and refused, of all campaigns of the agent.",
            "short",
            [Query(f"max by (agent, verdict) (duologue_gate_verdicts_total{{{OF_AGENT}}})", "{{agent}} {{verdict}}")],
            kind="bargauge",
            decimals=0,
        ),
        Panel(
            "Trainings",
            "Requests for a training that were answered in the time that is shown, and how far the one under way is.",
            "short",
            [
                Query(f"sum by (outcome) (increase(duologue_trainings_total{{{HERE}}}[$__range]))", "{{outcome}}"),
                Query(f"max(duologue_training_progress_ratio{{{HERE}}})", "under way"),
            ],
            kind="bargauge",
            decimals=2,
        ),
    ),
    (AGENT,),
)
