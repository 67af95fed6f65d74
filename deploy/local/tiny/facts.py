"""What a client can be asked for: facts, how their values are drawn, and questions that don't name them."""

from __future__ import annotations

import random
from collections.abc import Callable

from words import (
    capitalized,
    code,
    date,
    hour,
    made_up,
    name,
    noun,
    number,
    phrase,
    price,
    street,
    thing,
    weekday,
    when,
    word,
)


def fact_key(rng: random.Random, key: str) -> str:
    return key.replace("*", rng.choice((word(rng, "objects"), word(rng, "objects"), noun(rng))))


def short_value(rng: random.Random) -> str:
    return rng.choice((price, weekday, date, hour, code, lambda r: f"the {thing(r)}", when))(rng)


# What a client can be asked for: the fact's name (* is some object), and how its value is drawn.
FACTS: list[tuple[str, Callable[[random.Random], str]]] = [
    ("* number", code),
    ("* number", code),
    ("* code", code),
    ("* name", name),
    ("* date", date),
    ("* colour", lambda rng: word(rng, "colours")),
    ("* size", lambda rng: rng.choice((str(rng.randrange(2, 60)), word(rng, "adjectives")))),
    ("* brand", lambda rng: capitalized(made_up(rng))),
    ("* price", price),
    ("*", thing),
    ("name", name),
    ("full name", name),
    ("first name", lambda rng: name(rng).split()[0]),
    ("last name", lambda rng: name(rng).split()[1]),
    ("nickname", lambda rng: capitalized(made_up(rng))),
    ("street", street),
    ("address", street),
    ("town", lambda rng: capitalized(made_up(rng))),
    ("phone", lambda rng: f"{rng.randrange(100, 999)} {rng.randrange(1000, 9999)}"),
    ("weight", lambda rng: f"{number(rng)} {rng.choice(('kilos', 'grams', 'pounds', 'tons'))}"),
    ("length", lambda rng: f"{number(rng)} {rng.choice(('metres', 'inches', 'feet', 'miles'))}"),
    ("password", lambda rng: f"{noun(rng)} {noun(rng)}"),
    ("email", lambda rng: f"{noun(rng)}@{made_up(rng)}.org"),
    ("language", lambda rng: capitalized(made_up(rng))),
    ("birthday", date),
]


# Questions that don't name the fact: fact, value, questions, answers with {0} for the value.
NAMELESS: list[tuple[str, Callable[[random.Random], str], tuple[str, ...], tuple[str, ...]]] = [
    (
        "day",
        weekday,
        (
            "On which day?",
            "Which day suits you?",
            "What day should we come?",
            "When can you be here?",
            "For which day is it?",
        ),
        ("On {0}.", "{0} suits me.", "{0} would be good.", "{0}, please.", "For {0}.", "I can do {0}."),
    ),
    (
        "date",
        date,
        (
            "On what date?",
            "Tell me the date, please.",
            "When was that?",
            "Which date do you have in mind?",
            "From when on?",
        ),
        ("On {0}.", "It's {0}.", "The date is {0}.", "{0}.", "On {0}, I believe."),
    ),
    (
        "time",
        hour,
        (
            "At what time?",
            "What time is best?",
            "When shall we start?",
            "Which hour would you like?",
            "How early can you come?",
        ),
        ("At {0}.", "{0} is best.", "I was thinking of {0}.", "Around {0}.", "{0}, if I may."),
    ),
    (
        "people",
        lambda rng: rng.choice((str(rng.randrange(2, 40)), number(rng))),
        (
            "How many people?",
            "How many of you are there?",
            "For how many?",
            "How large is your group?",
            "How many will come?",
        ),
        ("{0} people.", "We are {0}.", "There will be {0} of us.", "{0}.", "For {0}."),
    ),
    (
        "limit",
        price,
        ("How much may it cost?", "What can you spend?", "What is the most you would pay?", "How much money is there?"),
        ("At most {0}.", "{0}, not more.", "I can pay {0}.", "Up to {0}.", "I have {0}."),
    ),
    (
        "value",
        price,
        (
            "How much was it?",
            "What did you pay?",
            "What was the price?",
            "How much money is it about?",
            "What is it worth?",
        ),
        ("It was {0}.", "I paid {0}.", "About {0}.", "{0}.", "It cost {0}."),
    ),
    (
        "age",
        lambda rng: f"{number(rng)} {rng.choice(('years', 'years', 'months', 'weeks'))}",
        ("How old is it?", "And how old?", "What is its age?", "Since when do you have it?", "How old would you say?"),
        ("It's {0} old.", "{0}.", "About {0}.", "The age is {0}.", "{0} old, I guess."),
    ),
    (
        "colour",
        lambda rng: word(rng, "colours"),
        ("What does it look like?", "Which colour is it?", "What colour would you like?", "What colour do you see?"),
        ("It's {0}.", "{0}.", "{0}, please.", "The colour is {0}.", "I see {0}."),
    ),
    (
        "problem",
        lambda rng: f"the {thing(rng)} {phrase(rng, 'faults')}",
        (
            "What is wrong?",
            "What happened?",
            "What is the matter with it?",
            "What seems to be the trouble?",
            "What is broken?",
        ),
        ("Well, {0}.", "I think {0}.", "{0}.", "It's just that {0}.", "{0}, you see."),
    ),
    (
        "reason",
        lambda rng: f"{rng.choice(('my', 'the', 'our'))} {thing(rng)} {phrase(rng, 'faults')}",
        (
            "Why is that?",
            "Why do you ask?",
            "What is the reason?",
            "May I ask why?",
            "Why now?",
            "What made you do that?",
        ),
        ("Because {0}.", "Well, {0}.", "{0}, that's why.", "The reason is that {0}.", "{0}."),
    ),
    (
        "item",
        lambda rng: f"the {thing(rng)}",
        ("What is it about?", "Which one do you mean?", "What did you buy?", "What do you bring us?", "What is in it?"),
        ("It's about {0}.", "I mean {0}.", "{0}, please.", "{0}.", "It is {0}."),
    ),
    (
        "name",
        name,
        ("Who is speaking?", "Whom shall I write down?", "Who are you?", "Under whose name?", "Who will pick it up?"),
        ("My name is {0}.", "It's {0}.", "{0}.", "Write {0}.", "{0} is my name."),
    ),
    (
        "address",
        street,
        (
            "Where do you live?",
            "Where should we send it?",
            "Where is that?",
            "To which address?",
            "Where can we find you?",
        ),
        ("At {0}.", "It's {0}.", "{0}, please.", "I live at {0}.", "Send it to {0}."),
    ),
]
