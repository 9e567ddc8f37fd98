"""Conversations: messages with a role, as chat templates read them."""

from collections.abc import Mapping, Sequence

Message = Mapping[str, str]  # role: system, user or assistant; content
Asked = str | Sequence[Message]  # one message of a user, or a conversation that ends with one
NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}


def messages_of(asked: Asked) -> list[dict[str, str]]:
    """What a chat template is given."""
    if isinstance(asked, str):
        return [{"role": "user", "content": asked}]
    return [{"role": message["role"], "content": message["content"]} for message in asked]


def text_of(messages: Sequence[Message]) -> str:
    """A conversation as one text, for judges and pages; one message alone is its content."""
    if len(messages) == 1 and messages[0]["role"] == "user":
        return messages[0]["content"]
    return "\n\n".join(f"{NAMES[message['role']]}: {message['content']}" for message in messages)
