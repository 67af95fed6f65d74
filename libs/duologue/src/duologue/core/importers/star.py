"""Import of a task of the STAR corpus (Mosig et al. 2020, arXiv 2010.11853) as a workflow.

`star_task` reads a task and tells what its labels are, `star_places` finds where client replies and look-up results
belong, `star_closing` leads every way to a goodbye; here the client's facts and the look-ups' values are filled in.
"""

from __future__ import annotations

import re

from duologue.core.importers.draft import Anytime, Draft, Edge, Node, fill_slots, put_in_reading_order, to_yaml
from duologue.core.importers.samples import OUT_OF_SCOPE, answers, is_about, kind_of, sample, wordings, words_of
from duologue.core.importers.star_closing import close
from duologue.core.importers.star_places import Places
from duologue.core.importers.star_task import Task, read_task
from duologue.core.workflow import PLACEHOLDER

_VERBS = frozenset(
    words_of("ask book cancel change check find get issue make order plan play report request reserve rsvp schedule")
    + words_of("search track update")
)
_SCOPE = re.compile(r"only able to (?:help (?:you )?(?:to )?)?(?P<aim>[^.!]+)")


def import_star(text: str, file: str, task: str) -> str:
    """One task of a STAR file of tasks (JSON) as the YAML text of a workflow file.

    Labels become the ids of nodes. Raises `InvalidInput` with the line of `file` and how to mend it.
    """
    star = read_task(text, file, task)
    draft = _outline(star)
    Places(star, draft).place_all()
    close(star, draft)
    _add_anytime(star, draft)
    put_in_reading_order(draft)
    _ask_for_facts(star, draft)
    fill_slots(draft, star.digits)
    _add_further_facts(star, draft)
    _give_arguments(draft)
    return to_yaml(draft, file)


def _outline(task: Task) -> Draft:
    goal = _goal(task)
    article = "an" if task.domain[0] in "aeiou" else "a"
    theirs = re.sub(r"\byour\b", "their", goal)
    helps = re.sub(r"^to get help ", "", f"to {theirs}")
    return Draft(
        workflow=task.name,
        title=task.aim.replace("_", " ").capitalize(),
        role=f"{article} {task.domain} assistant",
        persona=f"I help clients {helps}. I ask for one thing at a time, and I am brief and friendly.",
        goal=goal,
        start=task.start,
    )


def _goal(task: Task) -> str:
    """What a client comes for: as the agent's out-of-scope line says it, else by the name of the task."""
    scope = next((match for text in task.replies.values() if (match := _SCOPE.search(text))), None)
    if scope is not None:
        aim = re.sub(r"^(with|about|on) ", "get help with ", scope["aim"].strip())
        return re.sub(r"^(tell|give|show) you (about )?", "ask about ", aim)
    words = task.aim.replace("_", " ").split()
    if words[0] in _VERBS:
        return " ".join(words)
    if words[-1] in _VERBS and len(words) > 1:
        return " ".join([words[-1], "a", *words[:-1]])
    return f"get help with {' '.join(words)}"


def _add_anytime(task: Task, draft: Draft) -> None:
    for label, text in task.replies.items():
        if label not in draft.nodes and label not in task.signals and not task.is_call(label):
            draft.anytime[label] = Anytime(text, _when(label, text))


def _when(label: str, text: str) -> list[str]:
    """What a client says to hear an anytime line; none where no client would ask for it."""
    if "out_of_scope" in label:
        return list(OUT_OF_SCOPE)
    told = re.search(r"_(?:inform|provide)_([a-z]+(?:_[a-z]+)?)$", label)
    if told is None or not PLACEHOLDER.search(text):
        return []
    thing = told[1].replace("_", " ")
    return [f"Can you tell me the {thing}?", f"What about the {thing}?"]


def _ask_for_facts(task: Task, draft: Draft) -> None:
    """Give the client what the graph's questions ask for, under the name that the agent's lines use for it."""
    slots = list(dict.fromkeys(slot for text in task.replies.values() for slot in PLACEHOLDER.findall(text)))
    for label, node in draft.nodes.items():
        fact = _fact_asked(task, label, slots, draft) if node.kind == "say" else None
        if fact is not None:
            draft.facts[fact] = sample(fact, digits=fact in task.digits)
        for edge in node.edges.values():
            if edge.default and not edge.examples:
                edge.examples.extend(_wordings(task, draft, label, fact))


def _fact_asked(task: Task, label: str, slots: list[str], draft: Draft) -> str | None:
    topic = task.topic(label)
    if not topic or task.asks_yes_or_no(label):
        return None
    meant = [slot for slot in slots if slot not in draft.facts and is_about(slot, topic)]
    fact = topic if topic in meant or not meant else meant[0]
    return fact if fact in slots or kind_of(fact) else None


def _wordings(task: Task, draft: Draft, label: str, fact: str | None) -> list[str]:
    if fact is not None:
        return answers(fact)
    if label == "hello":
        goal = re.sub(r"\byour\b", "my", draft.goal)
        return [f"I would like to {goal}.", f"Hi, I want to {goal}."]
    if task.asks_permission(label):
        return wordings("yes", "yes")
    if task.asks_yes_or_no(label):
        return ["Yes.", "No.", "Not really."]
    return [] if task.asks(label) else ["OK.", "Thank you."]


def _add_further_facts(task: Task, draft: Draft) -> None:
    """What the agent may ask for anywhere; the slots of its lines are the look-ups' all the same."""
    for label in draft.anytime:
        topic = task.topic(label)
        if topic and kind_of(topic) and not task.asks_yes_or_no(label):
            draft.facts.setdefault(topic, sample(topic, digits=topic in task.digits))


def _give_arguments(draft: Draft) -> None:
    """A look-up is made with what the client was asked for before it."""
    for name, node in draft.nodes.items():
        if node.kind == "call":
            before = [source for source in draft.nodes if source != name and _leads_to(draft, source, name)]
            given = dict.fromkeys(fact for source in before for fact in _facts_given(draft.nodes[source], draft))
            node.arguments = {fact: f"{{{fact}}}" for fact in given}


def _leads_to(draft: Draft, source: str, target: str) -> bool:
    return target in draft.reached(source, lambda _, edge: not edge.loop)


def _facts_given(node: Node, draft: Draft) -> list[str]:
    edges: list[Edge] = list(node.edges.values())
    told = [slot for edge in edges for example in edge.examples for slot in PLACEHOLDER.findall(example)]
    return [slot for slot in told if slot in draft.facts]
