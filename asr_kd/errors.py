"""The one exception that reaches a user: a single line that names the file or key and the remedy."""


class UserError(Exception):
    """Something in the user's recipe, corpus, machine or command is wrong; the command line prints it and exits with 2."""
