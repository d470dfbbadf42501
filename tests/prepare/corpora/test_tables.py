import io
import json
import tarfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import decode_audio
from omni_jax.prepare.corpora.emova import Emova
from omni_jax.prepare.corpora.fields import Fields
from omni_jax.prepare.corpora.hugging_face import HuggingFaceTable
from omni_jax.prepare.corpora.tfds_names import TfdsName
from omni_jax.prepare.corpora.voice_assistant import VoiceAssistant
from omni_jax.prepare.corpora.webdataset import WebDataset
from omni_jax.prepare.schema import validate
from tests.prepare.corpora.fixtures import picture_bytes, read_all, seconds_of, sound_bytes, write
from tests.prepare.corpora.test_conversations import answer, talk, units


def table(path, rows, *, group=2):
  path.parent.mkdir(parents=True, exist_ok=True)
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=group)
  return path


def file(data, path=None):
  return {"bytes": data, "path": path}


def test_emova_subsets(tmp_path):
  picture = file(picture_bytes(), "a.png")
  table(
    tmp_path / "sharegpt4o" / "train-00000-of-00001.parquet",
    [
      {"id": str(number), "image": picture, "conversations": talk("<image>\nwhat", f"dog {number}")}
      for number in range(5)
    ],
  )
  speech = [
    {"id": "84-1_asr", "conversations": talk(f"Please recognize\n{units(1)}", "go")},
    {"id": "84-1_tts", "conversations": talk("Please synthesize\ngo", units(1))},
    {"id": "84-2_asr", "conversations": talk("Please recognize\n", "go")},
    {"id": "84-3_asr", "conversations": talk(f"x\n{units(5000)}", "go")},
  ]  # fmt: skip
  table(tmp_path / "librispeech-ashell2-asr-tts" / "train-00000-of-00001.parquet", speech)
  table(tmp_path / "emova-speech-text-en" / "train.parquet", [{"id": "9", "conversations": talk(units(3), answer())}])
  found = read_all(Emova(root=tmp_path))
  assert [found[f"sharegpt4o/{number}"].turns[1].text for number in range(5)] == [
    f"dog {number}" for number in range(5)
  ]
  assert found["sharegpt4o/0"].image == picture_bytes()
  both = [found[f"librispeech-ashell2-asr-tts/84-1_{kind}"] for kind in ("asr", "tts")]
  assert both[0].turns == both[1].turns and both[0].task == "speech"
  assert found["emova-speech-text-en/9"].task == "dialogue"
  assert "unit 5000" in found["librispeech-ashell2-asr-tts/84-3_asr"]
  assert list(read_all(Emova(root=tmp_path, subsets=("librispeech-ashell2-asr-tts",), kind="tts"))) == [
    "librispeech-ashell2-asr-tts/84-1_tts"
  ]
  with pytest.raises(UserError, match="no subset k12") as error:
    list(Emova(root=tmp_path, subsets=("k12",)).entries())
  assert "sharegpt4o" in error.value.rule


def test_voice_assistant(tmp_path):
  frame = "# 1 2 3 4 5 6 4095"
  row = {"split_name": "qa", "index": "7", "round": "0", "question": "Hi?", "answer": "Ho.",
         "answer_snac": f"{frame} {frame}",
         "question_audio": file(sound_bytes("WAV", 0.5, sample_rate=22050))}  # fmt: skip
  wrong = [{"answer_snac": "# 1 2"}, {"answer_snac": ""}, {"answer_snac": frame.replace("95", "96")}, {"answer": ""},
           {"question_audio": None}, {"answer_snac": frame.replace("6", "x")}]  # fmt: skip
  rows = [row, *({**row, "round": str(place), **change} for place, change in enumerate(wrong, 1))]
  found = [*read_all(VoiceAssistant(path=table(tmp_path / "a.parquet", rows))).values()]
  user, reply = validate(found[0]).turns
  assert (user.text, seconds_of(found[0]), reply.text) == ("Hi?", pytest.approx(0.5), "Ho.")
  assert reply.units.tolist() == [1, 2, 3, 4, 5, 6, 4095] * 2
  messages = ("answer_snac '# 1 2'", "answer_snac ''", "unit 4096", "no text", "no sound", "invalid literal")
  assert all(message in reason for message, reason in zip(messages, found[1:], strict=True))


