"""The proxy process: a real LiteLLM Proxy, started as its operators start it, on a loopback port."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

TEST_MASTER_KEY = "sk-test-master-key-for-loopback-only-0123456789abcdef"

# Everything else stays out: proxies, provider keys and database URLs of whoever runs the tests.
_INHERITED = frozenset(
    {"HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZ"}
)
_POLL_S = 0.1
_PROBE_TIMEOUT_S = 2.0
_TERMINATION_GRACE_S = 5.0
_TAIL_CHARS = 6_000
_WORKER_START_S = 30


class ProxyProcess:
    """Runs `litellm --config` in a process group of its own, from construction to `stop`. POSIX only.

    Args:
        config_path: LiteLLM's YAML file; its master key is `os.environ/LITELLM_MASTER_KEY`.
        env: Variables to add to a small inherited environment, which holds no keys and no proxies.
        port: The port to listen on; None takes a free one.
        startup_hook: Whether LiteLLM calls `litellm_plugin.require` before it loads its configuration.
        cwd: The working directory.
        workers: How many worker processes serve; with more than one, another process of the group starts them.

    Attributes:
        master_key: LiteLLM's master key, from `env` or the test's own.
        url: The base URL, without a trailing slash.
    """

    def __init__(
        self,
        config_path: str | Path,
        *,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        startup_hook: bool = True,
        cwd: str | Path | None = None,
        workers: int = 1,
    ) -> None:
        self._reservation = _reserved(port)
        self.port: int = port or self._reservation.getsockname()[1]
        if sys.platform != "linux":
            self._reservation.close()
        self.url = f"http://127.0.0.1:{self.port}"
        variables = _environment(env or {}, startup_hook=startup_hook)
        self.master_key = variables["LITELLM_MASTER_KEY"]
        self._stopped_log: str | None = None
        # Unlinked at once, so that nothing stays behind whatever happens to the test.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - LiteLLM's own command with a path and a number
                [*_litellm(), *_arguments(config_path, self.port, workers)],
                env=variables,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError:
            self._reservation.close()
            self._log.close()
            raise

    @property
    def pid(self) -> int:
        """The process id, which is the id of the process group too."""
        return self._process.pid

    def log_text(self) -> str:
        """Return what the process wrote to stdout and stderr until now, or until `stop`."""
        if self._stopped_log is not None:
            return self._stopped_log
        descriptor = self._log.fileno()
        # pread: the child shares the file's offset, so the reader must not move it.
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")

    def wait_ready(self, timeout_s: float = 90.0) -> Self:
        """Return once GET /health/liveliness answers 200.

        Raises:
            RuntimeError: The process exited, or the time ran out and it was stopped; the message ends with
                the log's tail.
        """
        try:
            self._poll_ready(timeout_s)
        except BaseException:
            self.stop()
            raise
        return self

    def _poll_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        with httpx.Client(base_url=self.url, timeout=_PROBE_TIMEOUT_S, trust_env=False) as client:
            while time.monotonic() < deadline:
                if self._has_exited():
                    raise RuntimeError(
                        self._with_log(f"LiteLLM exited with {self._reap()} before it was ready")
                    )
                if _is_alive(client):
                    return
                time.sleep(_POLL_S)
        raise RuntimeError(self._with_log(f"LiteLLM was not ready within {timeout_s:g} s"))

    def wait_exit(self, timeout_s: float = 90.0) -> int:
        """Wait until the process ends by itself and return its exit code.

        Raises:
            TimeoutError: It still runs; the message ends with the log's tail.
        """
        if not self._exits_within(timeout_s):
            raise TimeoutError(self._with_log(f"LiteLLM did not exit within {timeout_s:g} s"))
        return self._reap()

    def stop(self) -> None:
        """End the whole process group, by SIGTERM and after 5 s by SIGKILL; twice is harmless."""
        if self._stopped_log is not None:
            return
        if not self._has_exited():
            self._signal_group(signal.SIGTERM)
            self._exits_within(_TERMINATION_GRACE_S)
        self._reap()
        self._reservation.close()
        self._stopped_log = self.log_text()
        self._log.close()

    def _exits_within(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not self._has_exited():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def _has_exited(self) -> bool:
        if self._process.returncode is not None:
            return True
        # WNOWAIT leaves the zombie in place, so that its group id cannot pass to a stranger before
        # the rest of the group is ended.
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, options) is not None

    def _reap(self) -> int:
        if self._process.returncode is None:
            self._signal_group(signal.SIGKILL)
        return self._process.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _with_log(self, message: str) -> str:
        return f"{message}; its log ends:\n{self.log_text()[-_TAIL_CHARS:]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _litellm() -> list[str]:
    script = Path(sys.executable).parent / "litellm"
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", "from litellm import run_server; run_server()"]


def _arguments(config_path: str | Path, port: int, workers: int) -> list[str]:
    options = {"--config": config_path, "--host": "127.0.0.1", "--port": port}
    if workers > 1:
        # uvicorn asks each worker for a sign of life from the beginning, and ends it after 5 s without one; importing
        # LiteLLM takes longer on a busy machine, and each of them does it.
        options |= {"--num_workers": workers, "--timeout_worker_healthcheck": _WORKER_START_S * workers}
    return [str(part) for option in options.items() for part in option]


def _environment(env: Mapping[str, str], *, startup_hook: bool) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name in _INHERITED}
    hook = {"LITELLM_WORKER_STARTUP_HOOKS": "litellm_plugin:require"} if startup_hook else {}
    return {
        **inherited,
        # The bundled price list instead of a download at every start.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        # In its default mode LiteLLM reads any .env file in a directory above it.
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_MASTER_KEY": TEST_MASTER_KEY,
        "PYTHONUNBUFFERED": "1",
        # LiteLLM's own setting, read early in its start: a sixth less of the start's CPU time.
        "PYTHON_GC_THRESHOLD": "100000,50,50",
        **hook,
        **env,
    }


def _reserved(port: int | None) -> socket.socket:
    """Binds a free port without listening, so that nobody else is given it in the seconds until LiteLLM binds it.

    Linux lets a second socket with SO_REUSEADDR bind it by number, as LiteLLM's does. A port that the caller chose is
    its own affair.
    """
    reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if port is None:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(("127.0.0.1", 0))
    return reservation


def _is_alive(client: httpx.Client) -> bool:
    try:
        return client.get("/health/liveliness").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
