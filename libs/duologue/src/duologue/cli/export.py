"""Datasets in the formats that trainers read, one JSON document a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

Row = dict[str, Any]

_SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


def _rows(data: Path) -> Iterator[Row]:
    for batch in pq.ParquetFile(data).iter_batches(batch_size=256):
        yield from batch.to_pylist()


def _write(file: Path, documents: Iterable[Row]) -> int:
    count = 0
    with file.open("w", encoding="utf-8") as out:
        for document in documents:
            out.write(json.dumps(document, ensure_ascii=False) + "\n")
            count += 1
    return count


def export_trl(data: Path, file: Path) -> int:
    """Conversational prompt and completion, one per agent turn, with the prompt that the agent was given."""
    return _write(
        file,
        (
            {
                "prompt": example["prompt"],
                "completion": [{"role": "assistant", "content": example["completion"]}],
                "dialogue_id": row["dialogue_id"],
            }
            for row in _rows(data)
            for example in row["examples"]
        ),
    )


def export_openai(data: Path, file: Path) -> int:
    """`messages` of OpenAI's fine-tuning format, calls as tool calls with their answers."""
    return _write(file, ({"messages": [_openai(message) for message in row["messages"]]} for row in _rows(data)))


def export_sharegpt(data: Path, file: Path) -> int:
    """`conversations` of from and value; calls are `function_call`, their answers `observation`."""
    return _write(
        file,
        (
            {"id": row["dialogue_id"], "conversations": [_sharegpt(message) for message in row["messages"]]}
            for row in _rows(data)
        ),
    )


EXPORTS: dict[str, Callable[[Path, Path], int]] = {
    "trl": export_trl,
    "openai": export_openai,
    "sharegpt": export_sharegpt,
}


def _openai(message: Row) -> Row:
    document = {"role": message["role"], "content": message["content"]}
    if message["tool_calls"]:
        document["tool_calls"] = json.loads(message["tool_calls"])
    if message["tool_call_id"]:
        document["tool_call_id"] = message["tool_call_id"]
    return document


def _sharegpt(message: Row) -> Row:
    if message["tool_calls"]:
        return {"from": "function_call", "value": json.dumps(json.loads(message["tool_calls"])[0]["function"])}
    return {"from": _SHAREGPT_ROLES[message["role"]], "value": message["content"]}
