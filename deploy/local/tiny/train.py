"""Trains the tiny model that Duologue brings along, and saves it as a model folder.

Usage: .venv-ml/bin/python deploy/local/tiny/train.py --work /tmp/tiny [--out FOLDER] [--steps N]

An interrupted run goes on from its last checkpoint in the --work folder when it is started again with the same
arguments. Everything is drawn from --seed; on another number of threads the sums, and so the weights, differ slightly.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from text import AgentText, ClientText, DecisionText, Example, examples
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.decision import DecisionConfig

HERE = Path(__file__).parent
PAD, SYSTEM, USER, ASSISTANT, END, DECIDE, ANSWER = SPECIAL = (
    "<|pad|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<|decide|>",
    "<|answer|>",
)
CONTEXT = 1024

# A message is its role's token and its text; only the assistant's messages end, because only they are generated.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'assistant' -%}"
    "{{- '<|assistant|>' -}}{%- generation -%}{{- message.content + '<|end|>' -}}{%- endgeneration -%}"
    "{%- else -%}{{- '<|' + message.role + '|>' + message.content -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)

# All questions about a state stand in one prompt, each followed by the place where its answer is read: one forward pass
# answers them all. Options go by their wording only, and each is followed by its label, one token. After them stands
# once more what the client said: what the model goes on with is the label that followed the same words before.
DECISION_TEMPLATE = (
    "{{- '<|decide|>' + state -}}"
    "{%- for question in questions -%}"
    "{{- '\\n\\n' + question.instructions -}}"
    "{%- if question.type != 'noul' -%}"
    "{%- for option in question.options -%}"
    "{{- '\\n' + (question.descriptions[loop.index0] or option) + ' =' + question.labels[loop.index0] -}}"
    "{%- endfor -%}"
    "{{- '\\n' + state.split('Client: ')[-1] + ' =<|mark|>' -}}"
    "{%- else -%}"
    "{{- '<|answer|><|mark|>' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
)

# Weight of the tokens that others say in a dialogue, where the completions of the model's part count 1. It is there to
# learn the language from; the part itself is learnt from the completions.
CONTEXT_WEIGHT = 0.1
# A decision is one token among a hundred; without more weight it would be drowned.
DECISION_WEIGHT = 3.0


def main() -> None:
    options = _options()
    torch.manual_seed(options.seed)
    options.work.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(options)
    model = LlamaForCausalLM(_model_config(options, tokenizer))
    print(f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.2f} million parameters", flush=True)
    _train(model, tokenizer, options)
    save(model, tokenizer, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the tokenizer and checkpoints")
    parser.add_argument("--out", type=Path, default=HERE / "model", help="the model folder to write")
    parser.add_argument("--steps", type=int, default=4500, help="optimizer steps")
    parser.add_argument("--batch-tokens", type=int, default=4096, help="tokens per step, padding included")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


# ---- tokenizer and model ---------------------------------------------------------------------------------------------


def _tokenizer(options: argparse.Namespace) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the training text, made once per work folder; any text can be written with it.

    Digits stand alone, so that a number is carried over digit by digit and none is a word of its own.
    """
    saved = options.work / "tokenizer"
    if saved.exists():
        return PreTrainedTokenizerFast.from_pretrained(saved)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=options.vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_plain_text(islice(examples(options.seed), 6000)), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=[SYSTEM, USER, ASSISTANT, DECIDE, ANSWER],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(saved)
    return tokenizer


def _plain_text(found: Iterator[Example]) -> Iterator[str]:
    for example in found:
        if isinstance(example, AgentText):
            for prompt, written in example.turns:
                yield f"{prompt[-1]['content']}\n{written}"
        elif isinstance(example, ClientText):
            yield from (message["content"] for message in example.messages)
        else:
            yield json.dumps(example.request)


