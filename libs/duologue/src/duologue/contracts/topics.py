"""The one table of topics: what travels where, by what key, from whom to whom, and how it looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from duologue.contracts.v1 import dialogue_pb2, events_pb2

PREFIX = "duologue."


@dataclass(frozen=True)
class Topic:
    """One topic. `key` is the field of the message whose value keys its records.

    Each of the `consumers` is a service whose replicas share the records out as a group; of the `followers`, every
    replica hears every record, in no group. `partitions`: how many a cluster gives it unless told otherwise; no more
    members of a group can work at a time.
    """

    name: str
    description: str
    message: type[Message]
    key: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    example: Message
    partitions: int = 24
    compacted: bool = False
    followers: tuple[str, ...] = ()

    def key_of(self, message: Message) -> str:
        return str(getattr(message, self.key))

    def campaign_of(self, message: Any) -> str:
        """Whose a message is: it says so itself, or the dialogue in it does."""
        whole = "campaign_id" in self.message.DESCRIPTOR.fields_by_name
        return str((message if whole else message.dialogue).campaign_id)

    def consumer_group(self, group: str) -> str:
        """As whom `group` reads: one for each of its topics, so that a change of members stirs up no other topic."""
        return f"{self.name}.{group}"

    def retry(self, group: str) -> str:
        """Where `group` puts what it will try again."""
        return f"{self.name}.{group}.retry"

    def dead_letters(self, group: str) -> str:
        """Where `group` puts what it can't work with."""
        return f"{self.name}.{group}.dlq"


_CAMPAIGN = "0b0e7a52-6ee1-4c53-9f0e-3a4f1f3b0c1d"
_DIALOGUE = "5d0f6d6e-3f43-5a55-8d7e-0f2f4a0f5a11"
_WORKFLOW = dialogue_pb2.WorkflowRef(
    id="parcel_redelivery",
    version="cfd488efd924",
    artifact=dialogue_pb2.Artifact(uri="workflows/cfd488efd924.json", sha256="0" * 64),
)
_PERSONA = dialogue_pb2.Persona(id="teacher", character="a retired teacher", description="I like things explained.")
_SPOKEN = dialogue_pb2.Dialogue(
    id=_DIALOGUE,
    campaign_id=_CAMPAIGN,
    round=1,
    split=dialogue_pb2.SPLIT_TRAINING,
    turns=[
        dialogue_pb2.Turn(
            role=dialogue_pb2.ROLE_AGENT,
            text="Hello, this is the parcel desk. What is your tracking number?",
            node="greet",
            instruction="Say now: Hello, this is the parcel desk. What is your tracking number?",
        ),
        dialogue_pb2.Turn(
            role=dialogue_pb2.ROLE_CLIENT,
            text="It is PK-4471.",
            node="greet",
            decisions=[
                dialogue_pb2.Decision(question="applies", answer="yes", probabilities={"yes": 0.97, "no": 0.03})
            ],
        ),
    ],
    end_reason=dialogue_pb2.END_REASON_TURN_LIMIT,
    provenance=dialogue_pb2.Provenance(workflow_id="parcel_redelivery", persona_id="teacher", prompts_version="1"),
    facts={"tracking_number": "PK-4471"},
    usage=[
        dialogue_pb2.ModelUsage(
            part="agent",
            model="tiny",
            prompt_tokens=68,
            completion_tokens=15,
            told_tokens=68,
            cached_tokens=32,
            seconds=0.25,
        )
    ],
)
_ADAPTER = dialogue_pb2.AdapterRef(
    id="quickstart-r1-0b0e7a52",
    served_model="adapters/quickstart-r1-0b0e7a52/merged",
    fingerprint=dialogue_pb2.Artifact(uri="adapters/quickstart-r1-0b0e7a52/fingerprint.json", sha256="0" * 64),
)
_SEALED = events_pb2.DatasetSealed(
    dataset_id="quickstart-r1-0b0e7a52",
    campaign_id=_CAMPAIGN,
    round=1,
    candidates=64,
    kept=19,
    data=dialogue_pb2.Artifact(uri="datasets/quickstart-r1-0b0e7a52/data.parquet", sha256="0" * 64),
    manifest=dialogue_pb2.Artifact(uri="datasets/quickstart-r1-0b0e7a52/manifest.json", sha256="0" * 64),
)

