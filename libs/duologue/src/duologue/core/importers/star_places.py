"""Where the signals of a STAR task belong: which question was answered `yes`, which look-up found `available`.

The graph of a task is a bundle of ways. One begins at the start; each signal begins another, and nothing says where it
branches off. By the corpus' drawings a way that ends in a look-up or in a question goes on with the signals that have
been waiting for one, the closest first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from duologue.core.importers.draft import Draft, Edge, Node
from duologue.core.importers.samples import NOT_KNOWN, wordings, words_of
from duologue.core.importers.star_task import ANYTHING_ELSE, Task

_NEGATIVE = re.compile(r"nothing|unavailable|not_|fail|cannot|(^|_)(no|in|un)(correct|valid|_|success)|wrong|missing")
# Words of a sentence about what is not known that name nothing.
_FILLERS = frozenset(words_of("a the of or and can could do does is was t i you your my me for to not know remember"))
_KNOWN = ("agrees", "query")
_OPPOSITE = re.compile(r"^(un|in|im|dis|non|not_|no_|non_)")


class Places:
    """Builds the nodes and edges of a task in a draft that has its start, one signal after the other."""

    def __init__(self, task: Task, draft: Draft) -> None:
        self._task = task
        self._draft = draft
        self._signals = frozenset(task.signals)
        self._floating = list(task.signals)
        self._placed: dict[str, str] = {}  # signals and the first node that each was given a place at
        self._served: list[str] = []  # calls that the graph leads nowhere from, in the order they were given outcomes
        self._shared: list[str] = []  # answers that were given to a question and may be given to another
        self._add_nodes()

    def place_all(self) -> None:
        """Give every signal, and every way of the agent's, a place that the start leads to."""
        self._place_beside_siblings()
        self._place_forgotten()
        while self._serve_a_call() or self._serve_questions() or self._place_leftover() or self._place_orphan():
            pass

    # What the graph says itself

    def _add_nodes(self) -> None:
        task, nodes = self._task, self._draft.nodes
        for label in task.labels:
            if label in task.farewells:
                nodes[label] = Node("end", task.text(label))
            elif label not in self._signals and (task.is_in_graph(label) or label in (task.start, task.closing)):
                nodes[label] = Node("call", label) if task.is_call(label) else Node("say", task.text(label))
        nodes.setdefault(task.farewell, Node("end", "Thank you and goodbye."))
        for label in nodes:
            if label in task.graph:
                self._follow(label, task.graph[label])
        if task.start not in task.graph:
            sources = [label for label in nodes if task.is_source(label)]
            furthest = max(sources, key=lambda label: len(task.way_from(label)), default=None)
            if furthest is not None:
                self._follow(task.start, furthest)

    def _follow(self, label: str, following: str) -> None:
        node = self._draft.nodes[label]
        if following in self._signals:
            self._attach(label, [following])
        elif node.kind == "call":
            node.lead("found", Edge(following))
        else:
            node.lead("answer" if self._task.asks(label) else "go_on", Edge(following, default=True))

    def _edge(self, node: Node, signal: str) -> Edge:
        """The edge that a signal becomes at a node."""
        if node.kind == "call":
            return Edge(self._target(signal))
        if self._task.forgets(signal):
            return Edge(self._target(signal), list(NOT_KNOWN))
        text = self._task.text(signal) or " ".join(words_of(signal)).capitalize()
        return Edge(self._target(signal), wordings(signal, text))

    def _target(self, signal: str) -> str:
        """The node that a signal leads to: over other signals, and to the closing where the graph ends."""
        end = next((label for label in self._task.way_from(signal) if label not in self._signals), None)
        return self._task.closing if end is None else end

    # Signals whose place is named

    def _place_beside_siblings(self) -> None:
        """Where the graph leads from a node to one of several signals that go together, the others go there too."""
        placed = list(self._placed.items())
        for signal in list(self._floating):
            siblings = [name for other, name in placed if self._family(other) == self._family(signal)]
            if siblings:
                self._attach(siblings[0], [signal])

    def _place_forgotten(self) -> None:
        """`info_missing` and its like go to the questions that their text names, else to the last one so far."""
        passed: list[str] = []
        for signal in [one for one in self._floating if self._task.forgets(one) and not self._task.finds(one)]:
            asked = self._questions_named(signal) or self._last_questions(passed)
            passed.append(signal)
            for label in asked:
                self._attach(label, [signal])

    def _questions_named(self, signal: str) -> list[str]:
        """Questions that share most words with one of the things a signal's text lists."""
        questions = {
            label: set(words_of(f"{label} {self._task.text(label)}")) - {*words_of(signal), *_FILLERS}
            for label in self._draft.nodes
            if self._task.asks(label) and label not in self._task.way_from(signal)
        }
        named: list[str] = []
        for thing in re.split(r"[,;]|\b(?:or|and|nor)\b", self._task.text(signal).lower()):
            shared = {label: len(words & set(words_of(thing))) for label, words in questions.items()}
            most = max(shared.values(), default=0)
            named.extend(label for label, count in shared.items() if count == most > 0)
        return list(dict.fromkeys(named))

    def _last_questions(self, passed: Sequence[str]) -> list[str]:
        """The last question before a look-up: on the way from the start, or from the signal passed before."""
        main = self._task.way_from(self._task.start)
        way = [label for label in self._task.way_from(passed[-1]) if label not in main] if passed else main
        calls = [index for index, label in enumerate(way) if self._task.is_call(label)]
        questions = [label for label in way[: calls[0] if calls else None] if self._task.asks(label)]
        return questions[-1:]

    # Signals by their place

    def _reached(self) -> list[str]:
        return self._draft.reached(self._draft.start)

    def _is_open(self, label: str) -> bool:
        return not self._draft.nodes[label].edges and self._draft.nodes[label].kind != "end"

    def _serve_a_call(self) -> bool:
        """Give the closest call that the graph leads nowhere from its outcomes."""
        calls = [label for label in self._reached() if self._is_open(label) and self._task.is_call(label)]
        if not calls:
            return False
        families = self._families_for_calls()
        if families:
            self._attach(calls[0], families[0])
        else:
            self._draft.nodes[calls[0]].lead("found", Edge(self._task.closing))
        self._served.append(calls[0])
        return True

    def _families_for_calls(self) -> list[list[str]]:
        """Families of outcomes, those first that lead on to a further look-up or question.

        Signals that might be either are taken for outcomes only as far as there are calls to spare.
        """
        found = self._families(signal for signal in self._floating if self._task.finds(signal))
        unclear = self._families(signal for signal in self._floating if self._is_unclear(signal))
        waiting = sum(self._is_open(label) and self._task.is_call(label) for label in self._draft.nodes)
        families = found + unclear[: max(waiting - len(found), 0)]
        return sorted(families, key=lambda family: (not self._leads_on(family), "query" in words_of(family[0])))

    def _is_unclear(self, signal: str) -> bool:
        return not (self._task.finds(signal) or self._task.agrees(signal))

    def _leads_on(self, family: Sequence[str]) -> bool:
        ends = [self._task.way_from(signal)[-1] for signal in family]
        return any(end in self._draft.nodes and (self._task.is_call(end) or self._task.asks(end)) for end in ends)

    def _serve_questions(self) -> bool:
        for label in self._open_questions(self._reached()):
            signals = self._named_answers(label) if self._task.asks_openly(label) else self._answers(label)
            if signals:
                self._attach(label, signals)
                return True
        return False

    def _open_questions(self, labels: Iterable[str]) -> list[str]:
        return [label for label in labels if self._is_open(label) and self._task.asks(label)]

    def _named_answers(self, label: str) -> list[str]:
        """Answers to a "which?": what names a thing; yes and no only where nobody asks for those."""
        named = self._families(signal for signal in self._floating if self._is_unclear(signal))
        asking = [other for other in self._open_questions(self._draft.nodes) if self._task.asks_openly(other)]
        if len(asking) == 1:
            named = [[signal for family in named for signal in family]]
        words = set(words_of(f"{label} {self._task.text(label)}"))
        named.sort(key=lambda family: not words & {word for signal in family for word in words_of(signal)})
        if named and named[0]:
            return named[0]
        polar = any(self._task.asks_yes_or_no(other) for other in self._draft.nodes)
        return [] if polar else self._agreeing()

    def _answers(self, label: str) -> list[str]:
        """Answers to any other question, which several may share: yes, no, and what else is said in their place."""
        others = [other for other in self._open_questions(self._draft.nodes) if other != label]
        agreeing = self._agreeing()
        if self._starts_action(agreeing) and _NEGATIVE.search(label):
            # Who says that it failed did not ask for that yes, if anybody else does.
            hopeful = [other for other in others if not _NEGATIVE.search(other)]
            if hopeful or not set(agreeing) & set(self._floating):
                return []
        taken = {signal for family in self._families_for_calls() for signal in family} if agreeing else set()
        unclear = [signal for signal in self._floating if self._is_unclear(signal) and signal not in taken]
        if any(self._task.asks_openly(other) for other in others):
            unclear = []
        if agreeing or unclear:
            self._shared = list(dict.fromkeys([*self._shared, *agreeing, *unclear]))
        shared = [signal for signal in self._shared if self._is_unclear(signal)]
        return [*agreeing, *(unclear or shared)]

    def _agreeing(self) -> list[str]:
        """The yes and no to give next: those of the lowest number; when all have a place, the last ones again."""
        floating = self._families(signal for signal in self._floating if self._task.agrees(signal))
        placed = self._families(signal for signal in self._shared if self._task.agrees(signal))
        return floating[0] if floating else placed[-1] if placed else []

    def _starts_action(self, signals: Iterable[str]) -> bool:
        yes = [self._target(signal) for signal in signals if self._task.agrees(signal) == "yes"]
        return any(self._draft.nodes[target].kind == "call" for target in yes)

    def _place_leftover(self) -> bool:
        """Signals that nothing waited for: what is found goes to the last call, an answer to the last question."""
        for family in self._families(self._floating):
            answers = any(self._task.agrees(signal) or self._task.forgets(signal) for signal in family)
            call = None if answers else self._last_call()
            self._attach(call or self._last_question(family), family)
            return True
        return False

    def _last_call(self) -> str | None:
        calls = [label for label in self._reached() if self._task.is_call(label)]
        return self._served[-1] if self._served else calls[-1] if calls else None

    def _last_question(self, family: Sequence[str]) -> str:
        """The last one to say yes or no to, else the last; "anything else?" for what only leads to the goodbye."""
        ends = [self._draft.nodes[self._target(signal)].kind == "end" for signal in family]
        if ends and all(ends) and ANYTHING_ELSE in self._draft.nodes:
            return ANYTHING_ELSE
        asked = [label for label in self._reached() if self._task.asks(label)]
        agrees = any(self._task.agrees(signal) for signal in family)
        polar = [label for label in asked if agrees and self._task.asks_yes_or_no(label)]
        return (polar or asked or [self._draft.start])[-1]

    def _place_orphan(self) -> bool:
        """A way of the agent's that nothing leads to: a question follows a question, anything else a look-up."""
        reached = self._reached()
        if ANYTHING_ELSE in self._draft.nodes and any(self._is_open(label) for label in reached):
            reached += self._draft.reached(ANYTHING_ELSE)  # by way of the dead ends, in the end
        lost = [
            label
            for label, node in self._draft.nodes.items()
            if label not in reached and label != ANYTHING_ELSE and node.kind != "end"
        ]
        if not lost:
            return False
        orphan = next((label for label in lost if self._task.is_source(label)), lost[0])
        about = [word for word in words_of(orphan) if word not in (self._task.domain, "ask", "inform")]
        call = None if self._task.asks(orphan) else self._last_call()
        if call is not None:
            self._draft.nodes[call].lead("_".join(about) or orphan, Edge(orphan))
        else:
            reply = Edge(orphan, [f"It is about {' '.join(about) or self._task.domain}."])
            self._draft.nodes[self._last_question([])].lead("_".join(about) or orphan, reply)
        return True

    def _attach(self, label: str, signals: Sequence[str]) -> None:
        node = self._draft.nodes[label]
        for signal in signals:
            node.lead(signal, self._edge(node, signal))
            self._placed.setdefault(signal, label)
            if signal in self._floating:
                self._floating.remove(signal)

    # Signals that go together

    def _families(self, signals: Iterable[str]) -> list[list[str]]:
        """Signals by family, numbered ones in the order of their numbers. Those without kin count as one family."""
        families: dict[str, list[str]] = {}
        for signal in signals:
            families.setdefault(self._family(signal), []).append(signal)
        alone = [name for name, family in families.items() if len(family) == 1 and not name.startswith(_KNOWN)]
        if len(alone) > 1:
            families["alone"] = [signal for name in alone for signal in families.pop(name)]
        return [families[name] for name in sorted(families, key=_number)]

    def _family(self, signal: str) -> str:
        """A name that `available` shares with `unavailable`, `yes` with `no`, `paid_in_time` with `paid_late`."""
        number = _number(signal)
        if self._task.agrees(signal):
            return f"agrees{number}"
        if "query" in words_of(signal):
            return f"query{number}"
        opposite = _OPPOSITE.sub("", signal.removesuffix(number))
        return (opposite if opposite + number in self._signals else signal).split("_", maxsplit=1)[0] + number


def _number(name: str) -> str:
    return name[len(name.rstrip("0123456789")) :]
