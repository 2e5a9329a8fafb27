"""The errors that end a run in one line."""


class UserError(Exception):
    """A mistake that the user can mend; its text gives the cause, the value and the remedy."""


class NonFiniteLossError(UserError):
    """The loss became infinite or not a number, so that another update would ruin the weights."""
