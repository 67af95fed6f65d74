"""Mending what models write: turns for the other side, sentences that were cut off, code (METHOD: post-processing)."""

from __future__ import annotations

import re

from duologue.core.dialogue import Role
from duologue.core.scores import ROLE_MARK

_NAMES = {Role.CLIENT: ("client", "user", "customer"), Role.AGENT: ("agent", "assistant")}
_INSTRUCTION = re.compile(r"\[?(?:Say now|Answer briefly, then ask again):.*", re.IGNORECASE | re.DOTALL)
_CODE = re.compile(r"```.*?(?:```|$)|</?[A-Za-z][^<>]*>|<\|[^|]*\|>", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?…][\"')\]]*(?=\s|$)")
# Names and instructions have a colon, code one of the others. Most utterances have neither and are done with this.
_TELLTALE = re.compile(r"[:`<]")


def repair(text: str, speaker: Role, *, is_cut: bool) -> tuple[str, tuple[str, ...]]:
    """The usable part of what `speaker` wrote, "" when there is none, and what was mended.

    Repairs: `own_name` (began with the speaker's own name), `role_leak` (went on for the other side), `instruction`
    (repeated what it was told), `code`, `unfinished` (`is_cut`: the last sentence was cut off by the token limit).
    """
    repairs: list[str] = []
    rest = text.strip()
    if _TELLTALE.search(rest):
        rest = _own_words(rest, speaker, repairs)
    if is_cut and "role_leak" not in repairs:
        whole = _whole_sentences(rest)
        _note(repairs, "unfinished", whole != rest)
        rest = whole
    return " ".join(rest.split()), tuple(repairs)


def _own_words(text: str, speaker: Role, repairs: list[str]) -> str:
    """What `speaker` says themselves and out loud; notes what is left out."""
    rest = _without_own_name(text, speaker)
    _note(repairs, "own_name", rest != text)
    for name, pattern in (("code", _CODE), ("instruction", _INSTRUCTION)):
        mended = pattern.sub(" ", rest).strip()
        _note(repairs, name, mended != rest)
        rest = mended
    leak = ROLE_MARK.search(rest)
    _note(repairs, "role_leak", leak is not None)
    return rest[: leak.start()] if leak else rest


def _without_own_name(text: str, speaker: Role) -> str:
    for name in _NAMES[speaker]:
        if text.lower().startswith(f"{name}:"):
            return text[len(name) + 1 :].strip()
    return text


def _whole_sentences(text: str) -> str:
    """Up to the end of the last whole sentence; all of it when there is none, for it may still be an answer."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else text


def _note(repairs: list[str], name: str, happened: bool) -> None:
    if happened:
        repairs.append(name)
