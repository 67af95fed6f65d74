"""Random businesses: workflows of an agent that nobody has met, with clients to talk to.

A real workflow is known by heart after a few hundred dialogues. A model that has met a hundred thousand of them, each
once, can only do well by reading its prompt, which is what the held-out workflows ask for.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from words import (
    PHRASES,
    VERBS,
    WORDS,
    a,
    adjective,
    capitalized,
    code,
    date,
    hour,
    made_up,
    name,
    noun,
    nouns,
    number,
    phrase,
    price,
    sentence,
    street,
    thing,
    weekday,
    when,
    word,
)

from duologue.core.workflow import (
    AgentRole,
    AnytimeNode,
    CallNode,
    EndNode,
    Intention,
    Outcome,
    Reply,
    SayNode,
    Workflow,
)

Edges = dict[str, Reply]
Question = tuple[str, Edges]


class Draft:
    """A workflow in the making: its questions add facts to the client and hand out node ids."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.facts: dict[str, str] = {}
        self.returns: dict[str, str] = {}

    def remember(self, key: str, value: str) -> str:
        """Put a fact on the client's list, and give back the placeholder for it."""
        self.facts[key.replace(" ", "_")] = value
        return "{" + key.replace(" ", "_") + "}"


def random_workflow(rng: random.Random) -> Workflow:
    """A workflow of three to seven questions, with calls, ways out, and a loop now and then."""
    draft = Draft(rng)
    length = rng.randrange(3, 8)
    nodes: dict[str, SayNode | CallNode | EndNode] = {}
    ends = {f"bye_{index}": EndNode(end=_closing(rng)) for index in range(rng.choice((1, 2, 2, 3)))}
    names = [f"ask_{index}" for index in range(length)]
    job, (where, house) = word(rng, "agent_jobs"), _house(rng)
    role = f"{rng.choice((a(job), a(job), a(job), f'the {job}'))} {where} {house}"
    for index, node in enumerate(names):
        following = names[index + 1] if index + 1 < length else "bye_0"
        text, replies = _opening(draft, house) if index == 0 else _question(draft)
        edges: Edges = {}
        for position, (edge, reply) in enumerate(replies.items()):
            target = following
            if position and rng.random() < 0.3:
                target = rng.choice([*names[index + 1 :], *ends])
            edges[edge] = reply.model_copy(update={"to": target})
        if index and rng.random() < 0.25:
            call = f"look_up_{index}"
            fact = word(rng, "nouns")
            outcomes = {"found": Outcome(to=following, returns={fact: _short_value(rng)})}
            nodes[call] = CallNode(call=call, outcomes=outcomes)
            first = next(iter(edges))
            edges[first] = edges[first].model_copy(update={"to": call})
        nodes[node] = SayNode(say=text, replies=edges)
    nodes |= ends
    for _ in range(rng.choice((0, 0, 1, 2))):
        key, draw = rng.choice(FACTS)
        draft.facts.setdefault(_key(rng, key).replace(" ", "_"), draw(rng))
    facts = list(draft.facts.items())
    rng.shuffle(facts)
    return Workflow(
        workflow="random",
        title="A random service",
        agent=AgentRole(role=role, persona=_agent_persona(rng)),
        intentions=(Intention(id="only", goal=goal(rng), facts=dict(facts)),),
        start="ask_0",
        nodes=nodes,
        anytime=_anytime(rng),
    )


def goal(rng: random.Random) -> str:
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


def _house(rng: random.Random) -> tuple[str, str]:
    """Where the agent works, such as ("at", "Weber Gallery") or ("of", "the old mill")."""
    own = capitalized(rng.choice((word(rng, "last_names"), noun(rng), adjective(rng), made_up(rng))))
    place = word(rng, "places")
    return rng.choice(
        (
            ("at", f"{own} {capitalized(place)}"),
            ("at", f"the {own} {place}"),
            ("at", f"{own} {capitalized(nouns(rng))}"),
            ("of", f"the {own} {place}"),
            ("in", f"the {adjective(rng)} {place}"),
            ("at", f"{own} and {capitalized(noun(rng))}"),
        )
    )


def _agent_persona(rng: random.Random) -> str:
    traits = (
        f"I know all about {nouns(rng)} and {nouns(rng)}.",
        f"I {rng.choice(VERBS)[0]} every {noun(rng)} with care.",
        "I answer in short sentences.",
        "I am patient and friendly with everybody.",
        f"I have worked here for {number(rng)} years.",
        f"I like {adjective(rng)} {nouns(rng)} and clear words.",
        "I ask one thing at a time.",
        f"I never forget {a(noun(rng))}.",
        "I help people quickly and stay calm.",
        f"My {noun(rng)} is {adjective(rng)}, and so am I.",
        f"I take care of {number(rng)} {nouns(rng)}.",
        "I keep to the point.",
    )
    return " ".join(rng.sample(traits, rng.choice((1, 1, 2))))


