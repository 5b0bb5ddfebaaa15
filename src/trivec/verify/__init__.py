"""Whether a model does what it should: against published figures, and a fast precision against the exact one."""
