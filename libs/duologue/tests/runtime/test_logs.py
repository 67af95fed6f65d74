"""Logs: an event a line, with the ids of what is worked on, and without what is nobody's business."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from opentelemetry import trace

from duologue.runtime.logs import configure_logs
from duologue.runtime.settings import LogSettings


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    handlers = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = handlers
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def logged(capsys: pytest.CaptureFixture[str], format_: str, level: str = "info") -> str:
    """What a service that is configured so says of three events, the last with a stack."""
    configure_logs("scoring", LogSettings(format=format_, level=level))
    log = structlog.get_logger("test")
    with structlog.contextvars.bound_contextvars(key="d-1", topic="t"):
        log.debug("small")
        log.info("scored", words=7)
    try:
        call("s3cret-" + "key")
    except RuntimeError:
        log.exception("call failed")
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


def call(key: str) -> None:
    raise RuntimeError(f"it broke after {len(key)}")


def test_json_logs_are_an_object_a_line_with_service_and_ids(capsys: pytest.CaptureFixture[str]) -> None:
    scored, failed = map(json.loads, logged(capsys, "json").splitlines())
    assert {name: scored[name] for name in ("event", "level", "service", "key", "topic", "words")} == {
        "event": "scored",
        "level": "info",
        "service": "scoring",
        "key": "d-1",
        "topic": "t",
        "words": 7,
    }
    assert scored["timestamp"].endswith("Z")
    assert "RuntimeError: it broke" in failed["exception"]
    assert "key" not in failed


def test_json_logs_lead_to_the_trace_in_which_they_were_said(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("scoring", LogSettings(format="json"))
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=True)
    with trace.use_span(trace.NonRecordingSpan(context)):
        structlog.get_logger("test").info("ours")
        logging.getLogger("library").warning("theirs")
    structlog.get_logger("test").info("elsewhere")
    ours, theirs, elsewhere = map(json.loads, capsys.readouterr().err.splitlines())
    for line in (ours, theirs):
        assert (line["trace_id"], line["span_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert "trace_id" not in elsewhere


def test_what_libraries_log_is_an_object_a_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("scoring", LogSettings(format="json"))
    library = logging.getLogger("library.part")
    library.info("small")
    try:
        call("s3cret-" + "key")
    except RuntimeError:
        library.warning("lost %d", 7, exc_info=True)
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert {name: said[name] for name in ("event", "level", "service", "logger")} == {
        "event": "lost 7",
        "level": "warning",
        "service": "scoring",
        "logger": "library.part",
    }
    assert "RuntimeError: it broke" in said["exception"]


@pytest.mark.parametrize(("level", "events"), [("debug", 3), ("info", 2), ("warning", 1), ("error", 1)])
def test_only_what_is_severe_enough_is_shown(capsys: pytest.CaptureFixture[str], level: str, events: int) -> None:
    assert len(logged(capsys, "json", level).splitlines()) == events


@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_stack_is_shown_without_the_values_of_variables(capsys: pytest.CaptureFixture[str], format_: str) -> None:
    said = logged(capsys, format_)
    assert "RuntimeError: it broke" in said
    assert "s3cret-key" not in said


def test_a_library_that_complains_without_end_is_shown_seldom_and_without_its_stacks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs("scoring", LogSettings(format="text"))
    for name in (
        "kafka.net",
        "kafka.net",
        "kafka.coordinator",
        "opentelemetry.sdk",
        "opentelemetry.sdk",
        "another",
        "another",
    ):
        try:
            call("")
        except RuntimeError:
            logging.getLogger(name).exception("connection lost")
    shown = capsys.readouterr().err
    loggers = ("kafka.net", "kafka.coordinator", "opentelemetry.sdk", "another")
    assert [shown.count(f"[{name}]") for name in loggers] == [1, 1, 1, 2]
    assert shown.count("Traceback") == 2
