"""The espeak-ng side of a pipe: run as a script in a process of its own, it imports nothing but the standard library.

espeak-ng is GPL software, so it is never loaded into our process; requests and answers cross a pipe.

    argv:     library path, data folder
    request:  one line of JSON: {"voice": "en-us+f1", "phones": "text"} or
              {"voice": ..., "speak": "text", "pitch": 0..99, "range": 0..99, "rate": words per minute}
    answer:   4 bytes little-endian length (2**32 - 1: the message that follows is an error), then UTF-8 or int16 PCM;
              the first answer, before any request, is the sample rate in decimal digits
"""

import ctypes
import json
import os
import struct
import sys

_SYNCHRONOUS, _UTF8 = 2, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_PHONEMES_SEPARATED = ord("_") << 8  # mnemonics in ASCII with "_" between the phonemes of a word
_FAILED = 0xFFFFFFFF
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def main() -> None:
  """Answers requests until the pipe closes."""
  library = ctypes.CDLL(sys.argv[1])
  library.espeak_TextToPhonemes.restype = ctypes.c_char_p
  library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
  sample_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, sys.argv[2].encode(), 0)
  sound = bytearray()

  @_CALLBACK
  def receive(samples, count, _):
    if samples and count > 0:
      sound.extend(ctypes.string_at(samples, 2 * count))
    return 0

  library.espeak_SetSynthCallback(receive)
  answer(str(sample_rate).encode())
  voice = ""
  for line in sys.stdin:
    request = json.loads(line)
    if "phones" in request:
      if request["voice"] != voice and choose(library, request["voice"]):
        voice = request["voice"]
      if request["voice"] == voice:
        answer(phonemes(library, request["phones"]))
      continue
    # The synthesiser remembers what it said, and each choice of a voice fills its queue: so every utterance is said
    # by a copy of a process that never spoke, and the sound is a function of the request alone.
    child = os.fork()
    if not child:
      if choose(library, request["voice"]):
        speak(library, request)
        answer(bytes(sound))
      os._exit(0)
    if os.waitpid(child, 0)[1]:
      answer(f"espeak-ng failed on {line!r}".encode(), failed=True)


def choose(library: ctypes.CDLL, voice: str) -> bool:
  """Returns whether the voice exists; answers with the failure if not."""
  if library.espeak_SetVoiceByName(voice.encode()) == 0:
    return True
  answer(f"no espeak-ng voice {voice!r}".encode(), failed=True)
  return False


def speak(library: ctypes.CDLL, request: dict) -> None:
  """Says the text of a request; the sound goes to the callback."""
  for parameter, name in ((_RATE, "rate"), (_PITCH, "pitch"), (_RANGE, "range")):
    library.espeak_SetParameter(parameter, int(request[name]), 0)
  text = request["speak"].encode()
  library.espeak_Synth(text, len(text) + 1, 0, 0, 0, _UTF8, None, None)


def phonemes(library: ctypes.CDLL, text: str) -> bytes:
  """Returns the phoneme mnemonics of `text`, clause after clause."""
  pointer = ctypes.c_char_p(text.encode())
  clauses = []
  while pointer.value is not None:  # the library moves the pointer past each clause, to NULL at the end
    clauses.append(library.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, _PHONEMES_SEPARATED))
  return b" ".join(clause for clause in clauses if clause)


def answer(data: bytes, *, failed: bool = False) -> None:
  """Writes one answer."""
  sys.stdout.buffer.write(struct.pack("<I", _FAILED if failed else len(data)))
  if failed:
    sys.stdout.buffer.write(struct.pack("<I", len(data)))
  sys.stdout.buffer.write(data)
  sys.stdout.buffer.flush()


if __name__ == "__main__":
  main()
