"""Import of a Mermaid flowchart as a workflow.

A box says its text, and so does a rhombus that asks the client ("Do you have it?"): its edges are replies. Any other
rhombus, and a hexagon, subroutine or database, is a call, and its edges are outcomes. What nothing leads on from is an
end.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from duologue.core.importers.draft import (
    Draft,
    Edge,
    Node,
    declare_loops,
    fill_slots,
    only_looping,
    put_in_reading_order,
    to_yaml,
)
from duologue.core.importers.samples import wordings
from duologue.core.problems import InvalidInput, Problem

_HEADER = re.compile(r"(?P<kind>[\w-]+)(?:[ \t]+(?P<direction>[A-Z]{2})\b)?[ \t]*")
_FLOWCHARTS = ("flowchart", "graph", "flowchart-elk")
_DIRECTIONS = ("TB", "TD", "BT", "RL", "LR", None)
_LAYOUT = re.compile(r"(subgraph|direction|classDef|class|style|linkStyle|click|accTitle|accDescr)\b(?!\s*(--|==|-\.))")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*(?:[-.](?=[A-Za-z0-9_])[A-Za-z0-9_]+)*")
# Brackets of a shape, the longest first.
_SHAPES = {
    "(((": (")))",),
    "((": ("))",),
    "([": ("])",),
    "[[": ("]]",),
    "[(": (")]",),
    "[/": ("/]", "\\]"),
    "[\\": ("\\]", "/]"),
    "{{": ("}}",),
    "{": ("}",),
    "(": (")",),
    "[": ("]",),
    ">": ("]",),
}
# No more fit in one workflow.
_MOST_BOXES = 500
_CALLS = frozenset(["{", "{{", "[[", "[("])
# A question to the client, rather than one that a look-up answers, as "Paid?".
_ASKS = re.compile(r"(?=.*\b(you|your|yours|i|me)\b).*\?", re.IGNORECASE | re.DOTALL)
_CLASS = re.compile(r":::[\w-]+")
_LINK = re.compile(
    r"""(?:
        --\s*(?P<text>"[^"]*"|[^\s>ox-](?:(?!--).)*?|[ox]\w(?:(?!--).)*?)\s*--+[>-]   # -- text -->
      | -\.\s*(?P<dotted>"[^"]*"|[^\s.>-](?:(?!\.-).)*?)\s*\.+->?                     # -. text .->
      | ==\s*(?P<thick>"[^"]*"|[^\s=>](?:(?!==).)*?)\s*==+[>=]                        # == text ==>
      | (?:--+[>-]|--+[ox](?=\s)|-\.+->?|==+[>=])(?:\s*\|(?P<piped>"[^"]*"|[^|]*)\|)?   # -->|text|
    )""",
    re.VERBOSE,
)
_ENTITY = re.compile(r"#(\w+);")


def import_mermaid(text: str, file: str) -> str:
    """A flowchart as the YAML text of a workflow file; ids of nodes are kept.

    Raises `InvalidInput` with every mistake, each with its line in `file` and how to mend it.
    """
    chart = _Chart(file)
    chart.read(text)
    draft = _draft(chart)
    declare_loops(draft)
    chart.stop_at(_endless(chart, draft))
    put_in_reading_order(draft)
    fill_slots(draft)
    return to_yaml(draft, file)


@dataclass
class _Box:
    line: int
    text: str = ""
    shape: str = ""


@dataclass(frozen=True)
class _Arrow:
    source: str
    target: str
    label: str
    line: int


@dataclass
class _Chart:
    """What a flowchart says: its boxes by id, in the order they are first named, and its arrows."""

    file: str
    title: str = ""
    boxes: dict[str, _Box] = field(default_factory=dict)
    arrows: list[_Arrow] = field(default_factory=list)
    groups: set[str] = field(default_factory=set)

    def problem(self, line: int, message: str, fix: str) -> Problem:
        return Problem(self.file, line, message, fix)

    def stop_at(self, problems: Iterator[Problem]) -> None:
        found = list(problems)
        if found:
            raise InvalidInput(found)

    def read(self, text: str) -> None:
        statements = self._without_header(list(_statements(self._without_frontmatter(text))))
        self.stop_at(problem for line, statement in statements for problem in self._read_statement(line, statement))

    def _without_frontmatter(self, text: str) -> str:
        """The text with its frontmatter blanked out, so that lines keep their numbers."""
        match = re.match(r"\s*---[ \t]*\n(.*?)\n---[ \t]*(?:\n|$)", text, re.DOTALL)
        if match is None:
            return text
        title = re.search(r"^title:[ \t]*(.+)$", match[1], re.MULTILINE)
        self.title = title[1].strip().strip("\"'") if title else ""
        return "\n" * match[0].count("\n") + text[match.end() :]

    def _without_header(self, statements: list[tuple[int, str]]) -> list[tuple[int, str]]:
        line, first = statements[0] if statements else (1, "")
        header = _HEADER.match(first)
        kind = header["kind"] if header else ""
        fix = "Draw a flowchart: begin with `flowchart TD` or `flowchart LR`."
        if header is None or kind not in _FLOWCHARTS:
            what = f'"{kind}" is not a flowchart' if kind else "expected a flowchart"
            raise InvalidInput([self.problem(line, what, fix)])
        if header["direction"] not in _DIRECTIONS:
            raise InvalidInput([self.problem(line, f'unknown direction "{header["direction"]}"', fix)])
        rest = first[header.end() :]
        return [(line, rest), *statements[1:]] if rest else statements[1:]

    def _read_statement(self, line: int, statement: str) -> Iterator[Problem]:
        if statement == "end" or _LAYOUT.match(statement):
            self.groups.update(re.findall(r"^subgraph\s+([\w.-]+)", statement))
            return
        reader = _Statement(statement, line, self.boxes)
        sources = reader.names()
        while sources and (label := reader.link()) is not None:
            targets = reader.names()
            self.arrows.extend(_Arrow(source, target, label, line) for source in sources for target in targets)
            sources = targets
        if not sources or reader.rest:
            said = reader.rest or "the end of the line"
            fix = "Expected boxes and arrows such as `a[Text] -->|reply| b`; put texts with brackets in quotes."
            yield self.problem(line, f"can't read {said!r}" if reader.rest else f"expected a box at {said}", fix)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of each statement, without comments; a quoted text may go on over lines."""
    lines = iter(enumerate(text.split("\n"), start=1))
    for number, line in lines:
        whole = "" if line.lstrip().startswith("%%") else line
        while whole.count('"') % 2 and (more := next(lines, None)) is not None:
            whole += " " + more[1].strip()
        for statement in re.findall(r'(?:"[^"]*"|#\w+;|[^";]|"(?=[^"]*$))+', whole):
            bare = re.sub(r'\s%%[^"]*$', "", statement).strip()
            if bare:
                yield number, bare


class _Statement:
    """Reads boxes and links off the front of a statement."""

    def __init__(self, text: str, line: int, boxes: dict[str, _Box]) -> None:
        self.rest = text
        self._line = line
        self._boxes = boxes

    def names(self) -> list[str]:
        """Boxes joined by `&`; none where none stands next."""
        names = [name for name in [self._box()] if name]
        while names and self.rest.startswith("&"):
            before = self.rest
            self._skip(1)
            name = self._box()
            if not name:
                self.rest = before
                break
            names.append(name)
        return names

    def link(self) -> str | None:
        """The label of the link that stands next, "" for none; None where no link does."""
        match = _LINK.match(self.rest)
        if match is None:
            return None
        self._skip(match.end())
        return _clean(next((text for text in match.groups() if text is not None), ""))

    def _box(self) -> str:
        name = _NAME.match(self.rest)
        if name is None:
            return ""
        self.rest = self.rest[name.end() :]
        box = self._boxes.setdefault(name[0], _Box(self._line))
        self._shape(box)
        styled = _CLASS.match(self.rest)
        self._skip(styled.end() if styled else 0)
        return name[0]

    def _shape(self, box: _Box) -> None:
        opening = next((opening for opening in _SHAPES if self.rest.startswith(opening)), None)
        if opening is None:
            return
        inner = self.rest[len(opening) :]
        closings = "|".join(map(re.escape, _SHAPES[opening]))
        match = re.match(rf'\s*(?:"([^"]*)"|(?!")(.*?))\s*(?:{closings})', inner)
        if match is not None:
            box.text, box.shape = _clean(match[1] if match[1] is not None else match[2]), opening
            self.rest = inner[match.end() :]

    def _skip(self, count: int) -> None:
        self.rest = self.rest[count:].lstrip()


def _clean(text: str) -> str:
    """A label as plain text: without quotes, Markdown backticks, line breaks and Mermaid's `#quot;` entities."""
    text = text.strip().strip('"').strip("`")
    text = re.sub(r"<br\s*/?>", " ", text)
    text = _ENTITY.sub(lambda match: html.unescape(f"&#{match[1]};" if match[1].isdigit() else f"&{match[1]};"), text)
    return " ".join(text.split())


def _draft(chart: _Chart) -> Draft:
    chart.stop_at(_box_problems(chart))
    title = chart.title or PurePath(chart.file).stem.replace("_", " ").replace("-", " ").strip().capitalize()
    title = title if _slug(title) else "Imported workflow"
    draft = Draft(
        workflow=_slug(title),
        title=title,
        role="an assistant",
        persona="I help clients step by step, and I am brief and friendly.",
        goal=f"get help with {title[0].lower()}{title[1:]}",
        start=_roots(chart)[0],
    )
    leaving = {arrow.source for arrow in chart.arrows}
    for name, box in chart.boxes.items():
        draft.nodes[name] = _node(name, box, leads_on=name in leaving)
    for arrow in chart.arrows:
        _lead(draft.nodes[arrow.source], arrow)
    chart.stop_at(_lost(chart, draft))
    return draft


def _node(name: str, box: _Box, *, leads_on: bool) -> Node:
    text = box.text or name
    if _is_call(box):
        return Node("call", _slug(text) or name)
    return Node("say", text) if leads_on else Node("end", text)


def _is_call(box: _Box) -> bool:
    return box.shape in _CALLS and not (box.shape == "{" and _ASKS.fullmatch(box.text))


def _lead(node: Node, arrow: _Arrow) -> None:
    if node.kind == "call":
        node.lead(_slug(arrow.label) or "found", Edge(arrow.target))
    elif arrow.label:
        node.lead(_slug(arrow.label) or "reply", Edge(arrow.target, wordings(arrow.label, arrow.label)))
    else:
        node.lead("answer" if "?" in node.text else "go_on", Edge(arrow.target, default=True))


def _slug(text: str) -> str:
    """An id out of a text: its words in lower case, as many as fit; "" where it has no letters or digits."""
    slug = re.sub(r"[^a-z0-9]+", "_", re.sub("['\N{RIGHT SINGLE QUOTATION MARK}]", "", text.lower())).strip("_")
    return slug if len(slug) <= 40 else slug[:40].rpartition("_")[0] or slug[:40]


def _roots(chart: _Chart) -> list[str]:
    entered = {arrow.target for arrow in chart.arrows if arrow.target != arrow.source}
    return [name for name in chart.boxes if name not in entered] or list(chart.boxes)


def _box_problems(chart: _Chart) -> Iterator[Problem]:
    if not chart.boxes:
        yield chart.problem(0, "the flowchart has no boxes", "Add some, such as `a[Hello] --> b([Goodbye])`.")
    if len(chart.boxes) > _MOST_BOXES:
        yield chart.problem(0, f"the flowchart has more than {_MOST_BOXES} boxes", "Split it into several.")
        return
    for name, box in chart.boxes.items():
        leaving = [arrow for arrow in chart.arrows if arrow.source == name]
        if _is_call(box) and not leaving:
            yield chart.problem(
                box.line,
                f'no arrow leaves "{name}", which is a call by its shape',
                "Add an arrow for each outcome, or draw it as [a box] to make it an end.",
            )
        yield from _alike(chart, name, leaving)
        if name in chart.groups and not box.shape:
            fix = "Draw the arrow between two boxes inside the subgraphs."
            yield chart.problem(box.line, f'"{name}" is a subgraph, not a box', fix)


def _alike(chart: _Chart, name: str, leaving: list[_Arrow]) -> Iterator[Problem]:
    """Arrows from one box to different boxes that nothing tells apart."""
    first: dict[str, _Arrow] = {}
    for arrow in leaving:
        other = first.setdefault(arrow.label, arrow)
        if other.target != arrow.target:
            labelled = f'are labelled "{arrow.label}"' if arrow.label else "have no label"
            yield chart.problem(
                arrow.line,
                f'two arrows from "{name}" {labelled}: to "{other.target}" and to "{arrow.target}"',
                f"Label each with what tells them apart: `{name} -->|...| {arrow.target}`.",
            )


def _lost(chart: _Chart, draft: Draft) -> Iterator[Problem]:
    reached = draft.reached(draft.start)
    for name, box in chart.boxes.items():
        if name not in reached:
            fix = "Lead an arrow to it, or remove it."
            yield chart.problem(box.line, f'"{name}" can\'t be reached from the first box, "{draft.start}"', fix)


def _endless(chart: _Chart, draft: Draft) -> Iterator[Problem]:
    for name in only_looping(draft):
        line = chart.boxes[name].line
        fix = "Add an arrow to a box that nothing leads on from: it ends the dialogue."
        yield chart.problem(line, f'every arrow from "{name}" leads back: the dialogue could never end there', fix)
