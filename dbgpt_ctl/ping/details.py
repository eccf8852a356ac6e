"""What a ping found, in words for people."""

from __future__ import annotations

from enum import StrEnum

from dbgpt_ctl.text.escaping import quoted


class Detail(StrEnum):
    """Texts for people. What they are formatted with is escaped."""

    NO_ADDRESS = "its host and port are no address: the worker has to register those at which it is called"
    REFUSED = "nothing listens there, seen from here: start the worker, or deregister the instance if it has moved"
    UNREACHABLE = "{what}, seen from here: ping from a machine on which an API server runs"
    CONNECT_TIMEOUT = "no connection: see whether its host is up and whether a firewall drops the packets"
    NOT_A_WORKER = "{what}: correct the port, or deregister the instance if something else has taken its place"
    NO_RECORD = "its answer is none of a worker's: see whether something else has taken its place"
    NO_ANSWER = (
        "it accepts connections and answers nothing: its process is stopped or its event loop is blocked; "
        "restart the worker"
    )
    RESET = "it breaks off its answer: read the log of the worker"
    NOT_SERVED = "a worker answers, and this model is not loaded there: start the model, or deregister the instance"
    MODEL_ERROR = "the model fails with {cause}: look at its backend, and at the log of the worker"
    FAILED_WITH = "the worker answers with status {status}: its log has the cause"
    BUSY = "all slots are taken, so nothing is known of the backend: ping again in a minute"
    NO_EMBEDDING = (
        "no answer in time: its slots are taken or its backend hangs, and for this type a worker does not show which; "
        "ping again in a minute"
    )
    EMBEDDINGS_HANG = (
        "not asked, because another call to this process got no answer in time and takes up a thread there: "
        "ping again in a minute"
    )
    PROCESS_HANGS = (
        "not asked, because the pings of other instances of this process took {passed:.3g} s: ping it by its reference"
    )
    NO_TEXT = "the answer has no text: ask the backend of the model directly"
    NO_VECTOR = "the answer has no vector: ask the backend of the model directly"
    STALLED = "a slot is free, and no text came within {waited:.3g} s: look at the backend of the model, which hangs"
    STALLED_MIDWAY = (
        "text came after {ttft:.3g} s, and then nothing for {silent:.3g} s: look at the backend of the model"
    )
    SLOW = "it is slow: the text had no end within {waited:.3g} s"
    EMPTY = (
        "the answer ended without a record: the backend sends something else than completions, such as a web page; "
        "look at its address"
    )


def quoted_cause(cause: str) -> str:
    """The cause of an error, as the worker sends it, in quotes: on one line, escaped and cut."""
    return quoted(" ".join(cause.split())) if cause else "an error without a text"
