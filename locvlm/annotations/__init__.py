"""Files of the world -> records."""
