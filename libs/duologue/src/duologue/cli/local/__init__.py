"""The services on one machine: where they lie, which models they use, and the supervisor that keeps them up."""
