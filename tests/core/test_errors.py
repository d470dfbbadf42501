import pickle

from omni_jax.core.errors import UserError


def test_message_has_the_four_parts_and_survives_pickling():
  error = UserError("wrong", where="file.wav", rule="right", remedy="mend")
  for text in (str(error), str(pickle.loads(pickle.dumps(error)))):
    assert all(part in text for part in ("wrong", "file.wav", "right", "mend"))
