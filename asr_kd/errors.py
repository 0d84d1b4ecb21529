"""The one exception that reaches a user: a single line that names the file or key and the remedy."""


class UserError(Exception):
    """The user's recipe, corpus, machine or command is wrong; the command line prints this and exits with 2."""
