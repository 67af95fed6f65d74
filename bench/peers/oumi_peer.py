"""oumi: `synthesize` with one multi-turn attribute, as in its multiturn_conversation_synth.yaml.

It plans every dialogue with one request more, and plays all of them turn by turn: the next turn of any begins when the
last one of all has ended.
"""

from __future__ import annotations

from pathlib import Path

from measurement import AGENT, CLIENT, TURN_PAIRS, measure
from oumi import synthesize
from oumi.core.configs import (
    GenerationParams,
    InferenceConfig,
    InferenceEngineType,
    ModelParams,
    RemoteParams,
    SynthesisConfig,
)
from oumi.core.configs.params.synthesis_params import (
    GeneralSynthesisParams,
    MultiTurnAttribute,
    SampledAttribute,
    SampledAttributeValue,
)
from oumi.core.types.conversation import Role


class OumiPeer:
    def __init__(self, url: str, concurrency: int, folder: Path) -> None:
        self._folder = folder
        self._character = SampledAttribute(
            id="character",
            name="Character",
            description="Who the client is",
            possible_values=[
                SampledAttributeValue(id="retired_teacher", name="retired teacher", description=CLIENT),
                SampledAttributeValue(id="teacher", name="teacher", description=CLIENT),
            ],
        )
        self._dialogue = MultiTurnAttribute(
            id="dialogue",
            min_turns=TURN_PAIRS,
            max_turns=TURN_PAIRS,
            role_instruction_messages={Role.USER: "{character.description}", Role.ASSISTANT: AGENT},
        )
        self._inference = InferenceConfig(
            model=ModelParams(model_name="stub"),
            engine=InferenceEngineType.REMOTE,
            generation=GenerationParams(max_new_tokens=100, temperature=0.8, top_p=0.95),
            remote_params=RemoteParams(
                api_url=f"{url}/v1/chat/completions",
                api_key="none",
                num_workers=concurrency,
                use_adaptive_concurrency=False,  # it would begin at half of it
            ),
        )

    def play(self, dialogues: int) -> int:
        samples = synthesize(
            SynthesisConfig(
                output_path=str(self._folder / f"{dialogues}.jsonl"),
                strategy_params=GeneralSynthesisParams(
                    sampled_attributes=[self._character], multiturn_attributes=[self._dialogue]
                ),
                inference_config=self._inference,
                num_samples=dialogues,
            )
        )
        assert len(samples) == dialogues
        return sum(len(sample["dialogue"]["messages"]) for sample in samples)


if __name__ == "__main__":
    measure(OumiPeer)
