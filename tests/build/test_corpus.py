import dataclasses
import json

import pytest

from configs.emova import corpus as configs
from omni_jax.build import corpus
from omni_jax.build.corpus import AdditionConfig, CorpusConfig, make_corpus, splits
from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES, Style
from omni_jax.prepare.audio import decode_audio
from omni_jax.prepare.emova_phones import MANDARIN_PHONES
from omni_jax.prepare.phonemes import PHONES
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.voices.catalogue import ESPEAK_ONLY, MANDARIN, cast

NEW = ("mandarin", "styles")

SMALL = CorpusConfig(
  seed=1, text=6, images=3, speech=4, dialogue=2, text_test=2, images_test=1, speech_test=1, voice_test=1,
  dialogue_test=2, spoken_images_test=1, pairs=1, questions_per_image=1, spoken_image_share=0.1,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  patch = pytest.MonkeyPatch()
  patch.setattr(corpus, "cast", lambda: ESPEAK_ONLY)
  lines: list[str] = []
  folder = make_corpus(SMALL, tmp_path_factory.mktemp("w") / "corpus", workers=1, report=lines.append)
  assert "flite is not installed" in lines[0]
  yield folder
  patch.undo()


def test_every_split_is_there_with_sound(folder):
  for split in splits(SMALL, ESPEAK_ONLY):
    for example in open_set(folder / split.set_name, split.name):
      for turn in example.turns:
        if turn.voice:
          assert len(decode_audio(turn.audio)) > 3000


def test_a_second_run_returns_at_once(folder):
  lines: list[str] = []
  make_corpus(SMALL, folder, workers=1, report=lines.append)
  assert "complete" in lines[-1]


def test_a_split_interrupted_before_its_mark_is_made_again(folder):
  marks = folder / "text" / "made.json"
  before = marks.read_text()
  marks.write_text("{}")
  lines: list[str] = []
  make_corpus(SMALL, folder, workers=1, report=lines.append)
  assert [line.split(":")[0] for line in lines[1:]] == ["text/train", "text/test"]
  assert json.loads(marks.read_text()) == json.loads(before)


def test_damaged_marks_are_told(folder):
  marks = folder / "text" / "made.json"
  before = marks.read_text()
  marks.write_text("{")
  with pytest.raises(UserError, match="damaged"):
    make_corpus(SMALL, folder, workers=1, report=lambda line: None)
  marks.write_text(before)


def test_another_config_is_refused(folder):
  with pytest.raises(UserError, match="another config"):
    make_corpus(dataclasses.replace(SMALL, text=7), folder, workers=1, report=lambda line: None)


def test_additions_leave_the_corpus_as_it_is(folder):
  def content():
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.parent.name not in NEW}

  before = content()
  small = AdditionConfig(seed=0, mandarin=3, mandarin_test=2, mandarin_voice=1, styles=1)
  make_corpus(small, folder, workers=1, report=lambda line: None)
  assert content() == before
  symbols = json.loads((folder / "mandarin" / "phones.json").read_text())
  assert symbols[: len(PHONES)] == list(PHONES) and set(symbols[len(PHONES) :]) == set(MANDARIN_PHONES)
  spoken = [open_set(folder / "mandarin", split)[0].turns[0] for split in ("train", "test", "test_voice")]
  assert [len(set(turn.phones.split()) - set(MANDARIN_PHONES)) for turn in spoken] == [0, 0, 0]
  assert spoken[2].voice == MANDARIN.held_out not in {turn.voice for turn in spoken[:2]}
  styles = open_set(folder / "styles", "test")
  turns = [styles[index].turns[0] for index in range(len(styles))]
  assert [Style.parse(turn.style) for turn in turns] == list(ALL_STYLES) and len({turn.text for turn in turns}) == 1
  assert len({turn.audio for turn in turns}) == 24
  lines: list[str] = []
  make_corpus(small, folder, workers=1, report=lines.append)
  assert "complete" in lines[-1]


def test_numbers_are_positive():
  with pytest.raises(UserError, match="styles = 0"):
    dataclasses.replace(configs.additions(), styles=0)
  with pytest.raises(UserError, match="pairs = 0"):
    dataclasses.replace(SMALL, pairs=0)


@pytest.mark.parametrize("make", [configs.tiny, configs.smoke])
def test_configs_name_every_set(make):
  config = make()
  names = {(split.set_name, split.name) for split in splits(config, cast())}
  assert {name for name, _ in names} == {"text", "images", "speech", "dialogue", "spoken_images"}
  assert ("speech", "test_voice") in names and ("dialogue", "pairs") in names
  share = config.spoken_images / (config.dialogue + config.images * config.questions_per_image)
  assert share == pytest.approx(config.spoken_image_share, rel=0.2)
