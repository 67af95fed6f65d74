"""`duologue score` on real human dialogues equals a slow reference that is written with rouge_score alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from duologue.core.workflow import CallNode, Workflow
from duologue.core.workflow_file import load_workflow
from tests.support.requirements import require_star

_TASK = "doctor_schedule"
_COUNT = 100
_TOKENIZER = DefaultTokenizer(use_stemmer=False)
_SCORER = RougeScorer(["rougeL"], use_stemmer=False)
_DUOLOGUE = Path(sys.executable).with_name("duologue")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[Any], Workflow]:
    """What the command says of a hundred dialogues of one task, the dialogues, and the workflow."""
    star = require_star()
    folder = tmp_path_factory.mktemp("star")
    dialogues = [json.loads(line) for line in (star / "dialogues.jsonl").read_text().splitlines()]
    chosen = [dialogue for dialogue in dialogues if dialogue["task"] == _TASK][:_COUNT]
    assert len(chosen) == _COUNT
    file = folder / "dialogues.jsonl"
    file.write_text("\n".join(map(json.dumps, chosen)))
    workflow = folder / "workflow.yaml"
    _run("workflow", "import", star / "tasks.json", "--from", "star", "--task", _TASK, "-o", workflow)
    result = json.loads(_run("score", file, "--workflow", workflow, "--json"))
    return result, chosen, load_workflow(workflow.read_text())


def _run(*arguments: object) -> str:
    command = [_DUOLOGUE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ).stdout


def test_words_and_ngrams_equal_the_reference(scored: tuple[Any, list[Any], Workflow]) -> None:
    result, dialogues, _ = scored
    for row, dialogue in zip(result["dialogues"], dialogues, strict=True):
        tokens = [_TOKENIZER.tokenize(turn["text"]) for turn in dialogue["turns"] if turn["role"] != "tool"]
        grams = {tuple(t[i : i + n]) for t in tokens for n in range(1, 6) for i in range(len(t) - n + 1)}
        assert row["words"] == len({word for utterance in tokens for word in utterance})
        assert row["ngrams"] == len(grams)


def test_diversity_equals_the_reference(scored: tuple[Any, list[Any], Workflow]) -> None:
    result, dialogues, _ = scored
    texts = [" ".join(turn["text"] for turn in d["turns"] if turn["role"] != "tool") for d in dialogues]
    pairs = [_SCORER.score(left, right)["rougeL"].fmeasure for left, right in combinations(texts, 2)]
    assert result["diversity"] == pytest.approx(1 - sum(pairs) / len(pairs), abs=1e-9)


def test_subgoals_equal_the_reference(scored: tuple[Any, list[Any], Workflow]) -> None:
    result, dialogues, workflow = scored
    depth = _longest(workflow, workflow.start)
    for row, dialogue in zip(result["dialogues"], dialogues, strict=True):
        steps = _walk(workflow, [turn["text"] for turn in dialogue["turns"] if turn["role"] == "agent"])
        assert row["subgoals_absolute"] == steps
        assert row["subgoals_relative"] == pytest.approx(min(steps / depth, 1), abs=1e-9)


def test_the_means_of_the_file_are_the_means_of_its_dialogues(scored: tuple[Any, list[Any], Workflow]) -> None:
    result, _, _ = scored
    for name, mean in result["means"].items():
        assert mean == pytest.approx(sum(float(row[name]) for row in result["dialogues"]) / _COUNT, abs=1e-9)


def _walk(workflow: Workflow, utterances: list[str]) -> int:
    """METHOD's walk, spelt out: the closest next reference above 0.33 is a step; a node counts once."""
    passed: list[str] = []
    following = _spoken(workflow, workflow.start)
    for utterance in utterances:
        closeness = {name: _closeness(workflow, name, utterance) for name in following}
        best = max(closeness, key=closeness.__getitem__, default=None)
        if best is not None and closeness[best] > 0.33:
            passed.append(best)
            ways = [_spoken(workflow, edge.to) for edge in workflow.nodes[best].edges.values()]
            following = list(dict.fromkeys(name for way in ways for name in way))
    return len(set(passed))


def _closeness(workflow: Workflow, name: str, utterance: str) -> float:
    reference = workflow.spoken[name].text
    while "{" in reference:
        start = reference.index("{")
        reference = reference[:start] + " " + reference[reference.index("}", start) + 1 :]
    return float(_SCORER.score(reference, utterance)["rougeL"].fmeasure)


def _spoken(workflow: Workflow, name: str) -> list[str]:
    node = workflow.nodes[name]
    if not isinstance(node, CallNode):
        return [name]
    return list(dict.fromkeys(found for outcome in node.outcomes.values() for found in _spoken(workflow, outcome.to)))


def _longest(workflow: Workflow, name: str) -> int:
    node = workflow.nodes[name]
    ahead = [_longest(workflow, edge.to) for edge in node.edges.values() if not edge.loop]
    return max(ahead, default=0) + (not isinstance(node, CallNode))
