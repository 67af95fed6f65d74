"""What is left of a model's words, and what was mended."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from duologue.core.dialogue import Role
from duologue_roleplay.repair import repair

ROLE_MARK = re.compile(r"(?:^|\s)(?:client|agent|user|assistant|customer)\s*:", re.IGNORECASE)

# What models write: words, role marks, instructions, code, cut sentences, in any mixture.
PIECES = st.sampled_from(
    [
        "Client:",
        "agent :",
        "User:",
        "ASSISTANT:",
        "Customer:",
        "[Say now: Hello.]",
        "Answer briefly, then ask again: Why?",
        "```python\nprint(1)```",
        "```",
        "<b>",
        "</b>",
        "<|im_end|>",
        "<",
        ">",
        "Yes.",
        "No",
        "It is PK-4471!",
        "my agent told me",
        "…",
        '"',
        "\n",
        " ",
        "\u2028",
        "\u00a0",
    ]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=12).map(" ".join) | st.text(max_size=60)
ROLES = st.sampled_from([Role.CLIENT, Role.AGENT])


@pytest.mark.parametrize(
    ("text", "speaker", "left", "mended"),
    [
        ("It is PK-4471.", Role.CLIENT, "It is PK-4471.", ()),
        ("  It is\n PK-4471. ", Role.CLIENT, "It is PK-4471.", ()),
        ("Client: It is PK-4471.", Role.CLIENT, "It is PK-4471.", ("own_name",)),
        ("customer: Hello.", Role.CLIENT, "Hello.", ("own_name",)),
        ("Assistant: Hello.", Role.AGENT, "Hello.", ("own_name",)),
        ("Yes.\nAgent: And the code?", Role.CLIENT, "Yes.", ("role_leak",)),
        ("Agent: What is your code?", Role.CLIENT, "", ("role_leak",)),
        ("Hello. Client: Hi. Agent: Bye.", Role.AGENT, "Hello.", ("role_leak",)),
        ("Hello. Agent: Hello again.", Role.AGENT, "Hello.", ("role_leak",)),
        ("My agent said so.", Role.CLIENT, "My agent said so.", ()),
        ("Sure. [Say now: What is your code?]", Role.AGENT, "Sure.", ("instruction",)),
        ("Answer briefly, then ask again: Why?", Role.AGENT, "", ("instruction",)),
        ("Look: ```x = 1``` there.", Role.AGENT, "Look: there.", ("code",)),
        ("Look ```x = 1", Role.AGENT, "Look", ("code",)),
        ("<p>Hello.</p><|im_end|>", Role.AGENT, "Hello.", ("code",)),
        ("1 < 2 and 3 > 2", Role.AGENT, "1 < 2 and 3 > 2", ()),
        ("", Role.AGENT, "", ()),
        (" \n", Role.AGENT, "", ()),
    ],
)
def test_what_a_model_wrote_is_mended(text: str, speaker: Role, left: str, mended: tuple[str, ...]) -> None:
    assert repair(text, speaker, is_cut=False) == (left, mended)


@pytest.mark.parametrize(
    ("text", "left", "mended"),
    [
        ("It is late. I wanted to", "It is late.", ("unfinished",)),
        ('He said "yes." And th', 'He said "yes."', ("unfinished",)),
        ("It costs 3.50 or so. Then", "It costs 3.50 or so.", ("unfinished",)),
        ("Really?! Well", "Really?!", ("unfinished",)),
        ("I wanted to", "I wanted to", ()),
        ("It is late.", "It is late.", ()),
    ],
)
def test_a_sentence_that_the_token_limit_cut_off_is_dropped(text: str, left: str, mended: tuple[str, ...]) -> None:
    assert repair(text, Role.CLIENT, is_cut=True) == (left, mended)


def test_a_turn_for_the_other_side_is_not_also_called_unfinished() -> None:
    assert repair("Yes. Agent: And the c", Role.CLIENT, is_cut=True) == ("Yes.", ("role_leak",))


@settings(deadline=None)
@given(text=TEXTS, speaker=ROLES, is_cut=st.booleans())
@example(text="Client: Client: Hello.", speaker=Role.CLIENT, is_cut=False)
@example(text="Client\u2028: Hello.", speaker=Role.CLIENT, is_cut=False)
@example(text="Agent<b>: Hello.", speaker=Role.CLIENT, is_cut=False)
def test_whatever_a_model_wrote_no_role_mark_is_left(text: str, speaker: Role, is_cut: bool) -> None:
    left, _ = repair(text, speaker, is_cut=is_cut)
    assert ROLE_MARK.search(left) is None


@settings(deadline=None)
@given(text=TEXTS, speaker=ROLES, is_cut=st.booleans())
@example(text="<<b>b>", speaker=Role.AGENT, is_cut=False)
@example(text="`<b>``", speaker=Role.AGENT, is_cut=False)
@example(text="```a``` ```", speaker=Role.AGENT, is_cut=False)
@example(text="Yes. <b> no", speaker=Role.AGENT, is_cut=True)
def test_what_was_mended_needs_no_more_mending(text: str, speaker: Role, is_cut: bool) -> None:
    left, _ = repair(text, speaker, is_cut=is_cut)
    assert repair(left, speaker, is_cut=False) == (left, ())


@settings(deadline=None)
@given(text=TEXTS, speaker=ROLES, is_cut=st.booleans())
def test_mending_adds_nothing(text: str, speaker: Role, is_cut: bool) -> None:
    left, mended = repair(text, speaker, is_cut=is_cut)
    assert left == " ".join(left.split())
    assert len(left) <= len(text)
    assert set(mended) <= {"own_name", "code", "instruction", "role_leak", "unfinished"}
    if not mended:
        assert left == " ".join(text.split())
