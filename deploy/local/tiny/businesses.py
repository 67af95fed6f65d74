"""Random businesses: workflows of an agent that nobody has met, with clients to talk to.

A real workflow is known by heart after a few hundred dialogues. A model that has met a hundred thousand of them, each
once, can only do well by reading its prompt, which is what the held-out workflows ask for.
"""

from __future__ import annotations

import random

from facts import FACTS, fact_key, short_value
from questions import Draft, Edges, opening, question
from words import (
    VERBS,
    a,
    adjective,
    capitalized,
    goal,
    hour,
    made_up,
    noun,
    nouns,
    number,
    price,
    sentence,
    street,
    thing,
    when,
    word,
)

from duologue.core.workflow import AgentRole, AnytimeNode, CallNode, EndNode, Intention, Outcome, SayNode, Workflow


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
        text, replies = opening(draft, house) if index == 0 else question(draft)
        edges: Edges = {}
        for position, (edge, reply) in enumerate(replies.items()):
            target = following
            if position and rng.random() < 0.3:
                target = rng.choice([*names[index + 1 :], *ends])
            edges[edge] = reply.model_copy(update={"to": target})
        if index and rng.random() < 0.25:
            call = f"look_up_{index}"
            fact = word(rng, "nouns")
            outcomes = {"found": Outcome(to=following, returns={fact: short_value(rng)})}
            nodes[call] = CallNode(call=call, outcomes=outcomes)
            first = next(iter(edges))
            edges[first] = edges[first].model_copy(update={"to": call})
        nodes[node] = SayNode(say=text, replies=edges)
    nodes |= ends
    for _ in range(rng.choice((0, 0, 1, 2))):
        key, draw = rng.choice(FACTS)
        draft.facts.setdefault(fact_key(rng, key).replace(" ", "_"), draw(rng))
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
