"""The contracts: generated messages and services (v1), the table of topics, and proto <-> core."""
