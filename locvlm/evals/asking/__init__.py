"""Questions of a task -> answers on disk: read, put to a model with what they show, kept as they come."""
