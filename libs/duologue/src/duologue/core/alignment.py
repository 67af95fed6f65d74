"""Which node of a workflow each utterance of the agent performs, by its words alone.

References are templates that people and models fill, shorten and reword. So their similarity to an utterance is
ROUGE-L F1 with two changes. A word counts by how few of the workflow's references have it: that both say "you" tells
nothing. And what stands where a reference has a placeholder is what should stand there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rapidfuzz.distance import LCSseq

from duologue.core.text import Vocabulary, f_measure
from duologue.core.workflow import PLACEHOLDER, Workflow, fill

# What fills a placeholder costs a tenth of what other words cost that the reference lacks. So of two references that
# fit, the one that says more itself wins: "It is called {name}." over "It is {place}.".
_FILLING_COST = 0.1
# People skip a step whose answer they know already; seldom two.
_STEPS_AHEAD = 2
# The last code point: no vocabulary gets as far.
_PLACEHOLDER = chr(0x10FFFF)


def performed(
    said: Sequence[str], workflow: Workflow, facts: Mapping[str, str], threshold: float
) -> tuple[str | None, ...]:
    """For each agent utterance the node whose reference is closest, wherever the dialogue stands, or None.

    Closest is the highest similarity above `threshold`; of equals a node that may come next. A reference that is all
    placeholder fits any words: it is taken where it may come soon and nothing else fits.
    """
    references = _WeighedReferences(workflow, facts)
    position: str | None = None
    nodes: list[str | None] = []
    for text in said:
        ahead = workflow.spoken_after[position] if position is not None else workflow.entry
        name = references.closest(text, ahead, threshold) or references.blank_soon(text, ahead)
        nodes.append(name)
        if name in workflow.spoken:
            position = name
    return tuple(nodes)


class _WeighedReferences:
    """Reference texts of the spoken and anytime nodes, one character a word, and what each word weighs.

    A word weighs 1 if one reference has it, or none, and the less the more have it.
    """

    def __init__(self, workflow: Workflow, facts: Mapping[str, str]) -> None:
        self._spoken_after = workflow.spoken_after
        self._vocabulary = Vocabulary()
        self._encoded = {
            name: self._encode(fill(node.text, facts))
            for name, node in (*workflow.spoken.items(), *workflow.anytime.items())
        }
        having = Counter(word for reference in self._encoded.values() for word in set(reference))
        most = math.log(len(self._encoded) + 1)
        self._weights = {word: 1 - math.log(count) / most for word, count in having.items()} | {_PLACEHOLDER: 0.0}
        self._totals = {name: self._weight(reference) for name, reference in self._encoded.items()}

    def _encode(self, text: str) -> str:
        return _PLACEHOLDER.join(self._vocabulary.encode(part) for part in PLACEHOLDER.split(text)[::2])

    def _weight(self, words: Iterable[str]) -> float:
        weights = self._weights
        return sum([weights.get(word, 1.0) for word in words])

    def closest(self, text: str, first: Sequence[str], threshold: float) -> str | None:
        """The reference with the highest similarity above the threshold; of equals one of `first`, in order."""
        utterance = self._vocabulary.encode(text)
        words = set(utterance)
        best, highest = None, threshold
        for name in dict.fromkeys([*first, *self._encoded]):
            shared = self._weight([word for word in self._encoded[name] if word in words])
            # No higher even if all that they share stood in one order and nothing else were said.
            if f_measure(shared, shared, self._totals[name]) <= highest:
                continue
            similarity = self._similarity(utterance, name)
            if similarity > highest:
                best, highest = name, similarity
        return best

    def _similarity(self, utterance: str, name: str) -> float:
        """F1, by weight, of the words that utterance and reference have in the same order; in [0, 1]."""
        reference = self._encoded[name]
        common = said = 0.0
        done, passed = 0, 0
        for block in LCSseq.opcodes(utterance, reference).as_matching_blocks():
            fills = _PLACEHOLDER in reference[passed : block.b]
            said += self._weight(utterance[done : block.a]) * (_FILLING_COST if fills else 1.0)
            done, passed = block.a + block.size, block.b + block.size
            common += self._weight(utterance[block.a : done])
        return f_measure(common, said + common, self._totals[name])

    def blank_soon(self, text: str, ahead: Sequence[str]) -> str | None:
        """The nearest reference within `_STEPS_AHEAD` steps that is nothing but placeholder."""
        soon = list(ahead)
        for _ in range(_STEPS_AHEAD - 1):
            soon.extend(later for name in list(soon) for later in self._spoken_after[name])
        blank = (name for name in soon if set(self._encoded[name]) == {_PLACEHOLDER})
        return next(blank, None) if self._vocabulary.encode(text) else None
