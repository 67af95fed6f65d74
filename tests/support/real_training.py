"""A training for real, in the environment with torch: `real_training.py ORDER ARTIFACTS MODEL`.

Makes a tiny Llama in MODEL, lets the worker train what ORDER (a TrainingRequested) asks for, looks at the result, and
prints what it saw as one JSON document.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from duologue.contracts.v1 import events_pb2
from duologue.models.fingerprint import Fingerprint
from duologue.store import ArtifactStore
from duologue_training import job
from duologue_training.local import ChildTrainer
from duologue_training.plan import TrainingPlan
from duologue_training.settings import Settings
from duologue_training.trainings import Trainings
from duologue_training.worker import TrainAdapter
from tests.support import tiny_llama


def learnt(plan: TrainingPlan) -> list[str]:
    """The text that carries the loss, example by example."""
    model, tokenizer = job._load(plan)
    with tempfile.TemporaryDirectory() as out:
        trainer = job._trainer(plan, model, tokenizer, job._Progress(), Path(out))
        batch = trainer.data_collator([trainer.train_dataset[index] for index in range(len(plan.examples))])
    return [tokenizer.decode(row[row != -100]) for row in batch["labels"]]


def refusal(plan: TrainingPlan) -> str:
    with tempfile.TemporaryDirectory() as out:
        try:
            job.train(plan, Path(out))
        except job.UnusablePlanError as error:
            return str(error)
        except OSError as error:
            return f"OSError: {error}"
    return ""


def served(folder: Path, fingerprint: Fingerprint) -> list[bool]:
    """Whether the merged model answers each probe as the adapter did in training."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return [job._answer(model, tokenizer, probe.messages) == probe.adapter for probe in fingerprint.probes]


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


async def main(order: events_pb2.TrainingRequested, artifacts_folder: str, model_folder: str) -> None:
    torch.set_num_threads(1)
    tiny_llama.make(Path(model_folder))
    artifacts = ArtifactStore(artifacts_folder)
    trainings = Trainings()
    settings = Settings(threads=1, device="cpu", work=str(Path(artifacts_folder).with_name("work")))
    never = asyncio.Event()
    worker = TrainAdapter(artifacts, ChildTrainer(artifacts, settings), trainings, settings, lambda _: never.wait())
    stages: list[str] = []

    async def watch() -> None:
        async for progress in trainings.watch(order.training_id):
            stages.append(progress.stage)

    watching = asyncio.create_task(watch())
    (record,) = await worker.handle(order)
    await watching
    done = events_pb2.TrainingCompleted.FromString(record.value)
    seen: dict[str, Any] = {"error": done.error, "stages": stages}
    if not done.error:
        folder = Path(artifacts_folder) / "adapters" / order.adapter_id
        fingerprint = Fingerprint.model_validate_json(artifacts.read(done.adapter.fingerprint.uri))
        plan = worker._plan(order, worker._examples(order))
        seen |= {
            "steps": done.steps,
            "first_loss": done.first_loss,
            "last_loss": done.last_loss,
            "served_model": done.adapter.served_model,
            "files": files(folder),
            "telling": len(fingerprint.telling),
            "served": served(folder / "merged", fingerprint),
            "learnt": learnt(plan),
            "completions": [example.completion for example in plan.examples],
            "learnt_of_long_ones": learnt(plan.model_copy(update={"max_tokens": 24})),
            "no_model": refusal(plan.model_copy(update={"base_model": "/nowhere/at/all"})),
            "no_network": refusal(plan.model_copy(update={"base_model": "nobody/nothing"})),
            "no_device": refusal(plan.model_copy(update={"device": "mps" if torch.cuda.is_available() else "cuda"})),
            "no_template": refusal(plan.model_copy(update={"base_model": _without_template(Path(model_folder))})),
        }
    print(json.dumps(seen))


def _without_template(model: Path) -> str:
    bare = model.with_name("bare")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = None
    AutoModelForCausalLM.from_pretrained(model).save_pretrained(bare)
    tokenizer.save_pretrained(bare)
    return str(bare)


if __name__ == "__main__":
    wanted = events_pb2.TrainingRequested.FromString(Path(sys.argv[1]).read_bytes())
    asyncio.run(main(wanted, *sys.argv[2:]))
