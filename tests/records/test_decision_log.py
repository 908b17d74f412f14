import fcntl
import json
import logging
import os
import signal
import stat
import threading

import pytest

from litellm_plugin.errors import ConfigurationError, RecordNotWritten
from litellm_plugin.records import DecisionLog, FileDecisionLog, NullDecisionLog, verify_chain


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "decisions.jsonl"


@pytest.fixture
def open_log(path, clock):
    logs = []

    def open_log(*, required=False, chain=False, at=path):
        logs.append(FileDecisionLog(at, required=required, chain=chain, writer="proxy", clock=clock))
        return logs[-1]

    yield open_log
    for log in logs:
        log.close()


def lines(path):
    return path.read_bytes().splitlines()


def records(path):
    return [json.loads(line) for line in lines(path) if line]


def fill_disk(log):
    """Puts a device that is always full in the place of the opened file."""
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log._file._descriptor, inheritable=False)
    os.close(full)


def test_each_record_is_one_line(open_log, path):
    log = open_log()
    log.write({"n": 1})
    log.write({"n": 2, "text": "a\nb\u2028\x7f"})
    assert path.read_bytes() == b'{"n":1}\n{"n":2,"text":"a\\nb\\u2028\\u007f"}\n'


def test_file_is_readable_by_its_owner_only(open_log, path):
    open_log()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_existing_records_are_kept(open_log, path):
    open_log().write({"n": 1})
    open_log().write({"n": 2})
    assert records(path) == [{"n": 1}, {"n": 2}]


def test_line_torn_by_a_crash_is_ended_first(open_log, path):
    path.write_bytes(b'{"n":1}\n{"n":')
    open_log().write({"n": 2})
    assert path.read_bytes() == b'{"n":1}\n{"n":\n{"n":2}\n'


def test_relative_path_is_fixed_at_start(open_log, tmp_path, monkeypatch, clock):
    monkeypatch.chdir(tmp_path)
    log = open_log(at="here.jsonl")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    clock.now_s += 2
    log.write({"n": 1})
    assert records(tmp_path / "here.jsonl") == [{"n": 1}]


def test_rotated_file_is_followed_within_a_second(open_log, path, clock):
    log = open_log(chain=True)
    log.write({"n": 1})
    rotated = path.rename(path.with_suffix(".1"))
    log.write({"n": 2})
    clock.now_s += 1
    log.write({"n": 3})
    assert [record["n"] for record in records(rotated)] == [1, 2]
    assert [record["n"] for record in records(path)] == [3]
    assert verify_chain([*lines(rotated), *lines(path)]).is_intact


def test_removed_file_is_made_again_at_once(open_log, path):
    log = open_log()
    log.write({"n": 1})
    path.unlink()
    log.write({"n": 2})
    assert records(path) == [{"n": 2}]
    assert log.lost == 0


