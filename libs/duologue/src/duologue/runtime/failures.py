"""What the worker does about an error: try again, or bury the record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from duologue.bus import NotThereYet, Poison, Transient
from duologue.contracts.convert import UnreadableMessageError
from duologue.core.problems import InvalidInput
from duologue.models import ModelRefused, ModelUnavailable
from duologue.store import ArtifactDamaged, ArtifactsUnavailable, DatabaseUnavailable

# The request itself is at fault, and would be so tomorrow. Any other refusal (a key, a missing model) is a matter of
# configuration, which people mend while the records wait: the worker's circuit breaker sees to it.
_REQUEST_AT_FAULT = {400, 413, 422}


@contextmanager
def classify_errors() -> Iterator[None]:
    """Turns the errors of models, databases, artifacts and messages into `Transient` and `Poison`."""
    try:
        yield
    except ModelUnavailable as error:
        raise Transient(str(error), error.retry_after) from error
    except ModelRefused as error:
        if error.status in _REQUEST_AT_FAULT:
            raise Poison(str(error)) from error
        raise Transient(str(error)) from error
    except (UnreadableMessageError, InvalidInput, ArtifactDamaged) as error:
        raise Poison(str(error)) from error
    except DatabaseUnavailable as error:
        raise Transient(f"the database does not answer: {error}") from error
    except ArtifactsUnavailable as error:
        raise Transient(str(error)) from error
    except FileNotFoundError as error:
        raise NotThereYet(f"{type(error).__name__}: {error}") from error
    except (OSError, TimeoutError) as error:
        raise Transient(f"{type(error).__name__}: {error}") from error
