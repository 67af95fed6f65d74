"""Settings: where they come from, and what is said of wrong ones."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import yaml

from duologue.runtime import load_settings
from duologue.runtime.settings import _variables, mistyped_variables
from tests.support.tiny_service import Settings

SERVICES = ("campaign", "roleplay", "scoring", "filtering", "training")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DUOLOGUE_CONFIG", "DUOLOGUE_GRPC__PORT", "DUOLOGUE_BUS__URL"):
        monkeypatch.delenv(name, raising=False)


def write(folder: Path, text: str) -> str:
    file = folder / "settings.yaml"
    file.write_text(text)
    return str(file)


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str] | None = None) -> str:
    """What is said of settings that must be refused."""
    with pytest.raises(SystemExit) as caught:
        load_settings(Settings, arguments or [])
    assert caught.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    return shown.err


def test_without_any_the_defaults_of_a_laptop_hold() -> None:
    settings = load_settings(Settings, [])
    assert settings.bus.url == "sqlite:///.duologue/bus.db"
    assert settings.grpc.host == "127.0.0.1"


def test_the_environment_beats_the_file_and_the_file_the_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = write(tmp_path, "grpc: {port: 5001, host: 0.0.0.0}\nmodel: {model: from-file}\ndrain_seconds: 3\n")
    monkeypatch.setenv("DUOLOGUE_CONFIG", file)
    monkeypatch.setenv("DUOLOGUE_GRPC__PORT", "6001")
    settings = load_settings(Settings, [])
    assert (settings.grpc.port, settings.grpc.host, settings.drain_seconds) == (6001, "0.0.0.0", 3)  # noqa: S104
    assert (settings.model.model, settings.model.url) == ("from-file", "http://127.0.0.1:7421")


def test_part_of_a_section_leaves_its_other_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUOLOGUE_BUS__RETRY_FIRST_SECONDS", "2")
    settings = load_settings(Settings, [])
    assert settings.bus.retry_first_seconds == 2
    assert settings.bus.retry_deadline_seconds == 900
    assert settings.bus.retry.first == 2


def test_settings_are_printed_with_secrets_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DUOLOGUE_MODEL__API_KEY", "s3cret-key")
    monkeypatch.setenv("DUOLOGUE_KAFKA__MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("DUOLOGUE_KAFKA__USERNAME", "duologue")
    monkeypatch.setenv("DUOLOGUE_KAFKA__PASSWORD", "s3cret-password")
    monkeypatch.setenv("DUOLOGUE_DATABASE__URL", "postgresql+psycopg://duologue:s3cr:et@db.example:5432/duologue")
    monkeypatch.setenv("DUOLOGUE_GRPC__PORT", "6001")
    with pytest.raises(SystemExit) as caught:
        load_settings(Settings, ["--print-settings"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert "s3cr" not in printed
    document = yaml.safe_load(printed)
    assert document["model"]["api_key"] == document["kafka"]["password"] == "********"
    assert document["database"]["url"] == "postgresql+psycopg://duologue:********@db.example:5432/duologue"
    assert (document["grpc"]["host"], document["grpc"]["port"]) == ("127.0.0.1", 6001)
    assert document["model"]["url"] == "http://127.0.0.1:7421"


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://u:s3/cret@db/x", "postgresql+psycopg://db/x?user=u&password=s3cret"]
)
def test_a_password_is_hidden_wherever_a_database_url_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    monkeypatch.setenv("DUOLOGUE_DATABASE__URL", url)
    with pytest.raises(SystemExit):
        load_settings(Settings, ["--print-settings"])
    printed = capsys.readouterr().out
    assert "cret" not in printed
    assert "********" in printed


def test_printed_settings_are_a_file_that_says_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DUOLOGUE_GRPC__PORT", "6001")
    with pytest.raises(SystemExit):
        load_settings(Settings, ["--print-settings"])
    monkeypatch.setenv("DUOLOGUE_CONFIG", write(tmp_path, capsys.readouterr().out))
    monkeypatch.delenv("DUOLOGUE_GRPC__PORT")
    assert load_settings(Settings, []).grpc.port == 6001


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("DUOLOGUE_GRPC__PORT", "many", "setting grpc.port (or DUOLOGUE_GRPC__PORT): Input should be a valid integer"),
        ("DUOLOGUE_GRPC__PORT", "70000", "setting grpc.port (or DUOLOGUE_GRPC__PORT): Input should be less than"),
        ("DUOLOGUE_GRPC__PROT", "5001", "setting grpc.prot (or DUOLOGUE_GRPC__PROT): Extra inputs are not permitted"),
        ("DUOLOGUE_LOG__LEVEL", "loud", "setting log.level (or DUOLOGUE_LOG__LEVEL)"),
        ("DUOLOGUE_MODEL__URL", "localhost:80", "setting model.url (or DUOLOGUE_MODEL__URL)"),
        ("DUOLOGUE_LOG", "debug", '"log"'),
        ("DUOLOGUE_LOG", "3", "setting log (or DUOLOGUE_LOG)"),
        ("DUOLOGUE_GRPC_PORT", "5001", "DUOLOGUE_GRPC_PORT is no setting: did you mean DUOLOGUE_GRPC__PORT?"),
        ("DUOLOGUE_DRAIN_SECOND", "5", "DUOLOGUE_DRAIN_SECOND is no setting: did you mean DUOLOGUE_DRAIN_SECONDS?"),
        ("DUOLOGUE_DATABSE__URL", "x", "DUOLOGUE_DATABSE__URL is no setting: did you mean DUOLOGUE_DATABASE__URL?"),
        ("DUOLOGUE_BUS__RETRY_FIRST_SECONDS", "901", "retry_first_seconds is longer than retry_deadline_seconds"),
    ],
)
def test_a_wrong_variable_is_named_with_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert said in refused(capsys)


@pytest.mark.parametrize(
    ("section", "settings", "said"),
    [
        ("grpc", {"tls": "true", "key_file": "key.pem"}, "key_file without certificate_file"),
        ("grpc", {"certificate_file": "a.pem"}, "are for tls, which is off"),
        ("grpc", {"ca_file": "ca.pem"}, "are for tls, which is off"),
        ("grpc", {"tls": "true", "require_client_certificate": "true"}, "needs ca_file"),
        ("grpc", {"port": "7401", "health_port": "7401"}, "health_port is port"),
        ("kafka", {"tls": "true", "key_file": "key.pem"}, "key_file without certificate_file"),
        ("kafka", {"ca_file": "ca.pem"}, "are for tls, which is off"),
        ("kafka", {"mechanism": "OAUTHBEARER"}, "mechanism OAUTHBEARER needs token_file"),
        ("kafka", {"mechanism": "PLAIN", "password": "s3cret"}, "mechanism PLAIN needs username and password"),
    ],
)
def test_credentials_that_are_incomplete_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    section: str,
    settings: dict[str, str],
    said: str,
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"DUOLOGUE_{section}__{name}".upper(), value)
    message = refused(capsys)
    assert message.startswith(f"setting {section} ")
    assert said in message
    assert "s3cret" not in message


def test_variables_of_others_are_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DUOLOGUE_HOME", "DUOLOGUE_JUDGE__URL", "DUOLOGUE_SCORING_PORT", "DUOLOGUE_SCORING_SERVICE_HOST"):
        monkeypatch.setenv(name, "tcp://10.0.0.1:7403")
    assert load_settings(Settings, []).grpc.port == 0


def test_one_environment_may_hold_the_settings_of_all_services() -> None:
    kinds = [import_module(f"duologue_{name}.settings").Settings for name in SERVICES]
    names = {f"DUOLOGUE_{variable}" for kind in kinds for variable in _variables(kind)}
    assert len(names) > 40
    for kind in kinds:
        assert mistyped_variables(kind, names) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grpc: {prot: 5001}", "setting grpc.prot"),
        ("grcp: {port: 5001}", "setting grcp"),
        ("drain_seconds: -1", "setting drain_seconds"),
        ("grpc: [", "is not valid YAML"),
        ("- a\n- b\n", "settings can't be read"),
        ("just words", "settings can't be read"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, said: str
) -> None:
    monkeypatch.setenv("DUOLOGUE_CONFIG", write(tmp_path, text))
    assert said in refused(capsys)


def test_all_mistakes_are_named_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DUOLOGUE_GRPC__PORT", "many")
    monkeypatch.setenv("DUOLOGUE_DRAIN_SECONDS", "long")
    assert len(refused(capsys).splitlines()) == 2


def test_a_file_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("DUOLOGUE_CONFIG", str(tmp_path / "no.yaml"))
    assert f"DUOLOGUE_CONFIG names {tmp_path / 'no.yaml'}, which is not a file" in refused(capsys)


def test_an_empty_file_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DUOLOGUE_CONFIG", write(tmp_path, "# nothing\n"))
    assert load_settings(Settings, []).grpc.port == 0


def test_an_unknown_argument_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown argument '--port'" in refused(capsys, ["--port", "5"])
