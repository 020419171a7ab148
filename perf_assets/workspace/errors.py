"""What errors that people can mend have in common."""


class PerfAssetsError(Exception):
    """The message says in one line what is wrong and what helps: a command ends with it, without a
    traceback."""
