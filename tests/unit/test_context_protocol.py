"""What comes from an interpreter in the sandbox: frames and messages in any pieces, and every way to break them."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule_run.contexts import protocol
from capsule_run.contexts.protocol import BrokenMessageError, Decoder, Displayed, Done, Ended, Ready, Written


def frame(kind, payload=b""):
    return struct.pack(">BI", kind, len(payload)) + payload


def message(kind, fields=(), *, texts=None):
    words = [word.encode() for pair in dict(fields).items() for word in pair] if texts is None else texts
    payload = bytes([kind]) + b"".join(struct.pack(">I", len(word)) + word for word in words)
    return struct.pack(">I", len(payload)) + payload


def messages(*those):
    whole = b"".join(those)
    return b"".join(frame(protocol.MESSAGES, whole[n : n + 60_000]) for n in range(0, len(whole), 60_000))


STREAM = (
    messages(message(protocol.READY, {"version": "3.12.1"}))
    + frame(protocol.STDOUT, b"hello\n")
    + messages(
        message(protocol.RESULT, {"main": "1", "data text/plain": "2", "omitted text/html": "99"}),
        message(protocol.DONE, {"number": "1", "name": "ValueError"}),
    )
    + frame(protocol.STDERR, b"\xff")
    + frame(protocol.END, b"signal 11")
)
EVENTS = [
    Ready(version="3.12.1"),
    Written(stream=protocol.STDOUT, data=b"hello\n"),
    Displayed(data={"text/plain": "2"}, omitted={"text/html": 99}, is_main=True),
    Done(number=1, error={"name": "ValueError"}),
    Written(stream=protocol.STDERR, data=b"\xff"),
    Ended(how="signal", number=11),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_stream_is_decoded_in_any_pieces(cuts):
    """Wherever reads cut the stream, the same events come."""
    places = [0, *sorted(cuts), len(STREAM)]
    decoder = Decoder()
    pieces = [STREAM[start:end] for start, end in pairwise(places)]
    assert EVENTS == [event for piece in pieces for event in decoder.feed(piece)]


def test_large_message_is_decoded_over_many_frames():
    """A message is larger than a frame may be."""
    image = "A" * 1_000_000
    sent = messages(message(protocol.RESULT, {"main": "0", "data image/png": image}))
    (event,) = Decoder().feed(sent)
    assert image == event.data["image/png"]


BROKEN = {
    "kind of frame 0": (frame(0), "a frame of kind 0"),
    "kind of frame 5": (frame(5), "a frame of kind 5"),
    "text": (b"Traceback (most recent call last):", "a frame of kind 84"),
    "long frame": (struct.pack(">BI", 1, 1 << 16 | 1), "with 65537 bytes"),
    "empty message": (messages(bytes(4)), "a message of 0 bytes"),
    "long message": (messages(struct.pack(">I", protocol.LARGEST_MESSAGE + 1)), "a message of 25165825 bytes"),
    "kind of message": (messages(message(7)), "a message of kind 7"),
    "odd texts": (messages(message(2, texts=[b"main"])), "a name without a value"),
    "many texts": (messages(message(2, texts=[b"a"] * 1000)), "too many"),
    "text beyond its message": (messages(struct.pack(">I", 5) + b"\2" + struct.pack(">I", 1)), "longer than its message"),
    "half a length": (messages(struct.pack(">I", 3) + b"\2\0\0"), "without an end"),
    "long name": (messages(message(2, {"data " + "x" * 300: ""})), "a name that is too long"),
    "unknown part": (messages(message(2, {"main": "1", "evil text/plain": "x"})), "a result with 'evil text/plain'"),
    "data without a type": (messages(message(2, {"data ": "x"})), "a result with 'data '"),
    "number in words": (messages(message(3, {"number": "one"})), "'one' as a number"),
    "negative number": (messages(message(3, {"number": "-1"})), "'-1' as a number"),
    "digits of another script": (messages(message(3, {"number": "\N{ARABIC-INDIC DIGIT ONE}"})), "as a number"),
    "long number": (messages(message(3, {"number": "9" * 10_000})), "as a number"),
    "no number": (messages(message(3)), "'' as a number"),
    "size in words": (messages(message(2, {"omitted text/html": "big"})), "'big' as a number"),
    "way to end": (frame(4, b"fine 0"), "an end by 'fine'"),
    "end without a number": (frame(4, b"exit"), "'' as a number"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_stream_is_named(name):
    """Each way to break a stream raises an error that says what is wrong, and nothing else."""
    sent, words = BROKEN[name]
    with pytest.raises(BrokenMessageError, match=words):
        list(Decoder().feed(sent))


def test_invalid_utf_8_of_a_text_is_replaced():
    """A text is text, whatever its bytes: no exception, no surrogate."""
    (event,) = Decoder().feed(messages(message(2, texts=[b"data text/plain", b"\xff\xed\xa0\x80"])))
    assert event.data["text/plain"].encode()


@given(st.binary(max_size=300))
def test_decoder_raises_nothing_but_its_own_error(noise):
    """Whatever bytes come, as a stream or as messages: events, or the one error."""
    for sent in (noise, messages(noise), messages(struct.pack(">I", len(noise)) + noise)):
        try:
            list(Decoder().feed(sent))
        except BrokenMessageError:
            pass


def test_waiting_bytes_are_bounded():
    """A message that never ends makes the decoder keep no more than the largest message."""
    decoder = Decoder()
    list(decoder.feed(messages(struct.pack(">I", protocol.LARGEST_MESSAGE) + b"\2")))
    block = frame(protocol.MESSAGES, bytes(1 << 16))
    with pytest.raises(BrokenMessageError):
        list(decoder.feed(block * (2 * protocol.LARGEST_MESSAGE >> 16)))
    assert len(decoder._messages) <= protocol.LARGEST_MESSAGE + 4


def test_request_is_ascii_with_every_character():
    """Code with any character, lone surrogates too, becomes one frame."""
    sent = protocol.encode_request("'\ud800é🎉\0'", number=1, memory_bytes=None)
    kind, length = struct.unpack_from(">BI", sent)
    assert (protocol.REQUEST, len(sent) - 5) == (kind, length)
    assert sent[5:].isascii()
