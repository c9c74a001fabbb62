"""What went wrong, in one line."""


class UserError(ValueError):
    """Something that a user can mend; the message names the value, what is allowed, the remedy.

    The commands end with it in one line, without a traceback.
    """


def in_one_line(error: BaseException) -> str:
    """The type of an error and the first line of its message."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    lines = str(message).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
