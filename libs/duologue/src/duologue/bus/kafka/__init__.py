"""Apache Kafka as the bus: the only place that knows kafka-python. Importing it takes half a second, so `connect` does
that only for a bus that is one."""
