"""Reading a workflow from its YAML text, and saying what is wrong with its graph."""

from __future__ import annotations

from collections.abc import Iterator

from duologue.core.problems import InvalidInput, Problem, did_you_mean
from duologue.core.source import Path, Source, parse_yaml, validate
from duologue.core.workflow import PLACEHOLDER, CallNode, EndNode, Outcome, SayNode, Workflow

# A decision's options are lettered: of `reply` all are, of `aside` one letter is for none of them.
_LETTERS = 26


def load_workflow(text: str, file: str = "<workflow>") -> Workflow:
    """A checked workflow. Raises `InvalidInput` with every mistake, each with its line and how to mend it."""
    source = parse_yaml(text, file)
    workflow = validate(Workflow, source)
    problems = list(_graph_problems(workflow, source)) or list(_text_problems(workflow, source))
    if problems:
        raise InvalidInput(problems)
    return workflow


def _edges_key(workflow: Workflow, name: str) -> str:
    return "outcomes" if isinstance(workflow.nodes[name], CallNode) else "replies"


def _edge_path(workflow: Workflow, name: str, edge_id: str) -> Path:
    return ("nodes", name, _edges_key(workflow, name), edge_id)


def _graph_problems(workflow: Workflow, source: Source) -> Iterator[Problem]:
    dangling = list(_dangling(workflow, source))
    yield from dangling
    yield from _edge_rules(workflow, source)
    yield from _intention_problems(workflow, source)
    if dangling:
        return  # reachability and loops mean nothing while edges lead nowhere
    yield from _unreachable(workflow, source)
    undeclared = list(_undeclared_loops(workflow, source))
    yield from undeclared or _needless_loops(workflow, source)
    yield from _dead_ends(workflow, source)


def _dangling(workflow: Workflow, source: Source) -> Iterator[Problem]:
    names = list(workflow.nodes)

    def unknown(path: Path, text: str, target: str) -> Problem:
        if target in workflow.anytime:
            return source.problem(path, text, "Anytime nodes are never led to: they may be said anywhere.")
        fix = did_you_mean(target, names)
        close = fix.removeprefix('Did you mean "').removesuffix('"?')
        if close in workflow.nodes:
            fix = f'Did you mean "{close}" (line {source.line(("nodes", close))})?'
        return source.problem(path, text, fix)

    if workflow.start not in workflow.nodes:
        yield unknown(("start",), f'start is "{workflow.start}", which is not a node', workflow.start)
    for name, edge_id, edge in workflow.edges():
        if edge.to not in workflow.nodes:
            text = f'edge "{edge_id}" of node "{name}" leads to "{edge.to}", which is not a node'
            yield unknown((*_edge_path(workflow, name, edge_id), "to"), text, edge.to)
    if sum(bool(anytime.when) for anytime in workflow.anytime.values()) >= _LETTERS:
        yield source.problem(
            ("anytime",), f"more than {_LETTERS - 1} anytime nodes have wordings", "Join some of them."
        )
    for name in workflow.anytime:
        if name in workflow.nodes:
            yield source.problem(
                ("anytime", name),
                f'anytime node "{name}" has the id of a node',
                f"It stands on line {source.line(('nodes', name))} too: rename one.",
            )


def _edge_rules(workflow: Workflow, source: Source) -> Iterator[Problem]:
    for name, node in workflow.nodes.items():
        if isinstance(node, EndNode):
            continue
        key = _edges_key(workflow, name)
        if not node.edges:
            what = "outcome" if isinstance(node, CallNode) else "reply"
            fix = (
                "Give the call at least one outcome." if what == "outcome" else "Add a reply, or make it an `end` node."
            )
            missing = "has no outcomes" if what == "outcome" else "is a dead end: it has no replies"
            yield source.problem(("nodes", name, key), f'node "{name}" {missing}', fix)
        defaults = [edge_id for edge_id, edge in node.edges.items() if edge.default]
        for edge_id in defaults[1:]:
            yield source.problem(
                _edge_path(workflow, name, edge_id),
                f'node "{name}" has two default edges, "{defaults[0]}" and "{edge_id}"',
                "Keep `default: true` on one of them.",
            )
        if isinstance(node, SayNode):
            if len(node.replies) > _LETTERS:
                yield source.problem(
                    ("nodes", name, key),
                    f'node "{name}" has {len(node.replies)} replies, more than the {_LETTERS} of one decision',
                    "Make kinds of them, or ask in two steps.",
                )
            for edge_id, reply in node.replies.items():
                if not reply.examples and not reply.default:
                    yield source.problem(
                        _edge_path(workflow, name, edge_id),
                        f'reply "{edge_id}" of node "{name}" has no examples',
                        "Add `examples:` with the wordings of a client, or mark it `default: true`.",
                    )


def _intention_problems(workflow: Workflow, source: Source) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, intention in enumerate(workflow.intentions):
        line = source.line(("intentions", index))
        if intention.id in first:
            yield source.problem(
                ("intentions", index, "id"),
                f'intention "{intention.id}" is defined twice',
                f"It stands on line {first[intention.id]} too: rename one.",
            )
        first.setdefault(intention.id, line)
        for name, outcome in intention.outcomes.items():
            path = ("intentions", index, "outcomes", name)
            node = workflow.nodes.get(name)
            if not isinstance(node, CallNode):
                calls = [call for call, other in workflow.nodes.items() if isinstance(other, CallNode)]
                yield source.problem(path, f'"{name}" is not a call node', did_you_mean(name, calls))
            elif outcome not in node.outcomes:
                fix = did_you_mean(outcome, list(node.outcomes))
                yield source.problem(path, f'call node "{name}" has no outcome "{outcome}"', fix)


