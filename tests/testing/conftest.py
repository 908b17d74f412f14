from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from litellm_plugin.testing import RecordingProvider, ServerThread

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def provider() -> RecordingProvider:
    return RecordingProvider("eu-1")


@pytest.fixture
def provider_url(provider: RecordingProvider) -> Iterator[str]:
    servers = ServerThread()
    url = servers.add(provider)
    with servers:
        yield url
