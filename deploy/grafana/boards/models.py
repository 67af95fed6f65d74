"""Models: what the model servers do, how full they are, and which adapters they serve."""

from __future__ import annotations

from boards.board import AGENT, HERE, OF_AGENT, Dashboard, Panel, Query

_RATE = "[$__rate_interval]"
_REQUESTS = f"rate(duologue_model_requests_total{{{HERE}}}{_RATE})"
_FAILED = f'rate(duologue_model_requests_total{{{HERE},outcome!="ok"}}{_RATE})'
_BUCKETS = f"sum by (le, server) (rate(duologue_model_request_seconds_bucket{{{HERE}}}{_RATE}))"
_READ_OR_WRITTEN = f'rate(duologue_model_tokens_total{{{HERE},kind=~"prompt|completion"}}{_RATE})'
_READ = f'rate(duologue_model_tokens_total{{{HERE},kind="prompt"}}{_RATE})'
_CACHED = f'rate(duologue_model_tokens_total{{{HERE},kind="cached"}}{_RATE})'

MODELS = Dashboard(
    "models",
    "Duologue / Models",
    "Model servers as role-play and scoring see them: latency, tokens, saturation, adapters.",
    (
        Panel(
            "Requests",
            "By server and outcome. `unavailable` may pass and is tried again, `refused` won't and is not.",
            "reqps",
            [Query(f"sum by (server, outcome) ({_REQUESTS})", "{{server}} {{outcome}}")],
        ),
        Panel(
            "Time of a request, median",
            "From sending to the last byte; waiting for room before it does not count.",
            "s",
            [Query(f"histogram_quantile(0.5, {_BUCKETS})", "{{server}}")],
        ),
        Panel(
            "Time of a request, 95th percentile",
            "One in twenty takes longer.",
            "s",
            [Query(f"histogram_quantile(0.95, {_BUCKETS})", "{{server}}")],
        ),
        Panel(
            "Saturation",
            "Requests under way over the most that a server is given at once. At 100% the server is the limit, as it "
            "should be; how much is too much `waiting` says.",
            "percentunit",
            [
                Query(
                    f"sum by (server) (duologue_model_running{{{HERE}}}) "
                    f"/ sum by (server) (duologue_model_limit{{{HERE}}})",
                    "{{server}}",
                )
            ],
            top=1,
        ),
        Panel(
            "Waiting for room",
            "Requests that a server is not given yet. More than it is given at once: another server would help.",
            "short",
            [Query(f"sum by (server) (duologue_model_waiting{{{HERE}}})", "{{server}}")],
            decimals=0,
        ),
        Panel(
            "Given at once at most",
            "What the gates before the servers found to bring the most; it goes down when a server refuses.",
            "short",
            [Query(f"sum by (server) (duologue_model_limit{{{HERE}}})", "{{server}}")],
            decimals=0,
        ),
        Panel(
            "Tokens",
            "Read and written, by server. `prompt` includes what was in the prefix cache.",
            "short",
            [Query(f"sum by (server, kind) ({_READ_OR_WRITTEN})", "{{server}} {{kind}} per second")],
        ),
        Panel(
            "Prompt tokens from the prefix cache",
            "Share that a server did not have to read. 0 for a server that does not tell.",
            "percentunit",
            [Query(f"sum by (server) ({_CACHED}) / sum by (server) ({_READ})", "{{server}}")],
            top=1,
        ),
        Panel(
            "Not answered",
            "Share of the requests that a server did not answer.",
            "percentunit",
            [Query(f"sum by (server) ({_FAILED}) / sum by (server) ({_REQUESTS})", "{{server}}")],
            top=1,
        ),
        Panel(
            "Closed, or the wrong adapter",
            "1: the server refuses for having too much to do, or answers an adapter's probes as another model.",
            "short",
            [
                Query(f"max by (server) (duologue_model_closed{{{HERE}}})", "{{server}} closed"),
                Query(f"max by (server, model) (duologue_model_wrong_adapter{{{HERE}}})", "{{server}} wrong {{model}}"),
            ],
            decimals=0,
            top=1,
        ),
        Panel(
            "Asked ahead",
            "Utterances that role-play asked for before the manager had decided, with `speculate`: used, or wasted.",
            "ops",
            [Query(f"sum by (outcome) (rate(duologue_speculations_total{{{HERE}}}{_RATE}))", "{{outcome}}")],
        ),
        Panel(
            "Canary",
            "Share of an agent's training dialogues that goes to an adapter that does not answer yet.",
            "percentunit",
            [Query(f"max by (agent, adapter) (duologue_canary_share_ratio{{{OF_AGENT}}})", "{{agent}}: {{adapter}}")],
            top=1,
        ),
    ),
    (AGENT,),
)
