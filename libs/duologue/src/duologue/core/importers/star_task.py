"""A task of the STAR corpus as it is written, and what each of its labels stands for.

A task has reply texts by label and a graph that leads from a label to the next. Some labels are no utterances of the
agent: `query*` is a look-up, and `yes`, `available`, `info_missing` and their like are *signals*, that is what a client
answered or a look-up found. The graph doesn't say of which question or look-up: `star_places` finds that out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from duologue.core.importers.samples import words_of
from duologue.core.problems import InvalidInput, Problem, did_you_mean

_SLOT = re.compile(r"\{([^{}:!]*)(?:![a-z])?(?::([^{}]*))?\}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

# Words of labels that only the agent says.
_SPOKEN = frozenset(["hello", "welcome", "ask", "inform", "provide", "tell", "anything", "goodbye", "bye", "scope"])
# How a label ends that says what a look-up found.
_FOUND = re.compile(r"(succe|fail|(un|in)?avail|(not)?found|(in)?correct|(in)?valid|error$|ok$|yes$|no$|true$|false$)")
_YES = frozenset(["yes", "yeah", "yep", "ok", "okay", "sure", "accept", "agree", "confirm"])
_NO = frozenset(["no", "nope", "decline", "disagree", "refuse", "reject", "cancel"])
_FORGOT = frozenset(["missing", "forgot", "forgotten", "remember", "recall", "unknown", "unsure"])
_OPEN = re.compile(r"(\w+,? ){0,2}(what|when|which|who|whose|where|why|how)\b")
# "Can I book it?", but not "Can I have your name?".
_PERMISSION = re.compile(r"(can|could|may|shall|should) (i|we) (?!get|have|ask|know)")
_POLAR = re.compile(rf"(do|does|did|have|has|is|are|was|were|would|will)\b|{_PERMISSION.pattern}")

# No more fit in one workflow.
_MOST_LABELS = 500

ANYTHING_ELSE = "anything_else"


@dataclass(frozen=True)
class Task:
    """One task. `replies` have plain `{slot}`s and single spaces; `digits` are the slots that take numbers."""

    name: str
    aim: str
    replies: dict[str, str]
    graph: dict[str, str]
    digits: frozenset[str]

    @property
    def domain(self) -> str:
        return words_of(self.name)[0]

    @cached_property
    def labels(self) -> list[str]:
        """Every label, those of the graph first."""
        edges = [label for edge in self.graph.items() for label in edge]
        return list(dict.fromkeys([*edges, *self.replies]))

    @cached_property
    def _targets(self) -> frozenset[str]:
        return frozenset(self.graph.values())

    def text(self, label: str) -> str:
        return self.replies.get(label, "")

    def is_source(self, label: str) -> bool:
        """Whether the graph leads on from a label, and nowhere to it."""
        return label in self.graph and label not in self._targets

    def is_in_graph(self, label: str) -> bool:
        return label in self.graph or label in self._targets

    def is_call(self, label: str) -> bool:
        words = words_of(label)
        if "query" not in words or _FOUND.match(words[-1]):
            return False
        return len(words_of(self.text(label))) <= 4 and not self.text(label).endswith("?")

    @cached_property
    def signals(self) -> list[str]:
        return [label for label in self.labels if self._is_signal(label) and label != self.start]

    def _is_signal(self, label: str) -> bool:
        """Whether a label says what a client answered or a look-up found.

        Its text is a word or two or repeats the label; no agent would say it. Where it starts a branch of its own and,
        unlike the others, isn't named after the task's domain, that alone tells.
        """
        text, words = self.text(label), words_of(label)
        if self.is_call(label) or _SPOKEN & set(words) or "{" in text or text.endswith("?"):
            return False
        said, named = words_of(text), [word for word in words if word != self.domain]
        repeats = words_of(re.split(r"[.,;:!]", text)[0]) == named
        if self.is_source(label):
            return len(said) <= 3 or repeats or (words[0] != self.domain and self._names_by_domain)
        if words[0] == self.domain:
            return False
        brief = len(said) <= 3 and not text.endswith((".", "!"))
        return repeats or (brief and ("query" in words or self.is_in_graph(label)))

    @cached_property
    def _names_by_domain(self) -> bool:
        named = sum(words_of(label)[0] == self.domain for label in self.labels)
        return 3 * named >= len(self.labels)

    @cached_property
    def start(self) -> str:
        """`hello`; without one the source that leads furthest, the first of equals, rather no signal."""
        if "hello" in self.replies:
            return "hello"
        said = [label for label in self.labels if label in self.replies and not self.is_call(label)]
        spoken = [label for label in said if not self._is_signal(label)] or said
        sources = [label for label in spoken if self.is_source(label)] or spoken
        return max(sources, key=lambda label: len(self.way_from(label)))

    def way_from(self, label: str) -> list[str]:
        """The labels that the graph leads to from one, itself first."""
        way = [label]
        while (following := self.graph.get(way[-1])) is not None and following not in way:
            way.append(following)
        return way

    @property
    def farewell(self) -> str:
        """The goodbye that closes a dialogue; one that is nowhere in the task, where it has none."""
        return self.farewells[0] if self.farewells else "goodbye"

    @property
    def closing(self) -> str:
        """Where a way that ends without a goodbye leads on to."""
        return ANYTHING_ELSE if ANYTHING_ELSE in self.replies else self.farewell

    @cached_property
    def farewells(self) -> list[str]:
        """Labels that say goodbye and lead nowhere; those that the graph leads to come first."""
        return [
            label
            for label in self.labels
            if {"goodbye", "bye"} & set(words_of(label)) and label not in self.graph and label in self.replies
        ]

    def asks(self, label: str) -> bool:
        return label != ANYTHING_ELSE and ("?" in self.text(label) or "ask" in words_of(label))

    def asks_yes_or_no(self, label: str) -> bool:
        """Whether the last question of a text is one to say yes or no to. ("Could you give me ..." is not.)"""
        question = self._last_sentence(label)
        return bool(_POLAR.match(question)) and " or " not in question

    def asks_openly(self, label: str) -> bool:
        """Whether a text ends in a question that nobody answers with yes or no: what, when, who."""
        return bool(_OPEN.match(self._last_sentence(label)))

    def asks_permission(self, label: str) -> bool:
        return bool(_PERMISSION.match(self._last_sentence(label)))

    def _last_sentence(self, label: str) -> str:
        return re.split(r"[.!?]\s+", self.text(label))[-1].lower()

    def topic(self, label: str) -> str:
        """What a question asks for, from its label: `start_time` of `doctor_ask_start_time`; else ""."""
        _, asks, topic = f"_{label.lower()}".rpartition("_ask_")
        return re.sub(r"[^a-z0-9]+", "_", topic).strip("_") if asks else ""

    def finds(self, signal: str) -> bool:
        """Whether a signal's name says that a look-up found it."""
        return "query" in words_of(signal) or bool(_FOUND.match(words_of(signal)[-1]) and not self.agrees(signal))

    def agrees(self, signal: str) -> str:
        """Which of "yes" and "no" a signal stands for, by its text ("No, thanks", not "No rooms") or name; else ""."""
        said = re.match(r"(\w+)\s*($|[,.!])", self.text(signal).lower())
        *before, last = words_of(signal)
        words = {*([said[1]] if said else []), *([last] if not before or last in ("yes", "no") else [])}
        return "no" if words & _NO else "yes" if words & _YES else ""

    def forgets(self, signal: str) -> bool:
        """Whether a signal says that the client doesn't know what was asked."""
        return bool(_FORGOT & {*words_of(signal), *words_of(self.text(signal))})


