"""Content URLs: what stands in content as an address, which LiteLLM or a provider would fetch.

Whoever names the host of such an address decides where its text goes: outside the set and every other egress.
LiteLLM fetches many of them from the proxy itself (1.106, prompt_templates/image_handling.py), `file_id` included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from litellm_plugin.errors import Reason, Verdict

if TYPE_CHECKING:
    from litellm_plugin.settings import PolicySnapshot

CONTENT_URLS: Final = "content_urls"
"""The name under which `egress` clears them."""

# Where bodies and websocket events hold content.
_ROOTS: Final = (
    "contents",
    "image",
    "input",
    "item",
    "mask",
    "messages",
    "prediction",
    "system",
    "systemInstruction",
    "system_instruction",
)
# Keys whose text is content, or the address of some; beside them everything that ends in `url` or `uri`.
_ADDRESSES: Final = frozenset(
    {"audio", "data", "file", "filedata", "fileid", "files", "image", "images", "mask", "video", "videos"}
)
# What is said to or by a tool, and where a text came from: nobody fetches it.
_ASIDE: Final = frozenset(
    {
        "action",
        "annotations",
        "args",
        "arguments",
        "citations",
        "function_call",
        "functionCall",
        "groundingMetadata",
        "input",
        "response",
        "tool_calls",
        "tools",
    }
)
# A text to embed that is an address in object storage is one for Vertex and Bedrock (LiteLLM 1.106,
# llms/vertex_ai/multimodal_embeddings/, llms/bedrock/embed/); any other address is a text.
_STORAGE: Final = frozenset({"gs", "s3"})
# Results that a provider's own search gave, sent back to it.
_FOUND: Final = frozenset({"web_fetch_result", "web_search_result"})
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.\-]*", re.IGNORECASE)
# What URL parsers take off the front of a text, WHATWG URL §4.4.
_BLANK: Final = "".join(map(chr, range(0x21)))


def urls_refused(body: Mapping[str, object], policy: PolicySnapshot, classification: str) -> Verdict | None:
    """Says why a body that names addresses cannot be served; None when it names none, or they are cleared."""
    refused = uncleared(policy, classification)
    return refused if refused is not None and names_url(body) else None


def uncleared(policy: PolicySnapshot, classification: str) -> Verdict | None:
    """Says why content of this classification may name no address; None where it may."""
    if classification in policy.egress.get(CONTENT_URLS, ()):
        return None
    return Verdict(
        Reason.EGRESS_NOT_CLEARED,
        "The content names a URL, which would be fetched from a host that no permit names; nothing was sent. Send "
        f"the content itself (base64 or a data URL). The operator of this proxy can clear {CONTENT_URLS!r} in egress "
        f"for classification {classification!r}.",
    )


def names_url(body: Mapping[str, object]) -> bool:
    """Whether the content of a body, or of a websocket's event, names an address to fetch.

    Looks at structure alone: a text that mentions an address is text. Visits each value once, without recursion.
    """
    pending = [(root, body[root]) for root in _ROOTS if root in body]
    while pending:
        key, value = pending.pop()
        match value:
            case str():
                scheme = _scheme(value)
                if scheme in _STORAGE if key == "input" else scheme is not None and _is_address(key):
                    return True
            case Mapping():
                pending += [(name, each) for name, each in value.items() if _is_content(name, value)]
            case list() | tuple():
                pending += [(key, each) for each in value]
    return False


def _is_address(key: str) -> bool:
    plain = key.replace("_", "").lower()
    return plain.endswith(("url", "uri", "urls", "uris")) or plain in _ADDRESSES


def _is_content(name: object, part: Mapping[str, object]) -> bool:
    if not isinstance(name, str) or name in _ASIDE:
        return False
    kind = part.get("type")
    return not (name == "url" and kind in _FOUND) and not (name == "data" and kind == "text")


def _scheme(text: str) -> str | None:
    """The scheme that a text begins with, as URL parsers read it: tabs and line ends count nothing; not `data`."""
    plain = text.replace("\t", "").replace("\n", "").replace("\r", "")
    scheme = plain[: max(plain.find("://"), 0)].lstrip(_BLANK).lower()
    return scheme if _SCHEME.fullmatch(scheme) and scheme != "data" else None
