import numpy as np
import pytest

from omni_jax.cli import assistants, chat, hear, main, say
from omni_jax.core.styles import Style
from omni_jax.generate.exchange import Ability, Answer, Event, SpokenText
from omni_jax.prepare.audio import load_audio, save_wav

SOUND = np.sin(np.arange(8000) / 9).astype(np.float32) * 0.5


class FakeAssistant:
  """Answers `red` to everything and keeps what it was asked."""

  asked, loaded = None, None

  @classmethod
  def load(cls, workdir, **options):
    cls.loaded.append(options)
    return cls()

  sample_rate = 16_000
  abilities = frozenset({Ability.HEARS_STYLES, Ability.SPEAKS_STYLES})
  style_encoder = type(
    "Encoder", (), {"hear_batch": staticmethod(lambda rows: [Style.parse("male-sad-low")] * len(rows))}
  )

  def stream(self, question):
    self.asked.append(question)
    style = question.style or (Style.parse("male-sad-low") if question.waveform is not None else None)
    sound = SOUND if style else SOUND[:0]
    yield Event(text="re")
    if style:
      yield Event(samples=sound)
    yield Event(text="d")
    yield Event(answer=Answer(text="red", style=style, waveform=sound, timings={"answer": 0.5}))

  def synthesise(self, texts, *, manner=None):
    return [SpokenText(units=np.arange(5), waveform=SOUND) for _ in texts]

  def recognise(self, waveforms):
    return ["the dog"] * len(waveforms)


@pytest.fixture(autouse=True)
def fake(monkeypatch):
  monkeypatch.setattr(FakeAssistant, "asked", [])
  monkeypatch.setattr(FakeAssistant, "loaded", [])
  monkeypatch.setattr(assistants, "load_assistant", FakeAssistant.load)
  for module in (chat, say, hear):
    monkeypatch.setattr(module, "enable_compilation_cache", lambda: None)


def test_a_spoken_question_is_answered_aloud_with_times(tmp_path, capsys):
  save_wav(tmp_path / "q.wav", SOUND)
  status = main.main(
    ["chat", "--workdir", str(tmp_path), "--audio", str(tmp_path / "q.wav"), "--out", str(tmp_path / "a.wav")]
  )
  shown = capsys.readouterr().out
  assert status == 0 and "answer:    red\n" in shown
  for part in ("first sound:", "whole answer:", "x the 0.50 s of sound", "answer 0.500", "style:     male-sad-low"):
    assert part in shown
  np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), SOUND, atol=1e-4)


def test_typed_questions_are_answered_in_writing_or_aloud_on_request(tmp_path, capsys):
  assert main.main(["chat", "--workdir", str(tmp_path), "--text", "what is red"]) == 0
  assert (
    main.main(["chat", "--workdir", str(tmp_path), "--text", "what", "--out", str(tmp_path / "a.wav"), "--warm-up"])
    == 0
  )
  assert [str(question.style) for question in FakeAssistant.asked] == ["None", *["female-neutral-normal"] * 2]
  assert (tmp_path / "a.wav").is_file() and "compilation" in capsys.readouterr().out


def test_chat_takes_the_stages_of_other_tokenizers_and_vocoders(tmp_path):
  asked = ["chat", "--workdir", str(tmp_path), "--text", "what"]
  assert main.main(asked) == main.main([*asked, "--vocoder", "voice", "--tokenizer", "spiral"]) == 0
  parts = [
    {name: value for name, value in options.items() if name in ("tokenizer", "vocoder")}
    for options in FakeAssistant.loaded
  ]
  assert parts == [{}, {"tokenizer": "spiral", "vocoder": "voice"}]


def test_say_and_hear(tmp_path, capsys):
  out = tmp_path / "said.wav"
  assert main.main(["say", "--workdir", "w", "--text", "the dog", "--style", "male-happy-high", "--out", str(out)]) == 0
  assert main.main(["hear", "--workdir", "w", "--audio", str(out), str(out)]) == 0
  shown = capsys.readouterr().out
  assert "0.50 s, 5 units, male-happy-high" in shown and shown.count("male-sad-low: the dog") == 2


def test_say_names_no_style_that_the_voice_does_not_follow(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(FakeAssistant, "abilities", frozenset())
  out = tmp_path / "said.wav"
  asked = ["say", "--workdir", "w", "--text", "the dog", "--out", str(out)]
  styled = [*asked, "--style", "male-happy-high"]
  assert main.main(asked) == main.main(styled) == 0
  whole = f"{out}: 0.50 s, 5 units"
  assert capsys.readouterr().out.splitlines() == [
    whole, whole, "style: this stage has one voice, it does not follow male-happy-high"
  ]  # fmt: skip
  monkeypatch.setattr(FakeAssistant, "vocoder", None, raising=False)
  assert main.main(styled) == main.main([*asked, "--condition", "3"]) == 0
  assert capsys.readouterr().out.splitlines() == [
    whole, "style: this stage learned no styles, only its vocoder may follow male-happy-high", f"{whole}, 3"
  ]  # fmt: skip


@pytest.mark.parametrize(
  "flags",
  [
    ["chat", "--text", "a", "--style", "robot"],
    ["chat", "--audio", "missing.wav"],
    ["chat", "--image", "missing.png"],
    ["chat", "--text", "a", "--temperature", "-1"],
    ["say", "--text", "a", "--style", "male-bored-low", "--out", "x.wav"],
    ["say", "--text", "a", "--out", f"{__file__}/x.wav"],
    ["say", "--units", "picture.png", "--out", "x.wav"],
    ["hear", "--audio", "missing.wav"],
  ],
)
def test_wrong_input_is_told_in_one_message(flags, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
  assert main.main([flags[0], "--workdir", str(tmp_path), *flags[1:]]) == 2
  shown = capsys.readouterr().err
  assert "rule:" in shown and "remedy:" in shown
