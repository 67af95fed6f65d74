"""Addresses to listen on, and what is wrong with them."""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from typing import NoReturn

from duologue.core.problems import WrongSetting


def try_address(section: str, host: str, port: int, setting: str = "port") -> None:
    """Ends the process, or raises `WrongSetting`, where nobody could listen; gRPC would not say why not."""
    try:
        family, *_, place = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        socket.create_server(place[:2], family=family).close()
    except OSError as error:
        refuse_address(section, host, port, error, setting)


def refuse_address(section: str, host: str, port: int, error: OSError, setting: str = "port") -> NoReturn:
    """Ends the process with 1 for an address that is in use, which may pass; else raises `WrongSetting`."""
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        print(f"{where} is in use (setting {section}.{setting}): stop what listens there or change it", file=sys.stderr)
        raise SystemExit(1)
    raise WrongSetting(f"can't listen on {where}: {error.strerror} (settings {section}.host and {section}.{setting})")


def is_loopback(host: str) -> bool:
    """Whether only this machine gets there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
