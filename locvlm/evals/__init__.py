"""Model and task -> predictions -> scores."""
