"""Call streams: a streamed answer of a guarded router, read as part of the call that it belongs to."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Self

from litellm_plugin.proxy.calls import inside

if TYPE_CHECKING:
    from collections.abc import Callable

    from litellm_plugin.proxy.calls import RouterCall


class CallStream:
    """Stands for LiteLLM's own stream: its items, its attributes and its class.

    LiteLLM logs the end of a stream, and may open another in its place, while the caller reads it. That
    happens in the caller's context, which may have another permit by then or none.

    Args:
        stream: LiteLLM's stream.
        call: The call that it answers.
        failed: Says what the caller gets for an error.
        ended: Is told once how it ended: read to its end or error (True), or left (False).
    """

    def __init__(
        self,
        stream: Any,
        call: RouterCall,
        failed: Callable[[RouterCall, Exception], Exception],
        ended: Callable[[RouterCall, bool], None],
    ) -> None:
        self._stream = stream
        self._items = aiter(stream)
        self._call = call
        self._failed = failed
        self._ended = ended
        self._left = weakref.finalize(self, ended, call, False)
        self._left.atexit = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            with inside(self._call):
                item = await anext(self._items)
        except StopAsyncIteration:
            self._finish()
            raise
        except Exception as error:
            wanted = self._failed(self._call, error)
            self._finish()
            if wanted is error:
                raise
            raise wanted from error
        self._call.response_started = True
        return item

    async def aclose(self) -> None:
        """Leaves the stream where it is."""
        close = getattr(self._stream, "aclose", None)
        try:
            if close is not None:
                with inside(self._call):
                    await close()
        finally:
            self._left()

    def _finish(self) -> None:
        if self._left.detach() is not None:
            self._ended(self._call, True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property  # type: ignore[misc] # read-only here
    def __class__(self) -> Any:
        """LiteLLM's own class, so that `isinstance` says of this stream what it says of LiteLLM's."""
        return self._stream.__class__
