"""Where the time of a step goes: marks on a device's time line, a table by part, a trace."""
