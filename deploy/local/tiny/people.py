"""Clients: random personas, and how people of each temper talk."""

from __future__ import annotations

import random
from dataclasses import dataclass

from words import a, noun, nouns, number, phrase, thing, weekday, word

from duologue.core.persona import Persona


@dataclass(frozen=True)
class Temper:
    """A way of talking: how a persona owns up to it, what it adds to an utterance, and what it never sounds like.

    `words` recognise the temper in a description that somebody else wrote. In `before` and `after`, {noun}, {thing},
    {occasion}, {weekday} and {number} are filled with random words.
    """

    words: tuple[str, ...]
    descriptions: tuple[str, ...]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    clashes: tuple[str, ...] = ()


TEMPERS = {
    "polite": Temper(
        ("polite", "kind", "thank"),
        (
            "I am very polite.",
            "I thank people whenever I can.",
            "Good manners matter to me.",
            "I am kind to everyone I meet.",
            "I never forget to say thank you.",
            "I was taught good manners as a child.",
            "I am grateful for help and say so.",
        ),
        ("Thank you for asking. ", "If you would be so kind: ", "Thank you. ", "That's kind of you. "),
        (
            " Thank you.",
            " Thank you very much.",
            " That's very kind of you.",
            " Thanks for your help.",
            " I'm grateful.",
        ),
        ("grumpy", "impatient"),
    ),
    "brief": Temper(
        ("few words", "short", "quiet"),
        (
            "I say no more than I must.",
            "I don't talk much.",
            "I use short sentences.",
            "I am a person of few words.",
            "My answers are short.",
            "I have my hands full, so I keep it short.",
            "I am quiet and like to listen.",
        ),
        clashes=("chatty", "formal"),
    ),
    "chatty": Temper(
        ("chat", "stories"),
        (
            "I talk a lot.",
            "I love a good chat.",
            "I tell stories to everyone.",
            "I can never stop talking.",
            "I like to tell people about my {noun}.",
            "There is always a story behind what I say.",
            "People say that I talk too much.",
        ),
        ("You won't believe my {weekday}. ", "Funny that you ask. ", "I was telling a friend about it. "),
        (
            " My {noun} is a long story.",
            " I was just telling my neighbour about the {noun}.",
            " You know, last {weekday} I lost my {noun}.",
            " It reminds me of my {thing}.",
            " I had the same with {occasion} once.",
            " My cousin has {number} {noun}s, imagine that.",
        ),
        ("brief", "impatient"),
    ),
    "worried": Temper(
        ("worr", "shy", "sorry", "afraid"),
        (
            "I worry about everything.",
            "I am nervous when I talk to strangers.",
            "I am shy and afraid of mistakes.",
            "I am never sure if I am right.",
            "I always fear that something goes wrong.",
            "I get nervous easily.",
            "I apologise for everything.",
        ),
        ("Oh dear. ", "Sorry, I'm a bit nervous. ", "I hope this is right. ", "Sorry to bother you. "),
        (
            " I hope that's right.",
            " Is that a problem?",
            " I'm sorry for the trouble.",
            " I'm not quite sure.",
            " I hope I did nothing wrong.",
            " Sorry.",
        ),
        ("cheerful",),
    ),
    "grumpy": Temper(
        ("grumbl", "grump", "bad mood"),
        (
            "I am in a bad mood most days.",
            "I grumble all day long.",
            "Nothing is ever good enough for me.",
            "I complain about everything.",
            "I am grumpy before noon, and after noon too.",
            "I get cross about small things.",
            "I dislike most people.",
        ),
        ("Well, finally. ", "Hmpf. ", "If you must know. ", "What a question. "),
        (
            " What a nuisance.",
            " Nothing ever works.",
            " As if I had nothing else to do.",
            " This used to be better.",
            " I'm not happy about it.",
            " Typical.",
        ),
        ("polite", "cheerful", "formal"),
    ),
    "formal": Temper(
        ("formal", "exact"),
        (
            "I speak in a formal way.",
            "I choose my words with care.",
            "I am precise in all I say.",
            "I keep my language correct.",
            "I value exact language.",
            "I never use slang.",
        ),
        ("In short: ", "For your records: ", "With pleasure. ", "To be precise: "),
        (
            " I trust that this is sufficient.",
            " Kindly take note of it.",
            " I would appreciate a confirmation.",
            " I remain at your disposal.",
            " Please record this correctly.",
        ),
        ("grumpy", "brief"),
    ),
    "cheerful": Temper(
        ("cheerful", "happy", "good side"),
        (
            "I am always happy.",
            "I laugh a lot.",
            "I see the good in everything.",
            "I am full of joy.",
            "I smile even on rainy days.",
            "Life is wonderful, and I say so.",
            "I am in high spirits.",
        ),
        ("Oh, lovely! ", "How nice! ", "What a day! ", "Ha, good question! "),
        (" Isn't that great?", " Lovely!", " I'm so glad!", " That makes my day!", " How exciting!", " Wonderful!"),
        ("grumpy", "worried"),
    ),
    "impatient": Temper(
        ("hurry", "impatient", "no time", "wait"),
        (
            "I am in a hurry.",
            "I have no patience at all.",
            "I never have time.",
            "My time is money.",
            "I want everything at once.",
            "I can't stand waiting.",
            "Everybody is too slow for me.",
        ),
        ("Quick now. ", "Let's be quick. ", "Come on. "),
        (
            " Can we go on?",
            " Hurry up, please.",
            " How long will this take?",
            " I have to go soon.",
            " Is that all you need?",
            " I don't have all day.",
        ),
        ("polite", "chatty"),
    ),
}


