"""Questions that an agent may ask, each with the replies of a client and where they stand in its workflow."""

from __future__ import annotations

import random

from facts import FACTS, NAMELESS, fact_key
from words import (
    PHRASES,
    VERBS,
    WORDS,
    a,
    adjective,
    capitalized,
    goal,
    hour,
    noun,
    nouns,
    number,
    phrase,
    price,
    sentence,
    thing,
    when,
    word,
)

from duologue.core.workflow import Reply

Edges = dict[str, Reply]
Question = tuple[str, Edges]


class Draft:
    """A workflow in the making: its questions add facts to the client and hand out node ids."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.facts: dict[str, str] = {}

    def remember(self, key: str, value: str) -> str:
        """Put a fact on the client's list, and give back the placeholder for it."""
        self.facts[key.replace(" ", "_")] = value
        return "{" + key.replace(" ", "_") + "}"


def question(draft: Draft) -> Question:
    rng = draft.rng
    (ask,) = rng.choices([ask for ask, _ in QUESTIONS], [weight for _, weight in QUESTIONS])
    text, edges = ask(draft)
    draw = rng.random()
    if draw < 0.25:
        text = f"{phrase(rng, 'leads')} {text}"
    elif draw < 0.45 and len(text.split()) < 12:
        text = f"{_statement(rng)} {text}"
    elif draw < 0.52 and draft.facts and len(text.split()) < 10:
        text = f"So {{{rng.choice(list(draft.facts))}}} it is. {text}"
    return text, edges


def opening(draft: Draft, house: str) -> Question:
    rng = draft.rng
    hello = rng.choice(("Hello, ", "Good day, ", "Welcome to ", "Hello, this is ", "", "Good evening, ", "Hi, "))
    hello = f"{hello}{house}{rng.choice(('.', '.', '!'))}"
    if rng.random() < 0.5:
        text, edges = question(draft)
        return f"{hello[0].upper()}{hello[1:]} {text}", edges
    asks = rng.choice(
        (
            "How can I help you?",
            "What can I do for you?",
            "What do you need?",
            "What is it about?",
            "How may I help?",
            "What brings you here?",
            "Tell me what you need.",
            f"What would you like to {rng.choice(VERBS)[0]}?",
        )
    )
    slot = draft.remember("item", f"the {thing(rng)}")
    wants = _reply(f"It's about {slot}.", f"I need help with {slot}.", f"I'm calling about {slot}.", f"{slot}, please.")
    edges = {"names_it": wants}
    if rng.random() < 0.6:
        edges["asks_back"] = _asks_back(rng)
    return f"{hello[0].upper()}{hello[1:]} {asks}", edges


def _reply(*examples: str, default: bool = False) -> Reply:
    return Reply(to="later", examples=examples, default=default)


def _some(rng: random.Random, first: str, *others: str) -> Reply:
    """A reply whose plainest wording comes first, as it does in good workflows."""
    return _reply(first, *rng.sample(others, min(len(others), rng.choice((2, 3, 4)))))


def _lacks(rng: random.Random, key: str) -> Reply:
    ways = (
        f"I don't have the {key}.",
        f"I don't know the {key}.",
        f"Sorry, I can't find the {key}.",
        "I don't know.",
        "No idea, sorry.",
        "I can't remember.",
        f"I lost the {key}.",
        "I don't have that here.",
        f"What {key} do you mean?",
        "I never had one.",
        f"I'd rather not tell you the {key}.",
        "Sorry, I forgot.",
    )
    return _reply(*rng.sample(ways, rng.choice((3, 4))))


