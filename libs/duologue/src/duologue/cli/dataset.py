"""`duologue dataset`: list, show and export what was sealed."""

from __future__ import annotations

import json
import shutil
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from duologue.cli.artifacts import artifact_bytes, fetch_artifact
from duologue.cli.connection import campaign_service
from duologue.cli.files import replacing
from duologue.cli.output import AsJson, console, literal, minute, print_json, print_table, printable
from duologue.contracts.v1 import campaign_pb2 as pb

app = typer.Typer(
    help="Datasets: sealed dialogues, ready for training.",
    no_args_is_help=True,
    epilog="Examples: duologue dataset list; duologue dataset export quickstart-r1-0b0e7a52 --format trl -o data.jsonl",
)
Name = Annotated[str, typer.Argument(help="Id of a dataset, or the beginning of one.")]


class Format(StrEnum):
    PARQUET = "parquet"
    TRL = "trl"
    OPENAI = "openai"
    SHAREGPT = "sharegpt"


@app.command("list")
def list_datasets(
    campaign: Annotated[str, typer.Option(help="Of one campaign, by id or name.")] = "", as_json: AsJson = False
) -> None:
    """All datasets, newest first.

    Example: duologue dataset list --campaign quickstart
    """
    with campaign_service() as service:
        datasets = service.ListDatasets(pb.ListDatasetsRequest(campaign=campaign)).datasets
    if as_json:
        print_json({"datasets": list(datasets)})
        return
    print_table(
        "Datasets",
        ("id", "round", "kept", "of", "created", "file"),
        [
            (
                dataset.sealed.dataset_id,
                str(dataset.sealed.round),
                str(dataset.sealed.kept),
                str(dataset.sealed.candidates),
                minute(dataset.created_at),
                dataset.sealed.data.uri,
            )
            for dataset in datasets
        ],
    )


@app.command("show")
def show(dataset: Name, as_json: AsJson = False) -> None:
    """A dataset's manifest: what it was made of and how.

    Example: duologue dataset show quickstart-r1
    """
    found = _get(dataset)
    manifest = json.loads(artifact_bytes(found.sealed.manifest))
    if as_json:
        print_json({"dataset": found, "manifest": manifest})
        return
    console.print(f"[bold]{literal(manifest['dataset_id'])}[/]: {manifest['kept']} of {manifest['candidates']} kept")
    for name in ("campaign_id", "round", "seed", "data_sha256"):
        console.print(f"  {name} {manifest[name]}")
    for rule in manifest["filters"]:
        dropped = manifest["dropped_by"].get(rule["kind"], 0)
        console.print(printable(f"  filter {json.dumps(rule)} dropped {dropped}"), markup=False)
    console.print(f"  dialogues: {', '.join(name[:8] for name in manifest['dialogue_ids'])}")


@app.command("export")
def export(
    dataset: Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            help="parquet: as it is. trl: prompt and completion per agent turn. openai: messages with tool calls. "
            "sharegpt: conversations. The last three are JSON lines.",
        ),
    ] = Format.PARQUET,
) -> None:
    """Write a dataset to a file.

    Example: duologue dataset export quickstart-r1 --format trl -o data.jsonl
    """
    from duologue.cli.export import EXPORTS  # Arrow: a second that other commands need not wait for

    sealed = _get(dataset).sealed
    with replacing(output) as file, TemporaryDirectory() as folder:
        data = fetch_artifact(sealed.data, Path(folder) / "data.parquet")
        if format_ is Format.PARQUET:
            shutil.copyfile(data, file)
            count = -1
        else:
            count = EXPORTS[format_.value](data, file)
    rows = f" ({count} rows)" if count >= 0 else ""
    console.print(f"Wrote {output}{rows}", markup=False, soft_wrap=True)


def _get(name: str) -> pb.Dataset:
    with campaign_service() as service:
        return service.GetDataset(pb.GetDatasetRequest(dataset=name)).dataset