def test_removed_directory_loses_records_until_it_is_back(open_log, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    log = open_log(at=folder / "d.jsonl")
    (folder / "d.jsonl").unlink()
    folder.rmdir()
    log.write({"n": 1})
    folder.mkdir()
    log.write({"n": 2})
    assert log.lost == 1
    assert records(folder / "d.jsonl") == [{"n": 2}]


def test_fifo_put_in_place_is_refused(open_log, path):
    log = open_log(required=True)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(RecordNotWritten, match="not a regular file"):
        log.write({"n": 1})


def make_fifo(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


@pytest.mark.parametrize(
    "make_path",
    [
        pytest.param(make_fifo, id="fifo"),
        pytest.param(lambda tmp_path: tmp_path, id="directory"),
        pytest.param(lambda _: "/dev/full", id="device"),
        pytest.param(lambda tmp_path: tmp_path / "absent" / "d.jsonl", id="no directory"),
        pytest.param(lambda _: "/proc/decisions.jsonl", id="unwritable directory"),
        pytest.param(lambda _: "nul\x00.jsonl", id="no path"),
    ],
)
def test_what_cannot_be_a_log_is_a_configuration_error(open_log, tmp_path, make_path):
    at = make_path(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        open_log(at=at)
    assert str(caught.value).startswith(f"decision_log.file: got {str(at)!r}, expected a regular file")


def test_full_disk_is_counted(open_log):
    log = open_log()
    fill_disk(log)
    log.write({"n": 1})
    log.write({"n": 2})
    assert log.lost == 2


def test_full_disk_raises_where_the_record_is_required(open_log):
    log = open_log(required=True)
    fill_disk(log)
    with pytest.raises(RecordNotWritten, match="No space left"):
        log.write({"n": 1})
    assert log.lost == 1


def test_log_takes_records_again_without_a_gap_in_the_chain(open_log, path, clock):
    log = open_log(chain=True)
    log.write({"n": 1})
    fill_disk(log)
    log.write({"n": 2})
    clock.now_s += 1
    log.write({"n": 3})
    assert [record["n"] for record in records(path)] == [1, 3]
    assert verify_chain(lines(path)).is_intact


def test_state_changes_are_logged_once(open_log, clock, caplog):
    caplog.set_level(logging.INFO)
    logger = logging.getLogger("LiteLLM Proxy.permit_router")
    logger.addHandler(caplog.handler)
    was_propagating, logger.propagate = logger.propagate, False
    try:
        log = open_log()
        fill_disk(log)
        log.write({"n": 1})
        log.write({"n": 2})
        clock.now_s += 1
        log.write({"n": 3})
        log.write({"n": 4})
    finally:
        logger.removeHandler(caplog.handler)
        logger.propagate = was_propagating
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "2 lost so far" in caplog.messages[1]


def drain(reader):
    try:
        return os.read(reader, 1 << 20)
    except BlockingIOError:
        return b""


@pytest.fixture
def torn(open_log):
    """A log whose next long line is written in part: its file is a pipe with room for one page."""
    log = open_log()
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.dup2(writer, log._file._descriptor, inheritable=False)
    os.close(writer)
    yield log, reader
    os.close(reader)


def test_line_after_a_short_write_begins_on_its_own(torn):
    log, reader = torn
    log.write({"text": "x" * 9000})
    assert log.lost == 1
    fragment = drain(reader)
    assert fragment
    log.write({"n": 2})
    assert drain(reader) == b'\n{"n":2}\n'
    log.write({"n": 3})
    assert drain(reader) == b'{"n":3}\n'
    assert log.lost == 1


def test_record_that_lacks_only_its_newline_is_written(torn):
    log, reader = torn
    log.write({"text": "x" * (4096 - len('{"text":""}'))})
    assert log.lost == 0
    assert json.loads(drain(reader))
    log.write({"n": 2})
    assert drain(reader) == b'\n{"n":2}\n'


def test_torn_line_is_ended_at_once_where_there_is_room(open_log, path, monkeypatch):
    log = open_log(chain=True)
    log.write({"n": 1})
    write = os.write
    lengths = iter([10])
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: next(lengths, None)]))
    log.write({"n": 2})
    log.write({"n": 3})
    report = verify_chain(lines(path))
    assert [found.line_number for found in report.broken] == [2]
    assert log.lost == 1


@pytest.mark.parametrize("value", [object(), float("nan")])
def test_value_without_a_json_form_is_lost_and_not_raised(open_log, path, value):
    log = open_log(chain=True)
    log.write({"n": value})
    assert log.lost == 1
    assert path.read_bytes() == b""


def test_closed_log_takes_nothing(open_log, path):
    log = open_log(required=True)
    log.close()
    log.close()
    with pytest.raises(RecordNotWritten, match="closed"):
        log.write({"n": 1})
    assert records(path) == []


def test_threads_write_whole_lines(open_log, path):
    log = open_log(chain=True)
    text = "x" * 5000

    def write_many(thread):
        for number in range(100):
            log.write({"thread": thread, "n": number, "text": text})

    threads = [threading.Thread(target=write_many, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = verify_chain(lines(path))
    assert (report.is_intact, report.records, log.lost) == (True, 800, 0)


def test_two_logs_on_one_file_are_two_writers(open_log, path):
    first, second = open_log(chain=True), open_log(chain=True)
    for log in (first, second, first, second):
        log.write({})
    report = verify_chain(lines(path))
    assert report.is_intact
    assert [head.writer for head in report.writers] == [first.writer, second.writer]


# Python 3.12 warns where another test left a thread behind; the child here only writes and exits.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_fork_is_a_writer_of_its_own(open_log, path):
    log = open_log(chain=True)
    log.write({"who": "parent"})
    # Held as another thread might hold it: the child must not wait for it.
    with log._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            try:
                log.write({"who": "child"})
            finally:
                os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    log.write({"who": "parent"})
    report = verify_chain(lines(path))
    assert report.is_intact
    assert [(head.writer.split(":")[1], head.seq) for head in report.writers] == [
        (str(os.getpid()), 2),
        (str(child), 1),
    ]


def test_null_log_takes_everything():
    log: DecisionLog = NullDecisionLog()
    log.write({"n": object()})
    log.close()
    assert log.lost == 0