def _ask_fact(draft: Draft) -> Question:
    rng = draft.rng
    kind, draw = rng.choice(FACTS)
    key = fact_key(rng, kind)
    slot = draft.remember(key, draw(rng))
    your = rng.choice(("your", "your", "the"))
    text = rng.choice(
        (
            f"What is {your} {key}?",
            f"May I have {your} {key}?",
            f"Could you tell me {your} {key}, please?",
            f"Please give me {your} {key}.",
            f"Which {key} is it?",
            f"I need {your} {key}.",
            f"Can you read me {your} {key}?",
            f"{capitalized(your)} {key}, please?",
            f"And {your} {key}?",
            f"Tell me {your} {key}, please.",
            f"What {key} should I write down?",
            f"Under which {key} do I find you?",
            f"Would you spell {your} {key} for me?",
            f"Then I need to know {your} {key}.",
        )
    )
    gives = _some(
        rng,
        *_shuffled_first(
            rng,
            (f"It's {slot}.", f"The {key} is {slot}.", f"My {key} is {slot}.", f"{slot}."),
            (f"Sure, {slot}.", f"{slot}, please.", f"{slot}, I think.", f"That would be {slot}.", f"Okay, {slot}."),
        ),
    )
    return text, _fact_edges(rng, gives, key)


def _shuffled_first(rng: random.Random, plain: tuple[str, ...], others: tuple[str, ...]) -> list[str]:
    first = rng.choice(plain)
    return [first, *(text for text in (*plain, *others) if text != first)]


def _fact_edges(rng: random.Random, gives: Reply, key: str) -> Edges:
    draw = rng.random()
    if draw < 0.12:
        return {"answers": Reply(to="later", default=True)}
    if draw < 0.35:
        return {"gives_it": gives.model_copy(update={"default": True})}
    edges = {"gives_it": gives, "lacks_it": _lacks(rng, key)}
    if draw > 0.85:
        edges["asks_back"] = _asks_back(rng)
    return edges


def _asks_back(rng: random.Random) -> Reply:
    return _reply(
        *rng.choice(
            (
                ("What does it cost?", "How much is it?", "First tell me the price.", "Do I have to pay for it?"),
                ("How long does it take?", "How long must I wait?", "When is it ready?"),
                ("Why do you need that?", "What is that good for?", "Do you have to know that?"),
                ("How does it work?", "First tell me how it works.", "I only want to know the rules."),
            )
        )
    )


def _ask_nameless(draft: Draft) -> Question:
    """A question like "on which day?", that leaves the client to see which fact is meant."""
    rng = draft.rng
    key, draw, questions, answers = rng.choice(NAMELESS)
    slot = draft.remember(key, draw(rng))
    gives = _some(rng, *_shuffled_first(rng, tuple(answer.format(slot) for answer in answers), ()))
    text = rng.choice(questions)
    if rng.random() < 0.25:
        text = rng.choice(
            (
                f"{text[:-1]}, please{text[-1]}",
                f"What about the {key}?",
                f"{text[:-1]} then?",
                f"Which {key} shall I note?",
            )
        )
    return text, _fact_edges(rng, gives, key)


def _ask_yes_no(draft: Draft) -> Question:
    """Either about how things are, or about what the client wants; generic answers differ."""
    ask = draft.rng.choice((_ask_how_it_is, _ask_consent))
    text, edges = ask(draft.rng)
    if draft.rng.random() < 0.15:
        edges["asks_back"] = _asks_back(draft.rng)
    return text, edges


