"""From the bytes of an event stream to messages."""

from __future__ import annotations

import pytest

from orchestree.supervisor.control.command_line.sse_reading import Message, messages


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        (b"", []),
        (b"id: 7\nevent: agent_ready\ndata: {}\n\n", [Message("{}", "agent_ready", "7")]),
        (b"data: a\r\ndata: b\r\n\r\n", [Message("a\nb")]),
        (b"data:x\n\n: a comment\n\ndata: y\n\n", [Message("x"), Message("y")]),
        (b"event: nothing else\n\n", []),
        (b"data\n\n", [Message("")]),
        (b"data: \xff\n\n", [Message("\ufffd")]),
        (b"data: whole\n\ndata: cut off\n", [Message("whole")]),
    ],
)
def test_a_message_ends_with_a_blank_line(stream: bytes, found: list[Message]) -> None:
    assert list(messages(stream.splitlines(keepends=True))) == found
