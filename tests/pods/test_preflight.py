import pytest

from omni_jax.core.errors import UserError
from omni_jax.pods.preflight import Host, LostHost, check, gather, look, source_hash

HOST = Host(4, 1000.0, 7)


def test_what_is_gathered_is_what_was_seen():
  host = look()
  (found,) = gather(host)
  assert found == host._replace(seconds=int(host.seconds)) and host.source > 2**40


def test_a_whole_machine_is_described():
  line = check([HOST, HOST._replace(seconds=1003.0)], processes=2, devices=8)
  assert line == "2 hosts, 8 devices, one source, clocks within 3 s"


@pytest.mark.parametrize(
  ("odd", "kind", "words"),
  [
    (None, LostHost, "1 processes"),
    (HOST._replace(devices=3), LostHost, r"7 devices; odd are hosts \[\d\]"),
    (HOST._replace(source=8), UserError, r"hosts \[1\] have another source"),
    (HOST._replace(seconds=1100.0), UserError, "clocks differ by 100 s"),
  ],
)
def test_a_machine_that_is_not_whole_is_told(odd, kind, words):
  with pytest.raises(kind, match=words) as error:
    check([HOST] + ([] if odd is None else [odd]), processes=2, devices=8)
  assert type(error.value) is kind


def test_a_hash_stands_for_names_and_contents(tmp_path):
  (tmp_path / "a.py").write_text("1")
  first = source_hash(tmp_path)
  (tmp_path / "a.py").write_text("2")
  second = source_hash(tmp_path)
  (tmp_path / "a.py").rename(tmp_path / "b.py")
  assert len({first, second, source_hash(tmp_path)}) == 3
