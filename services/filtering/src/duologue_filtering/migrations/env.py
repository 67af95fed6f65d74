from duologue.store.migrations import run_migrations
from duologue_filtering.tables import Base

run_migrations(Base.metadata)
