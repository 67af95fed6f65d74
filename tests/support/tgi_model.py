"""What stands behind an imitated TGI: a model as a table of chances, and how TGI draws tokens from it.

Temperature, top-k, top-p, grammar, stop strings, seeds and ends are done as TGI does them. Penalties, `typical_p` and
`watermark` are taken and change nothing.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from re import _constants as codes
from re import _parser as parser
from typing import Any, NamedTuple, Protocol

BEGIN, END = "<s>", "</s>"
Chances = Mapping[str, float]  # by the text of a token, the natural logarithm of its probability


class Token(NamedTuple):
    """`is_more`: a further byte of the letter before it, which has the text."""

    id: int
    text: str
    is_more: bool = False


class Model(Protocol):
    """A tokenizer, and the chances of the next token."""

    def tokens(self, text: str) -> list[Token]:
        """Without a token that begins the text."""

    def next(self, adapter: str, prompt: str, written: str) -> Chances:
        """After the prompt, which begins with `BEGIN`, and what was written. `adapter` is "" for the base model."""

    def token(self, text: str) -> Token: ...


@dataclass(frozen=True)
class Drawing:
    """How tokens are drawn. `seed` is None for greedy."""

    most: int
    seed: int | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    stop: Sequence[str] = ()
    pattern: str = ""
    top_n: int = 0


@dataclass(frozen=True)
class Place:
    """One token that was written, and those that were likeliest in its place."""

    token: Token
    logprob: float
    top: list[tuple[Token, float]]

    @property
    def text(self) -> str:
        """What it adds to the answer."""
        return "" if self.token.text == END else self.token.text


@dataclass(frozen=True)
class Writing:
    places: list[Place]
    finish: str

    @property
    def text(self) -> str:
        return "".join(place.text for place in self.places)


def write(model: Model, adapter: str, prompt: str, drawing: Drawing) -> Writing:
    """Raises `re.error` for a pattern that is none."""
    grammar = Grammar(drawing.pattern) if drawing.pattern else None
    dice = None if drawing.seed is None else random.Random(drawing.seed)
    places: list[Place] = []
    written = ""
    while len(places) < drawing.most:
        chances = _processed(dict(model.next(adapter, prompt, written)), drawing, grammar, written)
        text = _likeliest(chances) if dice is None else dice.choices(list(chances), _weights(chances))[0]
        place = Place(model.token(text), chances[text], _top(model, chances, drawing.top_n))
        places.append(place)
        if text == END:
            return Writing(places, "eos_token")
        written += text
        if any(written.endswith(stop) for stop in drawing.stop):
            return Writing(places, "stop_sequence")
    return Writing(places, "length")


def read(model: Model, adapter: str, prompt: Sequence[Token]) -> list[float | None]:
    """The log-probability of each token of a prompt; None for the first, and for one that the model never writes."""
    logprobs: list[float | None] = [None]
    text = prompt[0].text
    for token in prompt[1:]:
        logprobs.append(model.next(adapter, text, "").get(token.text))
        text += token.text * (not token.is_more)
    return logprobs


def text_of(tokens: Sequence[Token]) -> str:
    return "".join(token.text for token in tokens if not token.is_more)


def _processed(chances: dict[str, float], drawing: Drawing, grammar: Grammar | None, written: str) -> Chances:
    """The chances as TGI tells them: after everything that was asked for. Untouched where nothing was."""
    if grammar is not None:
        chances = _normal({text: chance for text, chance in chances.items() if grammar.takes(written, text)})
    if drawing.seed is None:
        return chances
    if drawing.temperature != 1.0:
        chances = _normal({text: chance / drawing.temperature for text, chance in chances.items()})
    ranked = sorted(chances, key=lambda text: -chances[text])
    kept = ranked[: drawing.top_k] if drawing.top_k else ranked
    if drawing.top_p < 1.0:
        mass, nucleus = 0.0, []
        for text in kept:
            if mass >= drawing.top_p:
                break
            nucleus.append(text)
            mass += math.exp(chances[text])
        kept = nucleus
    return chances if len(kept) == len(chances) else _normal({text: chances[text] for text in kept})


def _likeliest(chances: Chances) -> str:
    """A chance that is no number, as of a model whose arithmetic broke, counts for nothing."""
    return max(chances, key=lambda text: -math.inf if math.isnan(chances[text]) else chances[text])


def _weights(chances: Chances) -> list[float]:
    return [0.0 if math.isnan(chance) else math.exp(chance) for chance in chances.values()]


def _normal(chances: Chances) -> dict[str, float]:
    total = math.log(sum(_weights(chances)))
    return {text: chance - total for text, chance in chances.items()}


def _top(model: Model, chances: Chances, count: int) -> list[tuple[Token, float]]:
    """The likeliest, all of those that share the last place among them."""
    if not count:
        return []
    ranked = sorted(chances, key=lambda text: -chances[text])
    least = chances[ranked[min(count, len(ranked)) - 1]]
    return [(model.token(text), chances[text]) for text in ranked if chances[text] >= least]


class Grammar:
    """A regular expression that an answer is held to while it is written."""

    def __init__(self, pattern: str) -> None:
        self._nodes = list(parser.parse(pattern))

    def takes(self, written: str, text: str) -> bool:
        """May this token come next?"""
        if text == END:
            return self.is_whole(written)
        ends, goes_on = _run(self._nodes, written + text, 0)
        return bool(text) and (goes_on or len(written + text) in ends)

    def is_whole(self, written: str) -> bool:
        return len(written) in _run(self._nodes, written, 0)[0]


def _run(nodes: Sequence[Any], text: str, start: int) -> tuple[set[int], bool]:
    """Where a match of the nodes may end, and whether the text ends in the middle of one."""
    places, goes_on = {start}, False
    for node in nodes:
        found = [_step(node, text, place) for place in places]
        places = set().union(*(ends for ends, _ in found))
        goes_on |= any(more for _, more in found)
    return places, goes_on


def _step(node: tuple[Any, Any], text: str, place: int) -> tuple[set[int], bool]:
    operation, argument = node
    if operation is codes.SUBPATTERN:
        return _run(argument[-1], text, place)
    if operation is codes.BRANCH:
        found = [_run(branch, text, place) for branch in argument[1]]
        return set().union(*(ends for ends, _ in found)), any(more for _, more in found)
    if operation is codes.MAX_REPEAT:
        return _repeat(*argument, text, place)
    if place == len(text):
        return set(), True
    return ({place + 1} if _is_one_of(operation, argument, ord(text[place])) else set()), False


def _repeat(least: int, most: int, nodes: Sequence[Any], text: str, place: int) -> tuple[set[int], bool]:
    ends = {place} if least == 0 else set()
    reached, goes_on, times = {place}, False, 0
    while reached and times < most:
        found = [_run(nodes, text, at) for at in reached]
        times += 1
        reached = set().union(*(each for each, _ in found)) - ends
        goes_on |= any(more for _, more in found)
        if times >= least:
            ends |= reached
    return ends, goes_on


def _is_one_of(operation: Any, argument: Any, letter: int) -> bool:
    if operation is codes.LITERAL:
        return bool(letter == argument)
    if operation is codes.NOT_LITERAL:
        return bool(letter != argument)
    if operation is codes.RANGE:
        return bool(argument[0] <= letter <= argument[1])
    if operation is codes.IN:
        is_not = argument[0][0] is codes.NEGATE
        return is_not != any(_is_one_of(*item, letter) for item in argument[is_not:])
    raise NotImplementedError(f"the imitated TGI has no {operation} in a pattern")


def pattern_of(schema: Mapping[str, Any]) -> str:
    """A JSON schema as a regular expression: objects of required properties, integers and enumerations."""
    if "enum" in schema:
        return "(" + "|".join(f'"{option}"' for option in schema["enum"]) + ")"
    if schema.get("type") == "integer":
        return "(0|[1-9][0-9]*)"
    properties = [f'"{name}"[ ]?:[ ]?{pattern_of(each)}' for name, each in schema["properties"].items()]
    return r"\{[ ]?" + "[ ]?,[ ]?".join(properties) + r"[ ]?\}"


class ScriptedModel:
    """Says what the test wants. `say`: by adapter and prompt. `weigh`: by prompt and what was written, the
    probabilities of the next tokens, where the test wants others than near certainty; None elsewhere."""

    def __init__(
        self,
        say: Callable[[str, str], str] = lambda *_: "Yes.",
        weigh: Callable[[str, str], Mapping[str, float] | None] = lambda *_: None,
    ) -> None:
        self.say = say
        self.weigh = weigh
        self._ids: dict[str, int] = {BEGIN: 0, END: 1}

    def tokens(self, text: str) -> list[Token]:
        return [self.token(piece) for piece in re.findall(r"</?s>|<\|\w+\|>|\s?\w+|\s?[^\w\s]|\s", text)]

    def token(self, text: str) -> Token:
        return Token(self._ids.setdefault(text, len(self._ids)), text)

    def next(self, adapter: str, prompt: str, written: str) -> Chances:
        weights = self.weigh(prompt, written) or self._script(adapter, prompt, written)
        return {text: math.log(weight) for text, weight in weights.items()}

    def _script(self, adapter: str, prompt: str, written: str) -> dict[str, float]:
        letters = dict.fromkeys("ABCDEFGHIJKLMNOPQRSTUVWXYZ ", 0.001) | {END: 0.001}
        said = self.say(adapter, prompt)
        rest = said[len(written) :] if said.startswith(written) else ""
        return letters | {self.tokens(rest)[0].text if rest else END: 0.97}
