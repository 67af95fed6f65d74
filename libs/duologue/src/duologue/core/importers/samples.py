"""Sample values and client wordings for what an imported graph names but does not say.

They are meant to be read and edited by whoever imported the graph; a slot that nothing here knows gets a value that
says that it is a sample.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """What a slot is about: words that tell, a value in words, one in digits, and how a client says it."""

    words: frozenset[str]
    text: str
    digits: str = "4"
    phrase: str = "It is {}."


def _kind(words: str, text: str, digits: str = "4", phrase: str = "It is {}.") -> Kind:
    return Kind(frozenset(words.split()), text, digits, phrase)


# The first kind with a word of the slot wins: what is asked about a thing (its time, its price) precedes the thing.
_KINDS = (
    _kind("minutes minute duration", "10", "10"),
    _kind("time hour", "3 pm", "15", "At {}, please."),
    _kind("birth dob birthday", "4 May 1985", "1985"),
    _kind("day weekday", "Tuesday", "2", "On {}, please."),
    _kind("date", "12 June", "12", "On {}, please."),
    _kind("month", "June", "6"),
    _kind("year", "2024", "2024"),
    _kind("temperature", "18", "18"),
    _kind("price cost range budget", "moderate", "250"),
    _kind("fee amount balance", "250", "250"),
    _kind("rating stars", "4", "4"),
    _kind("size", "20", "20"),
    _kind("bedrooms rooms", "2", "2"),
    _kind("guests people persons passengers tickets nights", "4", "4", "For {}, please."),
    _kind("floor level", "3", "3"),
    _kind("message", "Your request has been processed."),
    _kind("instructions", "rest for two days and drink plenty of water"),
    _kind("instruction direction directions", "Go straight on for two blocks."),
    _kind("question", "What is the capital of Australia?"),
    _kind("answer", "Canberra"),
    _kind("email", "alex@example.org"),
    _kind("plate", "KLM 482", "482"),
    _kind("phone telephone", "555 0142", "5550142"),
    _kind("room", "214", "214"),
    _kind("pin", "4921", "4921"),
    _kind("food cuisine meal", "Italian"),
    _kind("type", "standard"),
    _kind("number id code account reference", "7520", "7520"),
    _kind("departure origin from source", "the central station", "1", "From {}."),
    _kind("arrival destination to", "the airport", "2", "To {}."),
    _kind("location city town place address area", "downtown", "1"),
    _kind("pois surroundings", "a park and a school"),
    _kind("weather forecast", "sunny"),
    _kind("status", "on its way"),
    _kind("drinks drink", "lemonade"),
    _kind("class", "economy", "2"),
    _kind("color colour", "blue"),
    _kind("model car", "a small van"),
    _kind("mode", "public transit"),
    _kind("rank", "captain"),
    _kind("symptoms", "a sore throat and a mild fever", phrase="I have {}."),
    _kind("maiden", "Carter"),
    _kind("pet pets", "Rex"),
    _kind("reason topic", "the plan for next month"),
    _kind("doctor", "Dr. Morgan"),
    _kind("hotel", "Maple Hotel"),
    _kind("restaurant", "Maple Kitchen"),
    _kind("apartment flat", "Maple Court"),
    _kind("venue", "Maple Hall"),
    _kind("airline company provider", "Maple Lines"),
    _kind("driver guest host", "Sam Porter"),
    _kind("name", "Alex Taylor", phrase="My name is {}."),
)

# Words that a slot and a question may share without being about the same thing.
_COMMON = frozenset(["name", "number", "id", "code", "type", "num", "of"])

_WORDINGS = {
    "yes": ("Yes.", "Yes, please.", "Sure."),
    "no": ("No.", "No, thank you.", "I'd rather not."),
    "done": ("Done.", "I'm done.", "That was the last one."),
}

NOTHING_MORE = ("No, that is all.", "No, thank you.", "That's everything, thanks.")
SOMETHING_MORE = ("Yes, one more thing.", "Yes, please.")
NOT_KNOWN = ("I don't remember that.", "I'm sorry, I don't have it at hand.", "I can't recall it.")
FAREWELLS = ("Goodbye.", "Bye, have a nice day.")
OUT_OF_SCOPE = ("Can you tell me a joke?", "What do you think about politics?", "Can you do my homework for me?")


def words_of(name: str) -> list[str]:
    """The lower-case words of a label, slot or text; a number at the end of a word is cut off it."""
    return [word.rstrip("0123456789") or word for word in re.findall(r"[a-z0-9]+", name.lower())]


def kind_of(slot: str) -> Kind | None:
    words = set(words_of(slot))
    return next((kind for kind in _KINDS if kind.words & words), None)


def sample(slot: str, *, digits: bool = False) -> str:
    """A readable value for a slot, from its name. `digits`: the slot takes a number."""
    kind = kind_of(slot)
    first, *rest = words_of(slot)
    if first in ("has", "takes", "offers", "serves", "accepts") and rest:
        thing = " ".join(rest)
        article = "" if thing.endswith("s") else "an " if thing[0] in "aeiou" else "a "
        return f"{first} {article}{thing}"
    if kind is None:
        return "4" if digits else f"sample {' '.join([first, *rest])}"
    return kind.digits if digits else kind.text


def is_about(slot: str, topic: str) -> bool:
    """Whether a slot is what a question about `topic` asks for: the same name, or the same kind of the same thing."""
    if slot == topic:
        return True
    kind = kind_of(slot)
    if kind is None or kind is not kind_of(topic):
        return False
    shared = _things(slot, kind) & _things(topic, kind)
    return bool(shared)


def _things(name: str, kind: Kind) -> set[str]:
    """Words that tell what a name is about; words of the kind count as one ("city" and "location")."""
    telling = set(words_of(name)) - _COMMON
    return telling - kind.words | ({"(kind)"} if telling & kind.words else set())


def wordings(label: str, text: str) -> list[str]:
    """How a client may say a reply that the source only names: `text`, or several wordings where it is well known."""
    for word in dict.fromkeys([*words_of(label)[:1], *words_of(text)[:1]]):
        if word in _WORDINGS and len(words_of(text)) <= 1:
            return list(_WORDINGS[word])
    return [text]


def answers(fact: str) -> list[str]:
    """Wordings of a client who gives a fact when asked for it."""
    kind = kind_of(fact)
    value = f"{{{fact}}}"
    said = (kind.phrase if kind is not None else "It is {}.").format(value)
    return [said, f"{value}."]
