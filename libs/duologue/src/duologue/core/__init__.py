"""The domain: workflows, personas, campaigns, dialogues and what is measured of them. No I/O lives here."""