def _ask_how_it_is(rng: random.Random) -> Question:
    what, other, (verb, done) = thing(rng), noun(rng), rng.choice(VERBS)
    job = word(rng, "agent_jobs")
    text, yes, no = rng.choice(
        (
            (f"Do you have {a(what)}?", f"Yes, I have {a(what)}.", f"No, I don't have {a(what)}."),
            (f"Do you own {a(what)}?", "Yes, I do.", "No, I don't."),
            (f"Is the {other} {adjective(rng)}?", "Yes, it is.", "No, it isn't."),
            (f"Have you {done} the {what}?", "Yes, I have.", "No, I haven't."),
            (f"Has the {other} been {done}?", f"Yes, it was {done}.", f"No, it was never {done}."),
            (f"Can you {verb} it {when(rng)}?", "Yes, I can do that.", "No, I can't do that."),
            (f"Did you {verb} the {what}?", "Yes, I did.", "No, I didn't."),
            (f"Are you {a(job)}?", "Yes, I am.", "No, I'm not."),
            (f"Is this your first {other}?", "Yes, it's the first.", "No, I had others before."),
            (f"Will you {verb} the {other} yourself?", "Yes, I will.", "No, I won't."),
            (f"Does the {other} work?", "Yes, it works.", "No, it doesn't work."),
            (f"Did anybody {verb} the {other}?", "Yes, somebody did.", "No, nobody did."),
            (f"Were you at the {other} {when(rng)}?", "Yes, I was there.", "No, I wasn't there."),
            ("Do you have anything else for me?", "Yes, one more thing.", "No, that's all."),
            ("Was that everything?", "Yes, that was everything.", "No, there is something else."),
        )
    )
    return text, _yes_no_edges(rng, yes, no, ("yes", "no"))


def _ask_consent(rng: random.Random) -> Question:
    what, other, verb = thing(rng), noun(rng), rng.choice(VERBS)[0]
    text, yes, no = rng.choice(
        (
            (f"Shall I {verb} the {what}?", f"Yes, please {verb} it.", f"No, please don't {verb} it."),
            (f"Would you like {a(what)}?", "Yes, I'd like that.", "No, I don't need one."),
            (f"{_statement(rng)} Is that all right?", "Yes, that's all right.", "No, that's not all right."),
            (f"{_statement(rng)} Do you agree?", "Yes, I agree.", "No, I don't agree."),
            (f"{_statement(rng)} Does that suit you?", "Yes, that suits me.", "No, that doesn't suit me."),
            (f"{_statement(rng)} Do you want it?", "Yes, I want it.", "No, I don't want it."),
            (f"{_statement(rng)} Is that good enough?", "Yes, that's good enough.", "No, that's not good enough."),
            (f"May I {verb} your {other}?", "Yes, you may.", "No, you may not."),
            (f"Do you want to {goal(rng)}?", "Yes, I want to.", "No, I don't want to."),
            (f"Should we {verb} {number(rng)} {nouns(rng)}?", "Yes, you should.", "No, you shouldn't."),
            (f"Could we {verb} it {when(rng)} instead?", "Yes, you could.", "No, that's too late."),
            (f"Can I offer you {a(what)}?", "Yes, I'll take it.", "No, I don't want that."),
        )
    )
    return text, _yes_no_edges(rng, yes, no, ("consents", "objects"))


def _yes_no_edges(rng: random.Random, yes: str, no: str, kinds: tuple[str, str]) -> Edges:
    """Two replies; edge ids and order vary, so that neither gives the meaning away."""
    agrees, refuses = (
        [*rng.sample(PHRASES[general], 2), *rng.sample(PHRASES[kind], 2)]
        for general, kind in zip(("yes", "no"), kinds, strict=True)
    )
    names = rng.choice((("yes", "no"), ("yes", "no"), ("accepts", "refuses"), ("does", "does_not")))
    edges = [(names[0], _some(rng, yes, *agrees)), (names[1], _some(rng, no, *refuses))]
    return dict(edges if rng.random() < 0.8 else edges[::-1])


def _ask_trial(draft: Draft) -> Question:
    """Ask the client to do something and tell what came of it."""
    rng = draft.rng
    verb, what = rng.choice(VERBS)[0], thing(rng)
    task = rng.choice(
        (f"Please {verb} the {what}.", f"Now {verb} the {what} once more.", f"Then {verb} the {what}, please.")
    )
    asks, yes, no = rng.choice(
        (
            ("Does it work now?", "Yes, it works now.", "No, it still doesn't work."),
            ("Is that better?", "Yes, that's better.", "No, it's the same as before."),
            ("Can you do that?", "Yes, I can do that.", "No, I can't do that."),
            ("Did it help?", "Yes, it helped.", "No, it didn't help."),
            ("Do you see it?", "Yes, I see it.", "No, I don't see it."),
        )
    )
    edges = {
        "works": _some(rng, yes, *rng.sample(PHRASES["yes"], 3)),
        "fails": _some(rng, no, *rng.sample(PHRASES["no"], 3)),
    }
    if rng.random() < 0.5:
        edges["cannot"] = _reply(f"I don't know how to {verb} it.", "I can't reach it.", f"Where is the {what}?")
    return f"{task} {asks}", edges


