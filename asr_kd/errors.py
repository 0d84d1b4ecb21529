"""The one exception that reaches a user: a single line that names the file or key and the remedy."""


class UserError(Exception):
    """The user's recipe, corpus, machine or command is wrong; the command line prints this and exits with 2.

    Other libraries' messages, which may be part of it, are joined to one line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))
