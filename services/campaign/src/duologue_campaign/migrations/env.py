from duologue.store.migrations import run_migrations
from duologue_campaign.tables import Base

run_migrations(Base.metadata)
