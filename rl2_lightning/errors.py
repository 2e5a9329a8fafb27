"""The errors that end a run with a one-line message."""


class UserError(Exception):
    """A mistake that the user can fix; its message gives the cause, the value and the remedy."""


class FailedEnvironmentError(UserError):
    """An environment failed, died or hung while it was played."""


class NonFiniteLossError(UserError):
    """A quantity became infinite or NaN, so that another update would ruin the weights."""
