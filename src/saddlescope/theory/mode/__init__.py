"""One mode: its SDE, its flow, its phases."""
