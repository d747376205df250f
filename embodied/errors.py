"""The one error that bad user input raises: the command line prints its single line and exits with code 2."""


class UserError(ValueError):
    """Input that cannot be used. The message is one line: the value found and what was expected."""