def read_task(text: str, file: str, name: str) -> Task:
    """A task out of a file of tasks; raises `InvalidInput` with the line of what is wrong."""
    tasks = _parse(text, file)
    if name not in tasks:
        fix = did_you_mean(name, list(tasks))
        raise InvalidInput([Problem(file, 0, f'there is no task "{name}"', fix)])
    return _Reader(text, file, name).task(tasks[name])


def _parse(text: str, file: str) -> dict[str, Any]:
    try:
        tasks = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise InvalidInput([Problem(file, error.lineno, f"not valid JSON: {error.msg}")]) from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput([Problem(file, 0, f"not valid JSON: {error}")]) from None
    if not isinstance(tasks, dict):
        fix = 'A STAR file of tasks is {"name": {"task": ..., "replies": {...}, "graph": {...}}, ...}.'
        raise InvalidInput([Problem(file, 1, "expected an object of tasks by name", fix)])
    return tasks


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f'"{twice}" is defined twice in one object')
    return dict(pairs)


class _Reader:
    """Checks a task's JSON and knows, for messages, on which line a name stands."""

    def __init__(self, text: str, file: str, name: str) -> None:
        self._text = text
        self._file = file
        self._name = name
        self._problems: list[Problem] = []

    def task(self, data: Any) -> Task:
        self._check_id(self._name, "task")
        replies, graph = self._section(data, "replies"), self._section(data, "graph")
        self._stop_at_problems()
        digits: set[str] = set()
        task = Task(
            name=self._name,
            aim=data["task"] if words_of(str(data.get("task", ""))) else self._name,
            replies={label: _plain(text, digits) for label, text in replies.items()},
            graph=graph,
            digits=frozenset(digits),
        )
        self._check(task)
        self._stop_at_problems()
        return task

    def _section(self, data: Any, section: str) -> dict[str, str]:
        found = data.get(section) if isinstance(data, dict) else None
        if not isinstance(found, dict):
            self._say(f'task "{self._name}" has no "{section}"', f'Add "{section}": {{label: text, ...}}.', self._name)
            return {}
        for label, value in found.items():
            if not isinstance(value, str):
                self._say(f'"{label}" in "{section}" of task "{self._name}" is not a text', "", section, label)
            self._check_id(label, "label", section, label)
        return found

    def _check_id(self, name: str, what: str, *path: str) -> None:
        if not _LABEL.fullmatch(name):
            fix = "Use up to 64 letters, digits, `_`, `.` and `-`, a letter or digit first."
            self._say(f'{what} "{name}" can\'t be the id of a {"workflow" if what == "task" else "node"}', fix, *path)

    def _check(self, task: Task) -> None:
        if not any(task.text(label) and not task.is_call(label) for label in task.labels):
            self._say(f'task "{self._name}" says nothing', 'Add the agent\'s texts to "replies".', "replies")
            return
        if len(task.labels) > _MOST_LABELS:
            self._say(f'task "{self._name}" has more than {_MOST_LABELS} labels', "Split it into several tasks.")
            return
        signals = set(task.signals)
        for label in task.labels:
            if not (task.text(label) or task.is_call(label) or label in signals):
                fix = did_you_mean(label, list(task.replies))
                self._say(f'"{label}" has no text in "replies" of task "{self._name}"', fix, "graph", label)

    def _say(self, message: str, fix: str, *path: str) -> None:
        self._problems.append(Problem(self._file, self._line(*path), message, fix))

    def _line(self, *path: str) -> int:
        """The line where the last name of the path first stands after those before it."""
        at = 0
        for name in (self._name, *path):
            found = self._text.find(json.dumps(name, ensure_ascii=False), at)
            at = found if found >= 0 else at
        return self._text.count("\n", 0, at) + 1

    def _stop_at_problems(self) -> None:
        if self._problems:
            raise InvalidInput(self._problems)


def _plain(text: str, digits: set[str]) -> str:
    """A reply text with `{price:d}` as `{price}`; slots that take numbers are added to `digits`."""

    def slot(match: re.Match[str]) -> str:
        name = re.sub(r"[^a-z0-9]+", "_", match[1].lower()).strip("_")
        name = name if name[:1].isalpha() else f"value_{name}".rstrip("_")
        if (match[2] or "").endswith(("d", "f", "n")):
            digits.add(name)
        return f"{{{name}}}"

    return " ".join(_SLOT.sub(slot, text).split())
