"""The bus: records on topics, consumer groups, and the loop that works them off. Services know only what is here."""

from duologue.bus.connect import open_bus
from duologue.bus.record import Bus, Delivery, LeaseLost, Record, RecordTooLarge, Subscription
from duologue.bus.retry import RetryPolicy
from duologue.bus.worker import NotThereYet, Poison, Transient, Worker

__all__ = [
    "Bus",
    "Delivery",
    "LeaseLost",
    "NotThereYet",
    "Poison",
    "Record",
    "RecordTooLarge",
    "RetryPolicy",
    "Subscription",
    "Transient",
    "Worker",
    "open_bus",
]
