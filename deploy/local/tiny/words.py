"""Draws words and values from words.yaml."""

from __future__ import annotations

import random
from pathlib import Path

import yaml

_DATA = yaml.safe_load((Path(__file__).parent / "words.yaml").read_text(encoding="utf-8"))
WORDS: dict[str, list[str]] = {name: text.split() for name, text in _DATA["words"].items()}
PHRASES: dict[str, list[str]] = _DATA["phrases"]
VERBS: list[tuple[str, str]] = [(verb, past) for verb, _, past in (pair.partition("/") for pair in WORDS["verbs"])]

# One word in ten is made up: nobody has seen it, so it can only be carried over.
MADE_UP = 0.1
DIGITS = "0123456789"
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"


def word(rng: random.Random, kind: str) -> str:
    return rng.choice(WORDS[kind])


def phrase(rng: random.Random, kind: str) -> str:
    return rng.choice(PHRASES[kind])


def made_up(rng: random.Random) -> str:
    return "".join(rng.choices(WORDS["syllables"], k=rng.choice((2, 2, 3)))) + rng.choice(("", "", *"nrstl"))


def noun(rng: random.Random) -> str:
    return made_up(rng) if rng.random() < MADE_UP else word(rng, "nouns")


def nouns(rng: random.Random) -> str:
    return plural(noun(rng))


def adjective(rng: random.Random) -> str:
    return made_up(rng) if rng.random() < MADE_UP else word(rng, "adjectives")


def thing(rng: random.Random) -> str:
    """A noun, often with an adjective."""
    return f"{adjective(rng)} {noun(rng)}" if rng.random() < 0.5 else noun(rng)


def a(text: str) -> str:
    """The text with its indefinite article."""
    return f"an {text}" if text[0] in "aeiou" and not text.startswith(("use", "uni")) else f"a {text}"


def plural(text: str) -> str:
    return f"{text}es" if text.endswith(("s", "x", "ch", "sh")) else f"{text}s"


def capitalized(text: str) -> str:
    """The text with a capital first letter; unlike `str.capitalize` it leaves the rest alone."""
    return text[0].upper() + text[1:]


def name(rng: random.Random) -> str:
    """A full name; one part in five is made up."""
    first, last = (
        capitalized(made_up(rng)) if rng.random() < 0.2 else word(rng, kind) for kind in ("first_names", "last_names")
    )
    return f"{first} {last}"


def code(rng: random.Random) -> str:
    """A number or code in one of the shapes that shops and offices use."""
    digits = "".join(rng.choices(DIGITS, k=rng.choice((3, 4, 4, 5, 6))))
    letters = "".join(rng.choices(LETTERS, k=rng.choice((1, 2, 2, 3))))
    shapes = (f"{letters}{digits}", f"{letters}-{digits}", f"{digits}{letters[0]}", f"{digits[:3]} {digits[:4]}")
    return rng.choice((digits, digits, digits, *shapes))


def price(rng: random.Random) -> str:
    return f"{rng.choice((rng.randrange(2, 100), rng.randrange(100, 900, 10)))} {word(rng, 'currencies')}"


def weekday(rng: random.Random) -> str:
    return word(rng, "weekdays")


def date(rng: random.Random) -> str:
    return f"the {word(rng, 'ordinals')} of {word(rng, 'months')}"


def number(rng: random.Random) -> str:
    return word(rng, "numbers")


def hour(rng: random.Random) -> str:
    at = rng.choice(WORDS["numbers"][:11])
    return rng.choice((at, f"half past {at}", f"{at} o'clock", f"{at} {rng.choice(PHRASES['times_of_day'][:3])}"))


def street(rng: random.Random) -> str:
    first = rng.choice((word(rng, "last_names"), capitalized(noun(rng)), capitalized(made_up(rng))))
    return f"{first} {word(rng, 'street_kinds')} {rng.randrange(1, 200)}"


def when(rng: random.Random) -> str:
    values = {kind[:-1]: word(rng, kind) for kind in ("weekdays", "numbers", "months", "ordinals")}
    return phrase(rng, "when").format(**values)


def sentence(rng: random.Random) -> str:
    """A sentence of words in no sensible order: it can be repeated, not guessed."""
    draws = (noun, noun, adjective, made_up, lambda rng: rng.choice(VERBS)[0], lambda rng: rng.choice(_SMALL_WORDS))
    words = [rng.choice(draws)(rng) for _ in range(rng.randrange(3, 10))]
    return capitalized(" ".join(words)) + rng.choice(".?.?!")


_SMALL_WORDS = ("the", "of", "to", "a", "and", "for", "is", "in")


def goal(rng: random.Random) -> str:
    """What somebody wants, as it stands after "I want to"."""
    verb, what = rng.choice(VERBS)[0], thing(rng)
    what = rng.choice((a(what), a(what), f"the {what}", f"{number(rng)} {nouns(rng)}"))
    about = rng.choice(("ask about", "complain about", "find out about", "get help with", "talk about", "get", "have"))
    start = (
        f"have {what} {rng.choice(VERBS)[1]}" if rng.random() < 0.25 else f"{rng.choice((verb, verb, about))} {what}"
    )
    tails = (
        "",
        "",
        f" for {phrase(rng, 'occasions')}",
        f" that {phrase(rng, 'faults')}",
        f" {when(rng)}",
        f" because the {noun(rng)} {phrase(rng, 'faults')}",
        f" before {phrase(rng, 'occasions')}",
        f" with {a(thing(rng))}",
    )
    return start + rng.choice(tails)
