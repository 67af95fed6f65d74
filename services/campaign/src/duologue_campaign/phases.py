"""The states of a campaign and the phases of a round, as the tables have them."""

from __future__ import annotations

from duologue.core.dialogue import Split

RUNNING, PAUSED, COMPLETED, FAILED, CANCELLED = "running", "paused", "completed", "failed", "cancelled"
GENERATING, SEALING, TRAINING, EVALUATING, DONE = "generating", "sealing", "training", "evaluating", "done"

# Which dialogues a phase asks for; the others ask for none.
SPLIT_OF_PHASE = {GENERATING: Split.TRAINING, EVALUATING: Split.EVALUATION}
