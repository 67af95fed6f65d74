"""`duologue dataset`: what was sealed is listed, shown and written in the formats that trainers read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import campaign_pb2_grpc, events_pb2
from duologue.store import ArtifactStore
from tests.support.campaign_world import World
from tests.support.command import duologue_beside
from tests.support.control_plane import ControlPlane, control_plane
from tests.support.desk import dialogue
from tests.support.grpc_server import serving
from tests.support.object_stores import S3Server
from tests.support.sealed import sealed


@pytest.fixture
async def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ControlPlane]:
    """A control plane that the commands find, and its artifacts."""
    async with control_plane(tmp_path) as plane:
        register = campaign_pb2_grpc.add_CampaignServiceServicer_to_server
        async with serving(register, plane.rpc) as address:
            monkeypatch.setenv("DUOLOGUE_ADDRESS", address)
            monkeypatch.setenv("DUOLOGUE_ARTIFACTS__URL", str(tmp_path / "artifacts"))
            yield plane


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))


@pytest.fixture
async def dataset(plane: ControlPlane, artifacts: ArtifactStore) -> events_pb2.DatasetSealed:
    """Two kept dialogues of the desk."""
    world = World(plane, await plane.create(dialogues=2))
    campaign = await world.run(lambda campaign: campaign.history[-1].phase == pb.ROUND_PHASE_SEALING)
    event = sealed(artifacts, campaign.history[-1].dataset_id, dialogue("a0"), dialogue("a1"))
    event.campaign_id = campaign.id
    manifest = {
        "dataset_id": event.dataset_id,
        "campaign_id": campaign.id,
        "round": 1,
        "seed": 3,
        "filters": [{"kind": "ended"}],
        "candidates": 9,
        "kept": 2,
        "dropped_by": {"ended": 7},
        "data_sha256": event.data.sha256,
        "dialogue_ids": ["a0", "a1"],
    }
    stored = artifacts.write(event.manifest.uri, json.dumps(manifest).encode())
    event.manifest.sha256 = stored.sha256
    await plane.events.sealed(event)
    return event


async def exported(dataset: events_pb2.DatasetSealed, folder: Path, format_: str) -> list[dict[str, Any]]:
    output = folder / "out.jsonl"
    done = await duologue_beside("dataset", "export", dataset.dataset_id, "--format", format_, "-o", output)
    assert (done.status, done.err) == (0, "")
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert done.out == f"Wrote {output} ({len(lines)} rows)\n"
    return lines


async def test_datasets_are_listed_and_shown_with_their_manifest(dataset: events_pb2.DatasetSealed) -> None:
    (listed,) = (await duologue_beside("dataset", "list", "--json")).json["datasets"]
    assert (listed["sealed"]["dataset_id"], listed["sealed"]["kept"]) == (dataset.dataset_id, 2)
    assert dataset.dataset_id in (await duologue_beside("dataset", "list", "--campaign", "desk")).out
    shown = await duologue_beside("dataset", "show", "desk-r1")
    assert (shown.status, shown.err) == (0, "")
    assert f"{dataset.dataset_id}: 2 of 9 kept" in shown.out
    document = (await duologue_beside("dataset", "show", dataset.dataset_id, "--json")).json
    assert document["manifest"]["dialogue_ids"] == ["a0", "a1"]
    assert document["dataset"]["sealed"]["data"]["sha256"] == dataset.data.sha256


async def test_parquet_is_the_sealed_file_itself(
    dataset: events_pb2.DatasetSealed, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    output = tmp_path / "out.parquet"
    done = await duologue_beside("dataset", "export", dataset.dataset_id, "-o", output)
    assert (done.status, done.out) == (0, f"Wrote {output}\n")
    assert output.read_bytes() == artifacts.read(dataset.data.uri)


async def test_trl_has_a_prompt_and_a_completion_for_every_agent_turn(
    dataset: events_pb2.DatasetSealed, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    lines = await exported(dataset, tmp_path, "trl")
    rows = pq.read_table(BytesIO(artifacts.read(dataset.data.uri))).to_pylist()
    assert lines == [
        {
            "prompt": example["prompt"],
            "completion": [{"role": "assistant", "content": example["completion"]}],
            "dialogue_id": row["dialogue_id"],
        }
        for row in rows
        for example in row["examples"]
    ]
    assert len(lines) == 6


async def test_openai_has_the_messages_with_tool_calls_and_their_answers(
    dataset: events_pb2.DatasetSealed, tmp_path: Path
) -> None:
    first, _ = await exported(dataset, tmp_path, "openai")
    messages = first["messages"]
    assert [message["role"] for message in messages] == [
        *("system", "assistant", "user", "assistant", "tool", "assistant", "user", "assistant")
    ]
    (call,) = messages[3]["tool_calls"]
    assert (call["type"], call["function"]) == ("function", {"name": "look_up", "arguments": '{"code": "PK-4471"}'})
    assert messages[4]["tool_call_id"] == call["id"]
    assert set(messages[1]) == {"role", "content"}


async def test_sharegpt_has_conversations_with_calls_and_observations(
    dataset: events_pb2.DatasetSealed, tmp_path: Path
) -> None:
    first, second = await exported(dataset, tmp_path, "sharegpt")
    assert (first["id"], second["id"]) == ("a0", "a1")
    assert [turn["from"] for turn in first["conversations"]] == [
        *("system", "gpt", "human", "function_call", "observation", "gpt", "human", "gpt")
    ]
    assert first["conversations"][2]["value"] == "It is PK-4471."
    assert json.loads(first["conversations"][3]["value"])["name"] == "look_up"


@pytest.mark.parametrize("format_", ["parquet", "trl"])
async def test_an_output_that_can_not_be_written_is_named_and_leaves_nothing(
    dataset: events_pb2.DatasetSealed, tmp_path: Path, format_: str
) -> None:
    (tmp_path / "file").write_text("kept")
    for output in (tmp_path / "no/such/folder.jsonl", tmp_path / "file/below.jsonl"):
        done = await duologue_beside("dataset", "export", dataset.dataset_id, "--format", format_, "-o", output)
        assert done.status == 1
        assert f"{output} can't be written" in done.err.replace("\n", "")
    assert (tmp_path / "file").read_text() == "kept"


async def test_only_the_output_is_written(dataset: events_pb2.DatasetSealed, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "out.jsonl.tmp").write_text("mine")
    await exported(dataset, folder, "trl")
    assert {file.name for file in folder.iterdir()} == {"out.jsonl", "out.jsonl.tmp"}
    assert (folder / "out.jsonl.tmp").read_text() == "mine"


async def test_data_that_was_changed_or_is_gone_is_not_exported(
    dataset: events_pb2.DatasetSealed, artifacts: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts.write(dataset.data.uri, b"other bytes")
    output = tmp_path / "out.parquet"
    done = await duologue_beside("dataset", "export", dataset.dataset_id, "-o", output)
    assert (done.status, "SHA-256" in done.err) == (1, True)
    monkeypatch.setenv("DUOLOGUE_ARTIFACTS__URL", str(tmp_path / "elsewhere"))
    done = await duologue_beside("dataset", "export", dataset.dataset_id, "-o", output)
    assert (done.status, "DUOLOGUE_ARTIFACTS__URL" in done.err) == (1, True)
    assert not output.exists()


async def test_a_dataset_comes_out_of_a_bucket_or_it_is_said_why_not(
    dataset: events_pb2.DatasetSealed,
    artifacts: ArtifactStore,
    s3: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket = s3.new_bucket()
    in_bucket = ArtifactStore(f"s3://{bucket}/team", s3.options)
    for uri in (dataset.data.uri, dataset.manifest.uri):
        in_bucket.write(uri, artifacts.read(uri))
    monkeypatch.setenv("DUOLOGUE_ARTIFACTS__URL", f"s3://{bucket}/team")
    monkeypatch.setenv("DUOLOGUE_ARTIFACTS__S3__ENDPOINT_URL", s3.url)
    monkeypatch.setenv("DUOLOGUE_ARTIFACTS__S3__PATH_STYLE", "true")
    assert len(await exported(dataset, tmp_path, "openai")) == 2
    assert (await duologue_beside("dataset", "show", dataset.dataset_id)).status == 0
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    done = await duologue_beside("dataset", "show", dataset.dataset_id)
    assert (done.status, "refuses us" in done.err) == (1, True)
