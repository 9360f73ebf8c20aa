"""Any scalar SDE: its ends, its laws, its first-passage times."""