DIALOGUE_REQUESTED = Topic(
    PREFIX + "dialogue.requested.v1",
    "A dialogue is wanted: workflow, persona, models, adapter and seed. The same id may come twice.",
    events_pb2.DialogueRequested,
    key="dialogue_id",
    producers=("campaign",),
    consumers=("roleplay",),
    example=events_pb2.DialogueRequested(
        dialogue_id=_DIALOGUE,
        campaign_id=_CAMPAIGN,
        round=1,
        split=dialogue_pb2.SPLIT_TRAINING,
        seed=7,
        workflow=_WORKFLOW,
        persona=_PERSONA,
        intention_id="missed",
        decoding=events_pb2.Decoding(temperature=0.8, top_p=0.95, max_tokens=100),
        role_play=events_pb2.RolePlay(max_turns=8, recoveries=2, structured=True),
    ),
)
DIALOGUE_GENERATED = Topic(
    PREFIX + "dialogue.generated.v1",
    "A dialogue was played to its end, whatever that was.",
    events_pb2.DialogueGenerated,
    key="dialogue_id",
    producers=("roleplay",),
    consumers=("scoring",),
    example=events_pb2.DialogueGenerated(dialogue_id=_DIALOGUE, dialogue=_SPOKEN, workflow=_WORKFLOW, persona=_PERSONA),
)
DIALOGUE_SCORED = Topic(
    PREFIX + "dialogue.scored.v1",
    "A dialogue with its scores.",
    events_pb2.DialogueScored,
    key="dialogue_id",
    producers=("scoring",),
    consumers=("filtering", "campaign"),
    example=events_pb2.DialogueScored(
        dialogue_id=_DIALOGUE,
        dialogue=_SPOKEN,
        scores=dialogue_pb2.Scores(words=14, ngrams=48, subgoals_absolute=1, subgoals_relative=0.5, nodes=["greet"]),
        workflow=_WORKFLOW,
        persona=_PERSONA,
        judge_usage=dialogue_pb2.ModelUsage(part="judge", model="tiny", prompt_tokens=120, seconds=0.125),
    ),
)
DIALOGUE_FILTERED = Topic(
    PREFIX + "dialogue.filtered.v1",
    "A dialogue was kept, or dropped for a reason.",
    events_pb2.DialogueFiltered,
    key="dialogue_id",
    producers=("filtering",),
    consumers=("campaign",),
    example=events_pb2.DialogueFiltered(
        dialogue_id=_DIALOGUE,
        campaign_id=_CAMPAIGN,
        round=1,
        reason="subgoals_absolute is 1, at_least asks for 4",
        dropped_by="at_least",
    ),
)
DATASET_SEALED = Topic(
    PREFIX + "dataset.sealed.v1",
    "A round's kept dialogues lie in the artifact store and will not change.",
    events_pb2.DatasetSealed,
    key="campaign_id",
    partitions=3,
    producers=("filtering",),
    consumers=("campaign",),
    example=_SEALED,
)
TRAINING_REQUESTED = Topic(
    PREFIX + "training.requested.v1",
    "An adapter is to be trained on sealed datasets.",
    events_pb2.TrainingRequested,
    key="campaign_id",
    partitions=3,
    producers=("campaign",),
    consumers=("training",),
    example=events_pb2.TrainingRequested(
        training_id="quickstart-r1-0b0e7a52",
        campaign_id=_CAMPAIGN,
        round=1,
        adapter_id="quickstart-r1-0b0e7a52",
        datasets=[_SEALED],
        base_model="models/tiny",
        rank=64,
        alpha=64,
        learning_rate=5e-4,
        weight_decay=0.01,
        batch_size=4,
        epochs=1,
        warmup_steps=10,
        max_tokens=1024,
    ),
)
TRAINING_COMPLETED = Topic(
    PREFIX + "training.completed.v1",
    "A training came to its end: an adapter, or an error that says why not.",
    events_pb2.TrainingCompleted,
    key="campaign_id",
    partitions=3,
    producers=("training",),
    consumers=("campaign",),
    example=events_pb2.TrainingCompleted(
        training_id="quickstart-r1-0b0e7a52",
        campaign_id=_CAMPAIGN,
        round=1,
        adapter=_ADAPTER,
        examples=96,
        steps=24,
        first_loss=1.9,
        last_loss=0.8,
        seconds=21.5,
    ),
)
ADAPTER_RELEASED = Topic(
    PREFIX + "adapter.released.v1",
    "Which adapter of an agent answers from now on, and which is a canary with a share of its training dialogues; the "
    "last record of a key is what holds.",
    events_pb2.AdapterReleased,
    key="agent",
    partitions=3,
    producers=("campaign",),
    consumers=("roleplay",),
    example=events_pb2.AdapterReleased(
        agent="quickstart", adapter=_ADAPTER, campaign_id=_CAMPAIGN, released_at="2026-01-01T00:00:00Z", cause="gate"
    ),
    compacted=True,
)
CAMPAIGN_CANCELLED = Topic(
    PREFIX + "campaign.cancelled.v1",
    "A campaign was cancelled: nobody wants its dialogues and its adapters any more. It never goes on.",
    events_pb2.CampaignCancelled,
    key="campaign_id",
    partitions=1,
    producers=("campaign",),
    consumers=(),
    followers=("roleplay", "scoring", "training"),
    example=events_pb2.CampaignCancelled(campaign_id=_CAMPAIGN, cancelled_at="2026-01-01T00:00:00Z"),
)

TOPICS: tuple[Topic, ...] = (
    DIALOGUE_REQUESTED,
    DIALOGUE_GENERATED,
    DIALOGUE_SCORED,
    DIALOGUE_FILTERED,
    DATASET_SEALED,
    TRAINING_REQUESTED,
    TRAINING_COMPLETED,
    ADAPTER_RELEASED,
    CAMPAIGN_CANCELLED,
)
