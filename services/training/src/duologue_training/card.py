"""The adapter's card: where it comes from, for people."""

from __future__ import annotations

from duologue.contracts.v1 import events_pb2
from duologue_training.plan import TrainingPlan, TrainingResult


def adapter_card(
    request: events_pb2.TrainingRequested, plan: TrainingPlan, result: TrainingResult, base_model_sha256: str
) -> str:
    """Markdown with the metadata block that model hubs read."""
    datasets = "\n".join(
        f"| {sealed.dataset_id} | {sealed.round} | {sealed.kept} of {sealed.candidates} | `{sealed.data.sha256[:12]}` |"
        for sealed in request.datasets
    )
    versions = ", ".join(f"{package} {number}" for package, number in result.versions.items())
    return f"""---
base_model: {plan.base_model}
library_name: peft
tags: [lora, dialogue, duologue]
---

# {plan.training_id}

A LoRA adapter for the agent, trained by Duologue on dialogues that it made itself.

| | |
|---|---|
| base model | {plan.base_model}, SHA-256 of its files `{base_model_sha256[:12]}` |
| campaign, round | {request.campaign_id}, {request.round} |
| LoRA | rank {plan.rank}, alpha {plan.alpha}, all linear layers |
| optimisation | learning rate {plan.learning_rate:g}, weight decay {plan.weight_decay:g}, batch {plan.batch_size}, \
{plan.epochs} epoch(s), inverse square root schedule after {plan.warmup_steps} warm-up steps |
| longest example | {plan.max_tokens} tokens |
| examples | {result.examples} agent turns, loss on the completions only |
| loss | {_loss(result)} over {result.steps} steps |
| seconds | {result.seconds:.0f} |
| seed | {plan.seed} |
| versions | {versions} |

| dataset | round | kept | SHA-256 |
|---|---|---|---|
{datasets}

`training.json` has all of this in full, and the SHA-256 of this folder: of the lines `sha256  name` of its other files,
sorted by name.

`fingerprint.json` holds greedy answers of base and adapter to some prompts, {result.telling_probes} of which differ:
with them a server can be asked whether this adapter is what it serves.
"""


def _loss(result: TrainingResult) -> str:
    return f"{result.losses[0]:.3f} to {result.losses[-1]:.3f}" if result.losses else "not measured"