def _unreachable(workflow: Workflow, source: Source) -> Iterator[Problem]:
    reached = _reach(workflow, workflow.start)
    for name in workflow.nodes:
        if name not in reached:
            yield source.problem(
                ("nodes", name),
                f'node "{name}" can\'t be reached from the start, "{workflow.start}"',
                "Lead an edge to it, move it to `anytime`, or remove it.",
            )


def _reach(workflow: Workflow, start: str, without: str = "") -> set[str]:
    """The nodes that lie on ways from `start`; of ways on which no call returns the fact `without`, if it is given."""
    reached: set[str] = set()
    pending = [start]
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            edges = workflow.nodes[name].edges.values()
            pending.extend(edge.to for edge in edges if not (isinstance(edge, Outcome) and without in edge.returns))
    return reached


def _undeclared_loops(workflow: Workflow, source: Source) -> Iterator[Problem]:
    """Back edges of a depth-first walk over the edges that are not declared as loops."""
    done: set[str] = set()
    for root in workflow.nodes:
        if root in done:
            continue
        path = [root]
        pending = [iter(workflow.nodes[root].edges.items())]
        while pending:
            for edge_id, edge in pending[-1]:
                if edge.loop:
                    continue
                if edge.to in path:
                    cycle = " -> ".join([*path[path.index(edge.to) :], edge.to])
                    yield source.problem(
                        _edge_path(workflow, path[-1], edge_id),
                        f'edge "{edge_id}" of node "{path[-1]}" closes an undeclared loop: {cycle}',
                        "Add `loop: true` to the edge if it leads back on purpose.",
                    )
                elif edge.to not in done:
                    path.append(edge.to)
                    pending.append(iter(workflow.nodes[edge.to].edges.items()))
                    break
            else:
                done.add(path.pop())
                pending.pop()


def _needless_loops(workflow: Workflow, source: Source) -> Iterator[Problem]:
    for name, edge_id, edge in workflow.edges():
        if edge.loop and name not in _reach(workflow, edge.to):
            yield source.problem(
                (*_edge_path(workflow, name, edge_id), "loop"),
                f'edge "{edge_id}" of node "{name}" is declared as a loop, but "{edge.to}" does not lead back',
                "Remove `loop: true`.",
            )


def _dead_ends(workflow: Workflow, source: Source) -> Iterator[Problem]:
    leads_on = {name for name, node in workflow.nodes.items() if isinstance(node, EndNode)}
    grew = True
    while grew:
        more = {name for name, _, edge in workflow.edges() if not edge.loop and edge.to in leads_on} - leads_on
        leads_on |= more
        grew = bool(more)
    for name, node in workflow.nodes.items():
        if name not in leads_on and node.edges:
            yield source.problem(
                ("nodes", name),
                f'node "{name}" is a dead end: no way leads from it to an `end` node without a loop',
                "Lead one of its edges on to an end.",
            )


def _text_problems(workflow: Workflow, source: Source) -> Iterator[Problem]:
    """Placeholders that nothing can fill."""
    returned = {
        fact
        for node in workflow.nodes.values()
        if isinstance(node, CallNode)
        for outcome in node.outcomes.values()
        for fact in outcome.returns
    }
    given = set.intersection(*(set(intention.facts) for intention in workflow.intentions))
    without = {fact: _reach(workflow, workflow.start, without=fact) for fact in returned - given}
    for path, text in _texts(workflow):
        for brace in PLACEHOLDER.sub("", text):
            if brace in "{}":
                fix = "A placeholder is the name of a fact in lower case: {name}."
                yield source.problem(path, f'a stray "{brace}" in a text', fix)
                break
        for fact in dict.fromkeys(PLACEHOLDER.findall(text)):
            if fact in without and path[0] == "nodes" and path[1] in without[fact]:
                fix = "Return it from every outcome that leads here, or add it to the facts of each intention."
                yield source.problem(path, f"on some way to this node nothing has filled {{{fact}}}", fix)
            elif fact not in given and fact not in returned:
                some = any(fact in intention.facts for intention in workflow.intentions)
                fix = (
                    f"Not every intention has it: add `{fact}` to the facts of each."
                    if some
                    else f"Add `{fact}` to the facts of each intention, or to the `returns` of an outcome."
                )
                yield source.problem(path, f"nothing fills {{{fact}}}", fix)


def _texts(workflow: Workflow) -> Iterator[tuple[Path, str]]:
    for name, node in workflow.nodes.items():
        if isinstance(node, CallNode):
            for argument, text in node.arguments.items():
                yield ("nodes", name, "arguments", argument), text
            for outcome_id, outcome in node.outcomes.items():
                for fact, text in outcome.returns.items():
                    yield (*_edge_path(workflow, name, outcome_id), "returns", fact), text
        elif isinstance(node, EndNode):
            yield ("nodes", name, "end"), node.end
        else:
            yield ("nodes", name, "say"), node.say
            for edge_id, reply in node.replies.items():
                for index, example in enumerate(reply.examples):
                    yield (*_edge_path(workflow, name, edge_id), "examples", index), example
    for name, anytime in workflow.anytime.items():
        yield ("anytime", name, "say"), anytime.say
        for index, wording in enumerate(anytime.when):
            yield ("anytime", name, "when", index), wording