def random_persona(rng: random.Random) -> tuple[Persona, str]:
    """A persona, and the id of its temper."""
    temper = rng.choice(list(TEMPERS))
    character = a(word(rng, "client_jobs").replace("-", " "))
    if rng.random() < 0.6:
        character = f"{character} {phrase(rng, 'client_extras')}"
    sentences = rng.sample(TEMPERS[temper].descriptions, rng.choice((1, 1, 2)))
    if rng.random() < 0.4:
        aside = rng.choice(
            (f"I own {a(thing(rng))}.", f"I collect {nouns(rng)}.", f"I like {nouns(rng)}.", f"My {noun(rng)} is old.")
        )
        sentences.insert(rng.randrange(len(sentences) + 1), aside)
    return Persona(id="random", character=character, description=_filled(rng, " ".join(sentences))), temper


def temper_of(persona: Persona) -> str | None:
    """The temper that a persona's own words name."""
    text = persona.description.lower()
    for name, temper in TEMPERS.items():
        if any(word in text for word in temper.words):
            return name
    return None


def in_temper(rng: random.Random, text: str, temper: str | None, often: float = 0.45) -> str:
    """`text` as somebody of that temper says it; `often` is the chance that one hears it."""
    manner = TEMPERS.get(temper or "")
    if manner is None or rng.random() >= often:
        return text
    if temper == "brief":
        return _shortened(text)
    if temper == "cheerful" and rng.random() < 0.4:
        return text[:-1] + "!" if text.endswith(".") else text
    if rng.random() < 0.3:
        return _filled(rng, rng.choice(manner.before)) + text
    return text + _filled(rng, rng.choice(manner.after))


def _shortened(text: str) -> str:
    """The answer without the sentence around it."""
    for start in ("It's ", "My name is ", "Sure, ", "I'd like ", "I want ", "Okay, ", "Well, "):
        if text.startswith(start) and len(text) > len(start) + 1:
            text = text.removeprefix(start)
            return text[0].upper() + text[1:]
    return text.removesuffix(", please.") + "." if text.endswith(", please.") else text


def _filled(rng: random.Random, text: str) -> str:
    values = {"noun": noun(rng), "thing": thing(rng), "weekday": weekday(rng), "number": number(rng)}
    return text.format(**values, occasion=phrase(rng, "occasions"))
