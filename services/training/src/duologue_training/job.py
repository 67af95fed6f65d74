"""The training process: `python -m duologue_training.job FOLDER`. LoRA on completions only; progress on stdout.

It is a process of its own so that a training that is killed, or runs out of memory, takes nothing else with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from transformers.utils import cached_file
from trl import SFTConfig, SFTTrainer

from duologue.core.prompts import Message
from duologue.models.fingerprint import Fingerprint, Probe
from duologue_training.folder import TrainingFolder
from duologue_training.plan import UNUSABLE, Example, ProgressLine, TrainingPlan, TrainingResult

_PROBES = 8
_PROBE_TOKENS = 16
_PRESENT = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
_PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate")


class UnusablePlanError(Exception):
    """The plan can't be carried out, now or later."""


class _Progress(TrainerCallback):  # type: ignore[misc]
    """Tells each step, and keeps its loss."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))
            tell(ProgressLine(stage="training", step=state.global_step, steps=state.max_steps, loss=self.losses[-1]))


def tell(line: ProgressLine) -> None:
    print(line.model_dump_json(), flush=True)


def train(plan: TrainingPlan, out: Path) -> TrainingResult:
    """Train, and write `adapter/`, with `merge` also `merged/`, and `fingerprint.json` below `out`."""
    started = time.monotonic()
    tell(ProgressLine(stage="loading"))
    model, tokenizer = _load(plan)
    progress = _Progress()
    probes = _probe_prompts(plan.examples, plan.seed)
    base_answers = [_answer(model, tokenizer, prompt) for prompt in probes]
    trainer = _trainer(plan, model, tokenizer, progress, out)
    trainer.train()
    tuned = trainer.model
    tuned.save_pretrained(out / "adapter")
    tell(ProgressLine(stage="merging", step=len(progress.losses), steps=len(progress.losses)))
    merged = tuned.merge_and_unload()
    merged.eval()
    if plan.merge:
        merged.save_pretrained(out / "merged")
        tokenizer.save_pretrained(out / "merged")
    answers = [_answer(merged, tokenizer, prompt) for prompt in probes]
    fingerprint = Fingerprint(
        max_tokens=_PROBE_TOKENS,
        probes=[
            Probe(messages=prompt, base=base, adapter=answer)
            for prompt, base, answer in zip(probes, base_answers, answers, strict=True)
        ],
    )
    (out / "fingerprint.json").write_text(fingerprint.model_dump_json(indent=2))
    return TrainingResult(
        base_files=_file_hashes(plan.base_model),
        examples=len(plan.examples),
        steps=len(progress.losses),
        losses=progress.losses,
        seconds=time.monotonic() - started,
        telling_probes=len(fingerprint.telling),
        versions={package: version(package) for package in _PACKAGES},
    )


def _load(plan: TrainingPlan) -> tuple[Any, Any]:
    if plan.device in _PRESENT and not _PRESENT[plan.device]():
        raise UnusablePlanError(f"device is {plan.device}, and this process sees none: set it to auto or cpu")
    if plan.threads:
        torch.set_num_threads(plan.threads)
    try:
        tokenizer = AutoTokenizer.from_pretrained(plan.base_model)
        model = AutoModelForCausalLM.from_pretrained(plan.base_model, dtype=torch.float32)
    except (OSError, ValueError) as error:
        if not _is_permanent(error):
            raise
        raise UnusablePlanError(f"base model {plan.base_model!r} can't be loaded: {error}") from error
    if tokenizer.chat_template is None:
        raise UnusablePlanError(f"base model {plan.base_model!r} has no chat template")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def _is_permanent(error: Exception) -> bool:
    """A name that no model has stays wrong; a hub or a disk that does not answer may answer the next attempt."""
    # transformers makes an OSError of everything, and keeps what it was as the cause.
    permanent = (ValueError, RepositoryNotFoundError, RevisionNotFoundError)
    return isinstance(error, ValueError) or isinstance(error.__cause__, permanent)


def _file_hashes(model: str) -> dict[str, str]:
    """SHA-256 of the config and the weights, wherever they were loaded from."""
    folder = Path(str(cached_file(model, "config.json"))).parent
    hashes = {}
    for path in (folder / "config.json", *sorted(folder.glob("*.safetensors"))):
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _trainer(plan: TrainingPlan, model: Any, tokenizer: Any, progress: _Progress, out: Path) -> SFTTrainer:
    """Settings of Ulmer et al. 2024, section 4: LoRA on all linear layers, inverse square root schedule."""
    examples = [
        {"prompt": example.prompt, "completion": [{"role": "assistant", "content": example.completion}]}
        for example in plan.examples
    ]
    config = SFTConfig(
        output_dir=str(out / "checkpoints"),
        per_device_train_batch_size=plan.batch_size,
        num_train_epochs=plan.epochs,
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        lr_scheduler_type="inverse_sqrt",
        warmup_steps=plan.warmup_steps,
        max_length=plan.max_tokens,
        truncation_mode="keep_end",  # what is learnt stands last
        completion_only_loss=True,
        seed=plan.seed,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=plan.device == "cpu",
        bf16=False,
        activation_checkpointing=False,
        dataloader_pin_memory=False,
    )
    lora = LoraConfig(r=plan.rank, lora_alpha=plan.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    return SFTTrainer(
        model=model,
        args=config,
        train_dataset=datasets.Dataset.from_list(examples),
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[progress],
    )


def _probe_prompts(examples: list[Example], seed: int) -> list[list[Message]]:
    chosen = random.Random(seed).sample(examples, min(_PROBES, len(examples)))
    return [example.prompt for example in chosen]


def _answer(model: Any, tokenizer: Any, prompt: list[Message]) -> str:
    """The greedy answer, as a server gives it for temperature 0."""
    inputs = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    inputs = inputs.to(model.device)
    with torch.no_grad():
        written = model.generate(**inputs, max_new_tokens=_PROBE_TOKENS, do_sample=False)
    return str(tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


def _die_with_parent() -> None:
    """Stdin is a pipe from the service. It ends when the service does, however that came, and so must this process."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1024):  # not sys.stdin: its lock would be held at exit
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> int:
    folder = TrainingFolder(Path(sys.argv[1]))
    _die_with_parent()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        plan = TrainingPlan.model_validate_json(folder.plan.read_text())
        result = train(plan, folder.out)
    except UnusablePlanError as error:
        print(json.dumps({"error": str(error)}), file=sys.stderr)
        return UNUSABLE
    os.sync()  # with the result the rest must be whole, after a power cut too
    folder.result.write_text(result.model_dump_json())
    tell(ProgressLine(stage="done"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