# ---- questions -------------------------------------------------------------------------------------------------------


def _key(rng: random.Random, key: str) -> str:
    return key.replace("*", rng.choice((word(rng, "objects"), word(rng, "objects"), noun(rng))))


def _short_value(rng: random.Random) -> str:
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
    key = _key(rng, kind)
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


def _question(draft: Draft) -> Question:
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


def _opening(draft: Draft, house: str) -> Question:
    rng = draft.rng
    hello = rng.choice(("Hello, ", "Good day, ", "Welcome to ", "Hello, this is ", "", "Good evening, ", "Hi, "))
    hello = f"{hello}{house}{rng.choice(('.', '.', '!'))}"
    if rng.random() < 0.5:
        text, edges = _question(draft)
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


def _closing(rng: random.Random) -> str:
    what, other, done = thing(rng), noun(rng), rng.choice(VERBS)[1]
    start = rng.choice(
        (
            f"Your {what} will be {done} {when(rng)}.",
            f"All done, the {other} is {done}.",
            f"Then we see you {when(rng)}.",
            f"I have {done} the {other} for you.",
            "Thank you for calling.",
            "Thank you and have a nice day.",
            f"Sorry, I can't {rng.choice(VERBS)[0]} that.",
            f"Without {a(other)} I can't help you.",
            f"I'm sorry, the {what} is gone.",
            f"Enjoy your {what}.",
            "That is everything, then.",
            f"We will call you {when(rng)}.",
            f"Good luck with the {what}.",
            f"Please come back with {a(what)}.",
            f"Then nothing will be {done}.",
            f"Everything is {done} now.",
            "I hope you find what you need.",
        )
    )
    if rng.random() < 0.15:
        start = sentence(rng).replace("?", ".")
    bye = rng.choice(
        ("Goodbye!", "Goodbye.", "Goodbye.", "Take care, goodbye!", "Goodbye and good luck!", "Thank you, goodbye!")
    )
    return f"{start} {bye}"


def _anytime(rng: random.Random) -> dict[str, AnytimeNode]:
    what, verb = noun(rng), rng.choice(VERBS)[0]
    scope = rng.choice(
        (
            f"I only know about {what}s.",
            f"Sorry, I can only {verb} {what}s here.",
            "I'm afraid I can't help with that.",
            f"That is nothing for {a(word(rng, 'agent_jobs'))}.",
            f"Here we only {verb} {what}s, nothing else.",
            "That's not what this line is for.",
            f"You must ask somebody else, I only {verb} things.",
        )
    )
    strays = tuple(dict.fromkeys(stray(rng) for _ in range(3)))
    nodes = {"out_of_scope": AnytimeNode(say=scope, when=strays)}
    infos = [
        (f"We are open from {hour(rng)} to {hour(rng)}.", ("When are you open?", "What are your hours?")),
        (f"My boss is back {when(rng)}.", ("Let me talk to your boss.", "I want to talk to somebody else.")),
        (
            f"It costs {price(rng)} per {noun(rng)}.",
            ("What does it cost?", "How expensive is it?", "Tell me the price."),
        ),
        (f"You find us at {street(rng)}.", ("Where are you?", "What is your address?", "How do I get there?")),
        (f"Yes, {nouns(rng)} are allowed.", (f"May I bring my {noun(rng)}?", f"Are {nouns(rng)} allowed?")),
        (f"Don't worry, the {noun(rng)} is safe.", ("I'm worried about it.", "Is that dangerous?", "Is it safe?")),
    ]
    for index, (say, whens) in enumerate(rng.sample(infos, rng.choice((0, 1, 1, 2)))):
        nodes[f"info_{index}"] = AnytimeNode(say=say, when=whens)
    wait = rng.choice(
        ("One moment, please.", "Just a second.", f"Wait, I need my {noun(rng)}.", "Hold the line, please.")
    )
    nodes["one_moment"] = AnytimeNode(say=wait)
    return nodes


def stray(rng: random.Random) -> str:
    """Something that a client asks beside the point."""
    what, verb = noun(rng), rng.choice(VERBS)[0]
    return rng.choice(
        (
            f"Can you also {verb} my {what}?",
            f"Could you {verb} a {what} for me?",
            f"Do you know a good {word(rng, 'agent_jobs')}?",
            f"Which {what} is the best?",
            f"Do you sell {what}s too?",
            f"Where can I buy {a(thing(rng))}?",
            f"What do you think of my {what}?",
            f"How do I {verb} {a(what)}?",
            f"Is there a {word(rng, 'places')} near you?",
            f"Can you help me with my {what}?",
            f"Have you seen the {thing(rng)} outside?",
            "Which team won last night?",
            f"Do you like {what}s?",
            f"What is the best way to {verb} {what}s?",
        )
    )
