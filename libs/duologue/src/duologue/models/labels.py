"""Decisions by any chat server: one letter for each question, with the probabilities of the others.

All questions go into one request. Where the server takes a regular expression, the answer can be nothing but letters;
where it tells log-probabilities, each letter's place gives a distribution over the options. A later letter is written
after the earlier ones, so answers are not quite independent, as they are with /v1/systemone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import ascii_uppercase

import structlog

from duologue.core.dialogue import Decision
from duologue.core.prompts import Question, labels_prompt, options_of
from duologue.models.answers import Answers
from duologue.models.capabilities import Capabilities
from duologue.models.completion import GREEDY, ChatRequest, Completion, TokenChoice
from duologue.models.connection import ModelRefused
from duologue.models.replica import Replica

log = structlog.get_logger(__name__)

# A letter and a space or a line break for each question, and what a model puts before them.
_TOKENS_FOR_EACH, _TOKENS_MORE = 3, 8
_LETTER = re.compile(r"\b[A-Z]\b")


async def decide(
    replica: Replica, model: str, state: str, questions: Mapping[str, Question], *, as_text: bool
) -> Answers:
    """All answers, by one request. `as_text`: letters out of free text, each taken for certain.

    Raises `ModelUnavailable` or `ModelRefused`, this also for a server that has neither log-probabilities nor regular
    expressions, unless `as_text`, and for an answer without any letter.
    """
    known = await replica.capabilities()
    if not as_text and not known.has_patterns and not known.top_logprobs:
        raise _neither(replica)
    options = {name: options_of(question) for name, question in questions.items()}
    completion = await replica.complete(_request(model, state, questions, options, known, as_text))
    if not as_text and not completion.tokens and not known.has_patterns:
        raise _neither(replica)
    found = _weighed(completion, options) if completion.tokens else _written(completion.text, options)
    if not found:
        # It would write the same again, and another request may go well: nothing is wrong with the server.
        raise ModelRefused(f"{replica.url} answered none of the questions: {completion.text[:100]!r}", 0)
    if len(found) < len(options):
        log.warning("questions without an answer", server=replica.url, asked=len(options), answered=len(found))
    # Of a question that was not answered nothing is known: every option is as likely.
    decisions = {name: found.get(name) or _evenly(name, each) for name, each in options.items()}
    return Answers(decisions, completion.usage)


def _neither(replica: Replica) -> ModelRefused:
    return ModelRefused(
        f"{replica.url} has neither log-probabilities nor regular expressions, by which letters are decided: use "
        "another server for decisions, or set its `decisions` to auto if it has /v1/systemone, or to text, which takes "
        "every letter that the model writes for certain",
        0,
    )


def _request(
    model: str,
    state: str,
    questions: Mapping[str, Question],
    options: Mapping[str, Sequence[str]],
    known: Capabilities,
    as_text: bool,
) -> ChatRequest:
    letters = [f"[A-{ascii_uppercase[len(each) - 1]}]" for each in options.values()]
    return ChatRequest(
        labels_prompt(state, questions),
        replace(GREEDY, max_tokens=_TOKENS_FOR_EACH * len(letters) + _TOKENS_MORE),
        model,
        pattern="" if as_text else " ".join(letters),
        top_logprobs=0 if as_text else known.top_logprobs,
    )


def _weighed(completion: Completion, options: Mapping[str, Sequence[str]]) -> dict[str, Decision]:
    """Each question's distribution, read where its letter stands."""
    decisions: dict[str, Decision] = {}
    open_questions = list(options.items())
    for token in completion.tokens:
        if not open_questions:
            break
        name, each = open_questions[0]
        if token.logprobs and token.text.strip() in set(ascii_uppercase[: len(each)]):
            decisions[name] = _distribution(name, each, token)
            del open_questions[0]
    return decisions


def _distribution(name: str, options: Sequence[str], token: TokenChoice) -> Decision:
    """Over the options, from the chances of their letters; " A" and "A" are one.

    A letter that the server does not list is less likely than the least likely one that it lists, and all that it does
    not list share what is left.
    """
    chances = dict.fromkeys(ascii_uppercase[: len(options)], 0.0)
    for text, logprob in token.logprobs.items():
        if text.strip() in chances:
            chances[text.strip()] += math.exp(logprob)
    unlisted = [letter for letter, chance in chances.items() if chance == 0.0]
    if unlisted:
        left = max(1.0 - sum(math.exp(logprob) for logprob in token.logprobs.values()), 0.0)
        least = min(math.exp(logprob) for logprob in token.logprobs.values())
        chances |= dict.fromkeys(unlisted, min(left / len(unlisted), least))
    total = sum(chances.values())
    if total == 0.0:  # the server gave every letter as impossible
        return _evenly(name, options)
    probabilities = {option: chance / total for option, chance in zip(options, chances.values(), strict=True)}
    return Decision.likeliest(name, probabilities)


def _written(text: str, options: Mapping[str, Sequence[str]]) -> dict[str, Decision]:
    """The letters of the text, in the order of the questions, each for certain."""
    decisions = {}
    for (name, each), letter in zip(options.items(), _LETTER.findall(text), strict=False):
        place = ascii_uppercase.index(letter)
        if place < len(each):
            certain = {option: float(option == each[place]) for option in each}
            decisions[name] = Decision(name, each[place], certain)
    return decisions


def _evenly(name: str, options: Sequence[str]) -> Decision:
    return Decision(name, options[0], dict.fromkeys(options, 1 / len(options)))
