"""gRPC, imported so that it leaves it to us to say why a handshake failed.

It looks into the environment when it is imported. The services that `duologue up` starts are not to inherit that.
"""

import os

_VARIABLE = "GRPC_VERBOSITY"
_is_chosen = _VARIABLE in os.environ
os.environ.setdefault(_VARIABLE, "NONE")

import grpc  # noqa: E402

if not _is_chosen:
    del os.environ[_VARIABLE]

__all__ = ["grpc"]
