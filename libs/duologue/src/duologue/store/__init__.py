"""State in SQL and artifacts on any file system."""

from duologue.store.artifacts import ArtifactDamaged, ArtifactStore, StoredArtifact, check_name, listing_sha256
from duologue.store.database import Database
from duologue.store.file_system import ArtifactsRefused, ArtifactsUnavailable
from duologue.store.group_commit import GroupCommit
from duologue.store.leader import Leader, Term
from duologue.store.outage import DatabaseUnavailable
from duologue.store.outbox import Outbox
from duologue.store.workflows import WorkflowStore

__all__ = [
    "ArtifactDamaged",
    "ArtifactStore",
    "ArtifactsRefused",
    "ArtifactsUnavailable",
    "Database",
    "DatabaseUnavailable",
    "GroupCommit",
    "Leader",
    "Outbox",
    "StoredArtifact",
    "Term",
    "WorkflowStore",
    "check_name",
    "listing_sha256",
]