def _model_config(options: argparse.Namespace, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    heads = options.width // 64
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.width,
        intermediate_size=options.width * 11 // 4,
        num_hidden_layers=options.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write a folder that `transformers serve` takes. Files of the same name are replaced."""
    model.generation_config = GenerationConfig(
        do_sample=True,  # without it `transformers serve` takes a temperature and ignores it
        temperature=0.8,
        top_p=0.95,
        top_k=50,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    decision_config().save_pretrained(out)


def decision_config() -> DecisionConfig:
    return DecisionConfig(chat_template=DECISION_TEMPLATE)


# ---- from examples to tensors ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sequence:
    """Token ids, and at each position the token to predict there and how much it counts.

    A dialogue is a trunk and one branch per instructed prompt of the agent: a branch sees the first `stem` tokens of
    the trunk and itself. So the history is read once and not once per turn, which halves the time to train the agent.
    """

    ids: list[int]
    targets: list[int]
    weights: list[float]
    positions: list[int]
    branches: list[int]
    stems: list[int]

    def __len__(self) -> int:
        return len(self.ids)


class Encoder:
    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.decisions = decision_config()
        self.assistant, self.end = tokenizer.convert_tokens_to_ids([ASSISTANT, END])

    def encode(self, example: Example) -> Sequence:
        if isinstance(example, AgentText):
            return self._agent(example)
        if isinstance(example, ClientText):
            return self._trunk(self._chat(example.messages), 1.0)
        return self._decisions(example)

    def _chat(self, messages: Any, answering: bool = False) -> list[int]:
        found = self.tokenizer.apply_chat_template(messages, add_generation_prompt=answering, return_dict=False)
        assert isinstance(found, list)  # noqa: S101 - it is, unless tensors are asked for
        return found

    def _trunk(self, ids: list[int], own_weight: float) -> Sequence:
        """The whole dialogue; `own_weight` counts for what stands from the assistant's token to the end token."""
        weights, own = [], False
        for token in ids:
            own = token == self.assistant or (own and token != self.end)
            weights.append(own_weight if own else CONTEXT_WEIGHT)
        weights[-1] = 0.0
        return Sequence(ids, [*ids[1:], 0], weights, list(range(len(ids))), [0] * len(ids), [len(ids)] * len(ids))

    def _agent(self, example: AgentText) -> Sequence:
        trunk = self._trunk(self._chat(example.history), CONTEXT_WEIGHT)
        stem_ids = list(trunk.ids)
        for branch, (prompt, written) in enumerate(example.turns, start=1):
            asked = self._chat(prompt, answering=True)
            ids = [*asked, *self.tokenizer.encode(written), self.end]
            stem = _common_prefix(stem_ids, asked)
            own = ids[stem:]
            trunk.ids.extend(own)
            trunk.targets.extend([*own[1:], 0])
            trunk.weights.extend([0.0] * (len(asked) - stem - 1) + [1.0] * (len(ids) - len(asked)) + [0.0])
            trunk.positions.extend(range(stem, len(ids)))
            trunk.branches.extend([branch] * len(own))
            trunk.stems.extend([stem] * len(own))
        return trunk

    def _decisions(self, example: DecisionText) -> Sequence:
        ((inputs, questions),) = self.decisions.prepare_inputs(example.request, self.tokenizer)
        ids = inputs["input_ids"][0].tolist()
        targets, weights = [0] * len(ids), [0.0] * len(ids)
        for mark, question in zip(inputs["marks"].tolist(), questions, strict=True):
            answer = example.answers.get(question.name)
            if answer is not None:
                label = question.labels[question.options.index(answer)]
                (targets[mark - 1],) = self.tokenizer.encode(label)
                weights[mark - 1] = DECISION_WEIGHT
        return Sequence(ids, targets, weights, list(range(len(ids))), [0] * len(ids), [len(ids)] * len(ids))


def _common_prefix(left: list[int], right: list[int]) -> int:
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return min(len(left), len(right))


@dataclass(frozen=True)
class Batch:
    ids: torch.Tensor
    positions: torch.Tensor
    sees: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def of(cls, sequences: list[Sequence]) -> Batch:
        length = max(map(len, sequences))

        def padded(field: str, value: float) -> torch.Tensor:
            rows = [getattr(row, field) for row in sequences]
            return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows])

        branches, stems = padded("branches", -1), padded("stems", 0)
        order = torch.arange(length)
        same = branches[:, :, None] == branches[:, None, :]
        in_stem = (branches[:, None, :] == 0) & (order[None, None, :] < stems[:, :, None])
        sees = (order[:, None] >= order[None, :]) & (same | in_stem)
        return cls(
            padded("ids", 0), padded("positions", 0), sees[:, None], padded("targets", 0), padded("weights", 0.0)
        )

    def loss(self, model: LlamaForCausalLM) -> torch.Tensor:
        """Mean cross entropy by weight. Only the positions that count go through the output layer."""
        hidden = model.model(input_ids=self.ids, attention_mask=self.sees, position_ids=self.positions)
        counts = self.weights > 0
        logits = model.lm_head(hidden.last_hidden_state[counts]).float()
        losses = functional.cross_entropy(logits, self.targets[counts], reduction="none")
        weights = self.weights[counts]
        return (losses * weights).sum() / weights.sum()


