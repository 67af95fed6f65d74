"""The supervisor (supervisord) that starts the processes, starts them again when they die, and stops them in order."""

from __future__ import annotations

import configparser
import contextlib
import os
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from duologue.cli.local.layout import Layout
from duologue.cli.local.processes import Process
from duologue.cli.output import Failure

_START_SECONDS = 15.0
_STOP_SECONDS = 60.0
# Longer than the services' own time to drain.
_STOP_WAIT_SECONDS = 35
# In the environment of every process of a layout, so that those are found whose supervisor was killed.
_OWNER_VARIABLE = "DUOLOGUE_STARTED_FROM"


@dataclass(frozen=True)
class ProcessState:
    """What the supervisor says of a process. `state` is supervisord's: RUNNING, BACKOFF, FATAL ..."""

    name: str
    state: str
    pid: int
    since_seconds: float
    note: str


class Supervisor:
    """The supervisor of one local layout."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def states(self) -> list[ProcessState] | None:
        """The processes, in order; None when no supervisor runs."""
        try:
            found: Any = self._proxy().supervisor.getAllProcessInfo()
        except (OSError, xmlrpc.client.Error):
            return None
        return [
            ProcessState(
                name=process["name"],
                state=process["statename"],
                pid=process["pid"],
                since_seconds=max(0.0, process["now"] - process["start"]),
                note=process["spawnerr"] or process["description"],
            )
            for process in found
        ]

    def start(self, processes: Sequence[Process]) -> None:
        """Start the supervisor in the background, and with it the processes."""
        self._layout.logs.mkdir(parents=True, exist_ok=True)
        config = self._layout.home / "supervisord.conf"
        with config.open("w") as file:
            _config(self._layout, processes).write(file)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise Failure(f"The supervisor did not start: {(done.stderr or done.stdout).strip()}")
        _wait(lambda: self.states() is not None, _START_SECONDS, "The supervisor does not answer.")

    def stop(self) -> bool:
        """Stop everything, the services first drain. False when nothing ran."""
        if self.states() is None:
            return self._stop_orphans()
        # Its socket closes before the last process has ended; its own end is the end of all.
        pid: Any = self._proxy().supervisor.getPID()
        self._proxy().supervisor.shutdown()
        _wait(lambda: not psutil.pid_exists(pid), _STOP_SECONDS, "The services are still stopping: look again soon.")
        return True

    def orphans(self) -> list[psutil.Process]:
        """Processes that go on without their supervisor, because it was killed."""
        if self.states() is not None:
            return []
        return [process for process in psutil.process_iter() if self._started(process)]

    def _started(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(_OWNER_VARIABLE) == str(self._layout.home)
        except psutil.Error:  # it ended just now, or belongs to somebody else
            return False

    def _stop_orphans(self) -> bool:
        found = self.orphans()
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, left = psutil.wait_procs(found, timeout=_STOP_WAIT_SECONDS)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return bool(found)

    def last_lines(self, name: str, count: int = 15) -> str:
        """The end of a process's log."""
        try:
            lines = (self._layout.logs / f"{name}.log").read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-count:])

    def _proxy(self) -> xmlrpc.client.ServerProxy:
        transport = SupervisorTransport(None, None, f"unix://{self._layout.supervisor_socket}")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport)


def _config(layout: Layout, processes: Sequence[Process]) -> configparser.RawConfigParser:
    config = configparser.RawConfigParser()
    config["supervisord"] = {
        "logfile": _escape(str(layout.logs / "supervisord.log")),
        "pidfile": _escape(str(layout.home / "supervisord.pid")),
        "childlogdir": _escape(str(layout.logs)),
        "loglevel": "warn",
        # supervisord warns a root that did not say that it means to be one.
        **({"user": "root"} if os.getuid() == 0 else {}),
    }
    config["unix_http_server"] = {"file": _escape(str(layout.supervisor_socket)), "chmod": "0700"}
    config["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    for order, process in enumerate(processes):
        environment = {**process.environment, _OWNER_VARIABLE: str(layout.home)}
        config[f"program:{process.name}"] = {
            "command": _escape(" ".join(_quote(word) for word in process.command)),
            "environment": _escape(",".join(f'{name}="{value}"' for name, value in environment.items())),
            "priority": str(100 + order),
            "autorestart": "true",
            "startsecs": "1",
            "startretries": "1000",
            "stopwaitsecs": str(_STOP_WAIT_SECONDS),
            # A service's children (a training) end by themselves when it does; a server's workers do not.
            "stopasgroup": "false",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": _escape(str(layout.logs / f"{process.name}.log")),
            "stdout_logfile_maxbytes": "20MB",
            "stdout_logfile_backups": "2",
        }
    return config


def _escape(text: str) -> str:
    """supervisord expands %(name)s."""
    return text.replace("%", "%%")


def _quote(word: str) -> str:
    return f'"{word}"' if " " in word else word


def _wait(holds: Any, seconds: float, complaint: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Failure(complaint)
        time.sleep(0.1)
