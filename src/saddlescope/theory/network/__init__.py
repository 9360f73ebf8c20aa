"""The whole network: its end-to-end map and its layers."""
