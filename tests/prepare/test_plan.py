from omni_jax.core.styles import EMOTIONS, Style
from omni_jax.prepare import plan
from omni_jax.prepare.audio import decode_audio
from omni_jax.prepare.schema import validate
from omni_jax.prepare.sentences import EMOTION_WORDS, is_held_out
from omni_jax.prepare.voices.catalogue import ESPEAK_ONLY, WITH_FLITE

CAST = WITH_FLITE


def test_plans_are_a_function_of_their_seed():
  first, again, other = (plan.plan_speech(30, cast=CAST, held_out=False, seed=seed) for seed in "aab")
  assert first == again != other


def test_no_training_sentence_is_held_out_and_every_test_sentence_is():
  train = plan.plan_speech(200, cast=CAST, held_out=False, seed="s") + plan.plan_text(200, held_out=False, seed="s")
  train += plan.plan_dialogue(100, cast=CAST, held_out=False, seed="s")
  assert not any(is_held_out(example.turns[0].text) for example in train)
  test = plan.plan_speech(40, cast=CAST, held_out=True, seed="s") + plan.plan_dialogue(
    40, cast=CAST, held_out=True, seed="s"
  )
  assert all(is_held_out(example.turns[0].text) for example in test)


def test_answer_voices_speak_every_style_equally_often():
  examples = plan.plan_speech(400, cast=CAST, held_out=False, seed="s")
  for gender, name in CAST.answers.items():
    said = [example.turns[0].style for example in examples if example.turns[0].voice == name]
    counts = [said.count(style) for style in set(said)]
    assert len(counts) == 12 and max(counts) - min(counts) <= 1
    assert all(Style.parse(style).gender == gender for style in said)


def test_the_held_out_voice_is_in_no_training_plan():
  examples = plan.plan_speech(200, cast=CAST, held_out=False, seed="s")
  examples += plan.plan_dialogue(50, cast=CAST, held_out=False, seed="s")
  assert CAST.held_out not in {turn.voice for example in examples for turn in example.turns}
  unheard = plan.plan_unheard_voice(5, cast=CAST, seed="s")
  assert {example.turns[0].voice for example in unheard} == {CAST.held_out}


def test_pairs_are_the_same_words_in_four_emotions_with_four_replies():
  examples = plan.plan_dialogue_pairs(3, cast=CAST, seed="s")
  for start in range(0, 12, 4):
    group = examples[start : start + 4]
    assert len({(example.turns[0].text, example.turns[0].voice) for example in group}) == 1
    assert [Style.parse(example.turns[0].style).emotion for example in group] == list(EMOTIONS)
    for example, emotion in zip(group, EMOTIONS, strict=True):
      assert EMOTION_WORDS[emotion] in example.turns[1].text.split()


def test_images_have_a_caption_and_questions():
  examples = list(plan.plan_images(6, questions_per_image=2, held_out=True, seed="s"))
  assert [example.task for example in examples].count("caption") == 6
  assert len(examples) == 18 and all(validate(example) for example in examples)


def test_a_training_image_holds_all_its_annotations():
  examples = list(plan.plan_images(6, questions_per_image=2, held_out=False, seed="s"))
  assert len(examples) == 6 and all(validate(example) for example in examples)
  for example in examples:
    assert len(example.turns) == 6 and example.id.split("/")[0].count("+") == 2 and example.id.startswith("caption+")


def test_record_adds_sound_and_phones_to_every_spoken_turn():
  example = plan.plan_spoken_images(1, cast=ESPEAK_ONLY, held_out=True, seed="s")[0]
  recorded = validate(plan.record(example))
  for turn in recorded.turns:
    seconds = len(decode_audio(turn.audio)) / 16000
    assert 0.3 < seconds < 6
    assert turn.phones
