"""What happens to a run when something goes wrong (docs/faults.md)."""