def _batches(encoder: Encoder, options: argparse.Namespace) -> Iterator[Batch]:
    """Batches of like lengths, so that little is padding; drawn from pools, so that memory stays small."""
    found = examples(options.seed + 1)
    rng = random.Random(options.seed)
    while True:
        pool = sorted((encoder.encode(example) for example in islice(found, 700)), key=len)
        batches: list[list[Sequence]] = [[]]
        for sequence in pool:
            if batches[-1] and len(sequence) * (len(batches[-1]) + 1) > options.batch_tokens:
                batches.append([])
            batches[-1].append(sequence)
        rng.shuffle(batches)
        yield from map(Batch.of, batches)


# ---- training --------------------------------------------------------------------------------------------------------


def _train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, options: argparse.Namespace) -> None:
    optimizers = _optimizers(model, options.learning_rate)
    schedules = [LambdaLR(optimizer, lambda step: _rate(step, options.steps)) for optimizer in optimizers]
    parts = [model, *optimizers, *schedules]
    checkpoint, done = options.work / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        for part, saved in zip(parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        done = state["step"]
        print(f"going on from step {done}", flush=True)
    batches = islice(_batches(Encoder(tokenizer), options), done, options.steps)  # skipping is quick beside training
    losses, began = [], time.monotonic()
    model.train()
    for step, batch in enumerate(batches, start=done + 1):
        with torch.autocast("cpu", torch.bfloat16):
            loss = batch.loss(model)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for part in (*optimizers, *schedules):
            part.step()
        model.zero_grad()
        losses.append(loss.item())
        if step % 25 == 0:
            pace = (time.monotonic() - began) / len(losses)
            print(f"step {step}  loss {fmean(losses[-25:]):.3f}  {pace:.2f} s/step", flush=True)
        if step % 100 == 0 or step == options.steps:
            partial = checkpoint.with_suffix(".partial")
            torch.save({"step": step, "parts": [part.state_dict() for part in parts]}, partial)
            partial.replace(checkpoint)


def _optimizers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between the layers, AdamW for the rest.

    Here Muon got to a loss in 75 steps for which AdamW needed more than twice as many, at the same time per step.
    """
    matrices = {name for name, parameter in model.named_parameters() if parameter.dim() == 2 and "embed" not in name}
    inner = [parameter for name, parameter in model.named_parameters() if name in matrices]
    rest = [parameter for name, parameter in model.named_parameters() if name not in matrices]
    return [
        torch.optim.Muon(inner, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def _rate(step: int, steps: int, warm_up: int = 100) -> float:
    """Warm-up, then a cosine down to a twentieth."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.05 + 0.475 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up))))


if __name__ == "__main__":
    main()