def test_hugging_face_tables_of_any_kind(tmp_path):
  sound, picture = file(sound_bytes("FLAC"), "a.flac"), file(picture_bytes("JPEG"), "a.jpg")
  rows = [{"key": f"k{number}", "sentence": f"Number {number}", "who": "anna", "audio": sound, "image": picture,
           "talk": talk("<image> hi", "ho")} for number in range(37)]  # fmt: skip
  path = table(tmp_path / "data" / "train-00000-of-00001.parquet", rows, group=35).parent
  found = read_all(HuggingFaceTable(path=path, fields=Fields(id="key", text="sentence", audio="audio", speaker="who")))
  assert list(found) == [f"k{number}" for number in range(37)]
  assert [example.turns[0].text for example in found.values()] == [f"number {number}" for number in range(37)]
  assert found["k36"].turns[0].voice == "table:anna"
  found = read_all(HuggingFaceTable(path=path, fields=Fields(text="sentence", image="image")))
  assert validate(found["train-00000-of-00001/36"]).turns[1].text == "Number 36"
  found = read_all(HuggingFaceTable(path=path, fields=Fields(image="image", conversations="talk")))
  assert found["train-00000-of-00001/0"].task == "visual_question"
  assert read_all(HuggingFaceTable(path=path, fields=Fields(text="sentence")))["train-00000-of-00001/3"].task == "text"
  with pytest.raises(UserError, match="no column text") as error:
    list(HuggingFaceTable(path=path).entries())
  assert "sentence" in error.value.rule


def test_rows_are_found_in_any_order(tmp_path):
  rows = [{"text": f"t{number}"} for number in range(50)]
  corpus = HuggingFaceTable(path=table(tmp_path / "a.parquet", rows, group=40), fields=Fields(text="text"))
  entries = list(corpus.entries())
  for number in (49, 3, 39, 17, 40, 0):
    assert corpus.read(entries[number]).turns[0].text == f"t{number}"