def _ask_either_or(draft: Draft) -> Question:
    rng = draft.rng
    if rng.random() < 0.2:
        return _ask_which_action(rng)
    article = rng.choice(("the", "a", "the one", ""))
    if article == "the one":
        one, two = (f"the {text} one" for text in rng.sample(WORDS["adjectives"], 2))
    elif article == "a":
        one, two = a(thing(rng)), a(thing(rng))
    else:
        one, two = (f"{article} {text}".strip() for text in rng.sample(WORDS["nouns"], 2))
    text = rng.choice(
        (
            f"Do you want {one} or {two}?",
            f"Would you prefer {one} or {two}?",
            f"Is it {one} or {two}?",
            f"Should it be {one} or {two}?",
            f"{capitalized(one)} or {two}?",
            f"Which do you like better, {one} or {two}?",
            f"Shall I send {one} or {two}?",
        )
    )
    edges = {}
    for edge, option in (("first_one", one), ("second_one", two)):
        plain = (f"I want {option}.", f"{capitalized(option)}, please.", f"I'd like {option}.")
        others = (f"{capitalized(option)} would be better.", f"I prefer {option}.", f"{capitalized(option)}.")
        edges[edge] = _some(rng, *_shuffled_first(rng, plain, others))
    if rng.random() < 0.2:
        edges["neither"] = _reply("Neither of them.", "I don't want any of those.", "Is there nothing else?")
    return text, edges


def _ask_which_action(rng: random.Random) -> Question:
    one, two = (verb for verb, _ in rng.sample(VERBS, 2))
    text = rng.choice(
        (
            f"Shall we {one} or {two} it?",
            f"Do you want us to {one} it, or to {two} it?",
            f"Will you {one} it or {two} it?",
            f"Should we {one} it, or will you {two} it?",
        )
    )
    return text, {
        f"will_{verb}": _some(rng, f"Please {verb} it.", f"I'd like to {verb} it.", f"{capitalized(verb)} it, please.")
        for verb in (one, two)
    }


def _ask_anything(draft: Draft) -> Question:
    """A sentence without sense, for copying; whatever the client says to it is fine."""
    return sentence(draft.rng), {
        "answers": _reply("Okay.", "I see.", "If you say so.", "All right then.", default=True)
    }


def _statement(rng: random.Random) -> str:
    what, other, done = thing(rng), noun(rng), rng.choice(VERBS)[1]
    return rng.choice(
        (
            f"It costs {price(rng)}.",
            f"That makes {price(rng)}.",
            f"The {what} is {adjective(rng)}.",
            f"Your {what} is in the {other}.",
            f"We have {number(rng)} {other}s left.",
            f"I found {a(what)} for you.",
            f"The {other} will be {done} {when(rng)}.",
            f"There is {a(what)} {when(rng)}.",
            f"We are full {when(rng)}.",
            f"I could give you {a(what)}.",
            f"The next {other} comes at {hour(rng)}.",
            f"You were the {rng.choice(('first', 'second', 'third'))} to ask.",
            f"That takes {number(rng)} {rng.choice(('days', 'hours', 'weeks', 'minutes'))}.",
            f"It can be {done} for {price(rng)} more.",
            f"My list shows {a(what)}.",
            f"Nobody has {done} it so far.",
            f"For {other}s I can only give {a(what)}.",
        )
    )


QUESTIONS = (
    (_ask_fact, 30),
    (_ask_nameless, 22),
    (_ask_yes_no, 30),
    (_ask_either_or, 14),
    (_ask_trial, 6),
    (_ask_anything, 6),
)
