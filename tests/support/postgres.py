"""A real PostgreSQL without Docker: Debian's binaries, a temporary folder, a socket and a port of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from sqlalchemy import make_url

from tests.support.brokers.cluster import free_ports
from tests.support.requirements import missing

_USER = "duologue"
_START_SECONDS = 60.0
# A power cut may cost a test its data. A killed server has given them to the kernel before it acknowledged them.
_CARELESS = {"fsync": "off", "full_page_writes": "off"}


@dataclass
class PostgresServer:
    """A server, to be killed, paused and started again. `settings` are those of postgresql.conf."""

    folder: Path
    port: int
    settings: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, settings: Mapping[str, str] | None = None, host: str = "127.0.0.1") -> PostgresServer:
        """`host`: the address of this machine to listen on; whoever reaches it is let in."""
        folder = Path(tempfile.mkdtemp(prefix="duologue-pg-", dir="/tmp"))  # the path of a socket is short
        if os.geteuid() == 0:
            os.chown(folder, *_owner())
        (port,) = free_ports(1, host)
        server = cls(folder, port, {**_CARELESS, **(settings or {})}, host)
        arguments = ["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", f"--username={_USER}"]
        made = server._popen("initdb", *arguments, f"--pgdata={folder / 'data'}")
        if made.wait(_START_SECONDS):
            raise RuntimeError(f"initdb failed:\n{server.log.read_text()[-2000:]}")
        with (folder / "data/pg_hba.conf").open("a") as rules:
            rules.write("host all all 0.0.0.0/0 trust\n")
        server.run()
        server.wait()
        return server

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def url(self) -> str:
        """Of the database that every server has."""
        return f"postgresql+psycopg://{_USER}@{self.host}:{self.port}/postgres"

    @property
    def socket_url(self) -> str:
        """The same by the socket."""
        return f"postgresql+psycopg://{_USER}@/postgres?host={self.folder}&port={self.port}"

    def run(self) -> None:
        places = {"port": self.port, "listen_addresses": self.host, "unix_socket_directories": self.folder}
        options = [f"--{name}={value}" for name, value in {**places, **self.settings}.items()]
        self.process = self._popen("postgres", "-D", str(self.folder / "data"), *options)

    def wait(self) -> None:
        """Until it takes connections."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"PostgreSQL ended:\n{self.log.read_text()[-2000:]}")
            try:
                connect(self.url).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """SIGKILL to all of its processes, as the kernel does when memory is short, or a pod is evicted."""
        self._signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def pause(self) -> None:
        """All of its processes stand still, as for a disk that does not answer: connections stay, no answer comes."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        server = psutil.Process(self.process.pid)
        server.send_signal(number)  # first, so that it starts no more children
        children = server.children()
        for child in children:
            child.send_signal(number)
        if number is signal.SIGKILL:
            psutil.wait_procs(children, timeout=_START_SECONDS)

    def _popen(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [*_as_somebody(), binary(program), *arguments]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)


def binary(program: str) -> str:
    """Debian keeps the server's programs off the PATH, a folder for each version."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda path: int(path.parts[-3]))
    found = str(versions[-1]) if versions else shutil.which(program)
    if found is None:
        missing(f"a PostgreSQL server needs {program}: on Debian, install postgresql")
    return found


def connect(url: str) -> psycopg.Connection[Any]:
    """A connection of the test's own, in autocommit."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True, connect_timeout=5)


def new_schema(url: str) -> str:
    """The URL of a new, empty schema in the database of `url`."""
    name = f"test_{uuid.uuid4().hex}"
    with connect(url) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return make_url(url).update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(hide_password=False)


def drop_schema(url: str) -> None:
    """Take away what `new_schema` made, even where connections to it are left."""
    name = str(make_url(url).query["options"]).removeprefix("-csearch_path=")
    with connect(url) as connection:
        connection.execute(f"DROP SCHEMA {name} CASCADE")


def _as_somebody() -> list[str]:
    """What PostgreSQL, which refuses to run as root, is started by.

    Not by Popen's `user`: it forks, and what gRPC does in a child then has crashed it before it became PostgreSQL.
    """
    if os.geteuid() != 0:
        return []
    user, group = _owner()
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]


def _owner() -> tuple[int, int]:
    """Who runs the server where root can't."""
    users = {user.pw_name: (user.pw_uid, user.pw_gid) for user in pwd.getpwall()}
    return users.get("postgres") or users.get("nobody") or missing("root can't run PostgreSQL, nor is there a nobody")
