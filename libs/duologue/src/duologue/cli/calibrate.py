"""`duologue calibrate`: how far a model's probabilities are to be trusted, measured on answers that people gave."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duologue.cli.answers import Answered, ask_all, find_endpoint
from duologue.cli.files import read_text, replacing
from duologue.cli.output import AsJson, Failure, complain, console, print_json
from duologue.core.labelled import parse_labelled
from duologue.core.problems import WrongSetting
from duologue.core.prompts import PROMPTS_VERSION, options_of
from duologue.models.calibration import Calibration, Temperature

if TYPE_CHECKING:
    from duologue.core.fitting import Fit
    from duologue.core.judgements import Judgements, QuestionType


def calibrate(
    file: Annotated[Path, typer.Argument(help="JSON lines of {prompts, state, questions, answers}.")],
    url: Annotated[str, typer.Option(help="Base URL of the model's server; by default the manager's.")] = "",
    model: Annotated[str, typer.Option(help="The model; by default the manager's.")] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The calibration to write; what it has of others is kept.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="A PNG to draw the reliability diagram in.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="States asked about at once.")] = 8,
    as_json: AsJson = False,
) -> None:
    """Fit a temperature for each type of question, and report how good and how honest the model's answers are.

    The model is role-play's manager (models.manager in the file that DUOLOGUE_CONFIG names, or of `duologue up`), or
    the one that --url and --model name; its key comes from DUOLOGUE_MODELS__MANAGER__API_KEY. Figures "after" are of
    answers that their temperature was not fitted to. Exit status 1 when there is too little for any temperature.

    Examples: duologue calibrate examples/calibration/questions.jsonl -o calibration.json --plot reliability.png;
    duologue calibrate mine.jsonl --url http://gpu-box:8000 --model my-model --json
    """
    _check_installed()
    labelled = parse_labelled(read_text(file), str(file))
    endpoint = find_endpoint(url, model)
    _known(output)
    if plot is not None and not plot.parent.is_dir():
        raise Failure(f"--plot: there is no folder {plot.parent}.", status=2)
    answered = ask_all(endpoint, labelled, concurrency)
    # numpy and scipy: half a second that other commands need not wait for.
    from duologue.core.fitting import fit

    fits = [fit(judgements) for judgements in _by_type(answered)]
    found = [_temperature(each, endpoint.model) for each in fits if each.temperature is not None]
    if output is not None and found:
        with replacing(output) as new:
            new.write_text(_known(output).with_temperatures(found).model_dump_json(indent=2) + "\n", encoding="utf-8")
    if plot is not None:
        _draw(fits, endpoint.model, plot)
    if as_json:
        questions = [_document(each) for each in fits]
        print_json({"model": endpoint.model, "prompts": PROMPTS_VERSION, "questions": questions})
    else:
        _print(fits, output if found else None, plot)
    for each in fits:
        if each.problem:
            complain(f"No temperature for {each.question} questions: {each.problem}.")
    if not found:
        raise typer.Exit(1)


def _check_installed() -> None:
    """Raises `Failure` before any model is asked for what can't be reckoned or drawn in the end."""
    for name in ("scipy", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            raise Failure(f"This command needs {name}: install `duologue[calibrate]`.")


def _known(output: Path | None) -> Calibration:
    """What stands in the file already. Raises `Failure` for one that can't be written."""
    if output is None or not output.exists():
        if output is not None and not output.parent.is_dir():
            raise Failure(f"{output} can't be written: {output.parent} is not a folder.", status=2)
        return Calibration(temperatures=[])
    try:
        return Calibration.read(str(output))
    except WrongSetting as error:
        raise Failure(f"{error}\n    Name another --output.", status=2) from None


def _by_type(answered: Sequence[Answered]) -> list[Judgements]:
    """What can be judged: the questions that a person answered too, those of one type together."""
    from duologue.core.judgements import Judgement, Judgements

    found: dict[QuestionType, list[Judgement]] = {"choice": [], "noul": []}
    for each in answered:
        asked = each.labelled.asked
        for name, answer in each.labelled.answered.items():
            options = options_of(asked[name])
            probabilities = tuple(each.decisions[name].probabilities[option] for option in options)
            judgement = Judgement(each.labelled.state, probabilities, options.index(answer))
            found[asked[name]["type"]].append(judgement)
    return [Judgements.of(question, judgements) for question, judgements in found.items()]


def _temperature(fit: Fit, model: str) -> Temperature:
    return Temperature(
        model=model,
        prompts=PROMPTS_VERSION,
        question=fit.question,
        temperature=fit.temperature,
        examples=len(fit.before),
    )


def _document(fit: Fit) -> dict[str, Any]:
    from duologue.core.judgements import figures, reliability

    def told(judgements: Judgements | None) -> dict[str, Any] | None:
        if judgements is None or not len(judgements):
            return None
        measured = {name: asdict(figure) for name, figure in figures(judgements).items()}
        return measured | {"bins": [asdict(each) for each in reliability(judgements)]}

    return {
        "question": fit.question,
        "examples": len(fit.before),
        "states": fit.before.states,
        "temperature": fit.temperature,
        "problem": fit.problem,
        "remark": fit.remark,
        "before": told(fit.before),
        "after": told(fit.after),
    }


def _draw(fits: Sequence[Fit], model: str, plot: Path) -> None:
    # matplotlib takes a second to import, and only this needs it.
    from duologue.cli.plot import draw_reliability

    with replacing(plot) as new:
        draw_reliability(fits, model, new)


def _print(fits: Sequence[Fit], output: Path | None, plot: Path | None) -> None:
    from duologue.cli.reliability import print_fit

    for fit in fits:
        print_fit(fit)
    if output is not None:
        console.print(
            f"Wrote {output}: name it in models.manager.calibration and in judge.calibration.",
            markup=False,
            soft_wrap=True,
        )
    elif any(fit.temperature is not None for fit in fits):
        console.print("Nothing was written: name a file with --output.", markup=False)
    if plot is not None:
        console.print(f"Drew {plot}", markup=False, soft_wrap=True)
