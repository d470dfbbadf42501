"""The one error a user can cause: it names what is wrong, where, the rule and the remedy."""


class UserError(Exception):
  """Wrong input, with everything the user needs to put it right; the command line prints it without a traceback."""

  def __init__(self, what: str, *, where: object, rule: str, remedy: str):
    """Keeps the four parts.

    Args:
      what: what is wrong, with the offending value.
      where: the file, field or flag concerned.
      rule: what would have been right.
      remedy: what to do now.
    """
    self.what, self.where, self.rule, self.remedy = what, str(where), rule, remedy
    super().__init__(f"{what}\n  where:  {self.where}\n  rule:   {rule}\n  remedy: {remedy}")

  def __reduce__(self):
    # Keyword-only arguments do not survive the default pickling; errors cross process borders here.
    return _rebuild, (type(self), self.what, self.where, self.rule, self.remedy)


def _rebuild(kind: type[UserError], what: str, where: str, rule: str, remedy: str) -> UserError:
  return kind(what, where=where, rule=rule, remedy=remedy)