def test_damaged_tables(tmp_path):
  rows = [{"text": "t" * 50 + str(number)} for number in range(50)]
  path = table(tmp_path / "a.parquet", rows, group=50)
  corpus = HuggingFaceTable(path=path, fields=Fields(text="text"))
  data = path.read_bytes()
  path.write_bytes(data[:4] + bytes(200) + data[204:])  # the pages; the list of columns is at the end
  assert all("damaged" in reason for reason in read_all(corpus).values())
  path.write_bytes(data[: len(data) // 2])
  with pytest.raises(UserError, match="damaged"):
    list(corpus.entries())


def archive(path, members):
  with tarfile.open(path, "w") as tar:
    for name, data in members:
      info = tarfile.TarInfo(name)
      info.size = len(data)
      tar.addfile(info, io.BytesIO(data))
  return path


def test_webdataset(tmp_path):
  archive(tmp_path / "000.tar", [
    ("a/1.jpg", picture_bytes("JPEG")), ("a/1.txt", b"a dog"), ("a/1.note", b"unused"),
    ("a/2.flac", sound_bytes("FLAC")), ("a/2.json", json.dumps({"text": "Hi!", "speaker": 3}).encode()),
    ("a/3.png", picture_bytes("JPEG")), ("a/3.txt", b"x"),
    ("a/4.txt", b"\xff"),
    ("../5.txt", b"x"),
    ("a/6.json", b"{"),
    ("a/7.png", picture_bytes()), ("a/7.json", json.dumps({"conversations": talk("<image>", "ho")}).encode()),
    ("a/8.bin", b"x"),
  ])  # fmt: skip
  found = read_all(WebDataset(path=tmp_path))
  assert (found["000/a/1"].task, found["000/a/1"].turns[1].text) == ("caption", "a dog")
  assert (found["000/a/2"].turns[0].text, found["000/a/2"].turns[0].voice) == ("hi", "webdataset:3")
  assert found["000/a/7"].task == "visual_question"
  messages = {"a/3": "content is JPEG", "a/4": "no UTF-8", "../5": "leads out", "a/6": "no JSON", "a/8": "no text"}
  for name, message in messages.items():
    assert message in found[f"000/{name}"], name


def test_archives_that_cannot_be_read(tmp_path):
  path = archive(tmp_path / "a.tar", [("1.txt", b"x" * 2000), ("2.txt", b"y" * 2000)])
  with tarfile.open(tmp_path / "b.tar", "w") as tar:
    link = tarfile.TarInfo("1.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    tar.addfile(link)
  assert "a link or device" in read_all(WebDataset(path=tmp_path / "b.tar"))["b/1"]
  path.write_bytes(path.read_bytes()[:3000])
  with pytest.raises(UserError, match="cannot read"):
    list(WebDataset(path=path).entries())
  with tarfile.open(tmp_path / "c.tar", "w:gz") as tar:
    tar.addfile(tarfile.TarInfo("1.txt"))
  with pytest.raises(UserError, match="cannot read") as error:
    list(WebDataset(path=tmp_path / "c.tar").entries())
  assert "gunzip" in error.value.remedy


def test_tensorflow_datasets_by_name(tmp_path):
  import tensorflow_datasets as tfds

  class PublicSpeech(tfds.core.GeneratorBasedBuilder):
    """A set as the `tfds` command makes it."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
      features = {"words": tfds.features.Text(), "sound": tfds.features.Tensor(shape=(None,), dtype=np.int16),
                  "photo": tfds.features.Image(shape=(None, None, 3))}  # fmt: skip
      return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
      return {"train": self._generate_examples()}

    def _generate_examples(self):
      from PIL import Image

      for number in range(3):
        sound = (np.arange(800 * (number + 4)) % 200).astype(np.int16)
        yield number, {"words": f"Word {number}", "sound": sound, "photo": Image.new("RGB", (4, 3), (number, 0, 0))}

  PublicSpeech(data_dir=tmp_path, file_format="array_record").download_and_prepare()
  fields = Fields(text="words", audio="sound", sample_rate=8000)
  corpus = TfdsName(path=tmp_path / "public_speech", fields=fields)
  found = read_all(corpus)
  assert sorted(example.turns[0].text for example in found.values()) == ["word 0", "word 1", "word 2"]
  lengths = {example.turns[0].text: len(decode_audio(example.turns[0].audio)) for example in found.values()}
  assert lengths["word 2"] == pytest.approx(9600, abs=2)
  fields = Fields(text="words", image="photo")
  assert {example.task for example in read_all(TfdsName(path=tmp_path / "public_speech", fields=fields)).values()} == {
    "caption"
  }
  with pytest.raises(UserError, match="cannot open"):
    list(TfdsName(path=tmp_path / "public_speech", part="test").entries())
  with pytest.raises(UserError, match="no data set"):
    list(TfdsName(path=write(tmp_path / "empty" / "x", "").parent).entries())


@pytest.mark.parametrize("samples", [[[0.1] * 900, [0.2] * 900], ["a"] * 900, [0.1, float("nan")]])
def test_samples_that_are_no_recording_are_put_aside(tmp_path, samples):
  path = table(tmp_path / "a.parquet", [{"sound": {"array": samples, "sampling_rate": 16000}}])
  (reason,) = read_all(HuggingFaceTable(path=path, fields=Fields(audio="sound"))).values()
  assert "samples of shape" in reason
