"""What is measured of one dialogue against its workflow, without any model (METHOD: scores)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from duologue.core.alignment import performed
from duologue.core.dialogue import Role
from duologue.core.text import Vocabulary, ngrams, rouge_l, tokenize
from duologue.core.workflow import PLACEHOLDER, EndNode, Workflow, fill

# Ulmer et al. 2024, section 3.3: an edge is taken when ROUGE-L F1 with the next reference is above this.
STEP_THRESHOLD = 0.33

# The name of a speaker and a colon: where an utterance goes on with somebody's turn.
ROLE_MARK = re.compile(r"(?:^|\s)(?:client|agent|user|assistant|customer)\s*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Utterance:
    """The little of a turn that scoring looks at.

    `again`: the agent was told to say once more what it had said, because the client's reply was no answer.
    """

    role: Role
    text: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one dialogue.

    words, ngrams: unique words, unique n-grams (n from 1 to 5, within an utterance) of client and agent.
    subgoals_absolute: spoken nodes passed in order. subgoals_relative: that over the longest path, in [0, 1].
    subgoals_branch: that over the length of the branch the client chose, in [0, 1].
    ended: the agent said one of the workflow's endings. success: it got to a successful one by walking the graph.
    nodes: for each agent turn the node that it performed, or None.
    repeats: times that a node was performed again with no declared loop in between, and not because it was told to.
    role_leaks: utterances that write the other side's turn.
    character_client, character_agent: mean probability of being in character, in [0, 1]; None when not asked.
    """

    words: int
    ngrams: int
    subgoals_absolute: int
    subgoals_relative: float
    subgoals_branch: float
    ended: bool
    success: bool
    nodes: tuple[str | None, ...]
    repeats: int
    role_leaks: int
    character_client: float | None = None
    character_agent: float | None = None

    def as_dict(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


def score_dialogue(turns: Sequence[Utterance], workflow: Workflow, facts: Mapping[str, str] | None = None) -> Scores:
    """Score a dialogue. `facts` fill the placeholders of the references.

    A placeholder without a fact is left out of the references that the walk compares (subgoals, success), as the paper
    has none; for `nodes` it stands for whatever was said there.
    """
    references = _References(workflow, facts or {})
    spoken = [turn.text for turn in turns if turn.role is not Role.TOOL]
    said = [turn for turn in turns if turn.role is Role.AGENT]
    walk = _walk([references.vocabulary.encode(turn.text) for turn in said], workflow, references)
    nodes = performed([turn.text for turn in said], workflow, facts or {}, STEP_THRESHOLD)
    tokens = [tokenize(text) for text in spoken]
    reached = workflow.nodes.get(walk[-1]) if walk else None
    steps = len(set(walk))
    return Scores(
        words=len({word for utterance in tokens for word in utterance}),
        ngrams=len({gram for utterance in tokens for gram in ngrams(utterance)}),
        subgoals_absolute=steps,
        subgoals_relative=relative_depth(steps, workflow),
        subgoals_branch=branch_depth(walk, workflow),
        ended=any(isinstance(workflow.nodes.get(name or ""), EndNode) for name in (*walk, *nodes)),
        success=isinstance(reached, EndNode) and reached.outcome == "success",
        nodes=nodes,
        repeats=_repeats([name for name, turn in zip(nodes, said, strict=True) if not turn.again], workflow),
        role_leaks=sum(bool(ROLE_MARK.search(text)) for text in spoken),
    )


def relative_depth(steps: int, workflow: Workflow) -> float:
    """Share of the workflow that the agent got through, in [0, 1] (Ulmer et al. 2024, section 3.3).

    `steps` counts nodes passed in order; the denominator is the longest path, so short branches score low: see
    `branch_depth` for the share of the branch that the client chose.
    """
    return min(steps / workflow.longest_path, 1.0)


def branch_depth(walk: Sequence[str], workflow: Workflow) -> float:
    """Share of the chosen branch that the agent got through, in [0, 1].

    The branch is the walked nodes and then, of those that were not walked yet, the longest way on from the last; 1 at
    an end.
    """
    if not walk:
        return 0.0
    passed = set(walk)
    return len(passed) / (len(passed) + workflow.depths(passed)[walk[-1]])


class _References:
    """Reference texts of the spoken and anytime nodes, encoded with a vocabulary of their own."""

    def __init__(self, workflow: Workflow, facts: Mapping[str, str]) -> None:
        self.vocabulary = Vocabulary()
        self.encoded = {
            name: self.vocabulary.encode(PLACEHOLDER.sub(" ", fill(node.text, facts)))
            for name, node in (*workflow.spoken.items(), *workflow.anytime.items())
        }


def _walk(said: Sequence[str], workflow: Workflow, references: _References) -> list[str]:
    """Nodes passed in order: an utterance takes the edge to the next reference that it is closest to, or none."""
    walk: list[str] = []
    candidates: Sequence[str] = workflow.entry
    for utterance in said:
        closest = _closest(utterance, candidates, references)
        if closest is not None:
            walk.append(closest)
            candidates = workflow.spoken_after[closest]
    return walk


def _closest(utterance: str, candidates: Sequence[str], references: _References) -> str | None:
    """The candidate with the highest ROUGE-L F1 above the threshold; the first of equals."""
    best, best_score = None, STEP_THRESHOLD
    for name in candidates:
        score = rouge_l(utterance, references.encoded[name])
        if score > best_score:
            best, best_score = name, score
    return best


def _repeats(nodes: Sequence[str | None], workflow: Workflow) -> int:
    """Times that a spoken node came again although no way leads from the node before back to it."""
    repeats = 0
    seen: set[str] = set()
    position: str | None = None
    for name in nodes:
        if name is None or name not in workflow.spoken:
            continue
        if name in seen and (position is None or name not in workflow.spoken_after[position]):
            repeats += 1
        seen.add(name)
        position = name
    return repeats
