"""What every failure of this room is."""


class CheckpointError(ValueError):
    """A checkpoint cannot be read or written. One line: where, what was expected and found, what to do."""
