"""Text and images -> packed batches."""
