import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litellm_plugin.records import HashChain, verify_chain
from litellm_plugin.records.chain import GENESIS, ChainHead


def chained(writer, count):
    chain = HashChain(writer)
    lines = []
    for number in range(1, count + 1):
        sealed = chain.seal({"type": "decision", "number": number, "model": "gpt-4o é\x7f", "cost": 0.1})
        chain.advance(sealed)
        lines.append(json.dumps(sealed) + "\n")
    return lines


def breaks(lines):
    return [(found.line_number, found.writer) for found in verify_chain(lines).broken]


def changed(line, **changes):
    return json.dumps({**json.loads(line), **changes})


def relinked(line, **changes):
    record = json.loads(line)
    return json.dumps({**record, "chain": {**record["chain"], **changes}})


def test_hash_is_what_the_documentation_says():
    sealed = HashChain("w").seal({"b": "é\x7f", "a": 1.5})
    canonical = r'{"a":1.5,"b":"\u00e9\u007f","chain":{"prev":"' + GENESIS + '","seq":1,"writer":"w"}}'
    assert sealed["chain"]["hash"] == hashlib.sha256((GENESIS + canonical).encode()).hexdigest()


def test_untouched_log_is_intact():
    report = verify_chain(chained("w", 5))
    assert (report.is_intact, report.records) == (True, 5)
    assert [(head.writer, head.seq) for head in report.writers] == [("w", 5)]


def test_empty_log_is_intact():
    assert verify_chain([]).is_intact


def test_bytes_are_read():
    assert verify_chain([line.encode() for line in chained("w", 2)]).is_intact


def test_blank_lines_are_passed_over():
    first, second = chained("w", 2)
    report = verify_chain([first, "\n", second, b" \n"])
    assert (report.is_intact, report.records) == (True, 2)


def test_record_that_was_not_written_leaves_no_gap():
    chain = HashChain("w")
    chain.seal({"lost": True})
    sealed = chain.seal({"lost": False})
    assert verify_chain([json.dumps(sealed)]).is_intact


@settings(deadline=None)
@given(st.permutations(["a"] * 4 + ["b"] * 4))
def test_writers_may_interleave_in_any_way(order):
    lines = {writer: iter(chained(writer, 4)) for writer in "ab"}
    assert verify_chain([next(lines[writer]) for writer in order]).is_intact


def test_order_and_spacing_of_members_do_not_matter():
    lines = [json.dumps(json.loads(line), sort_keys=True, indent=2) for line in chained("w", 3)]
    assert verify_chain(lines).is_intact


def test_edited_record_is_found_alone():
    lines = chained("w", 5)
    lines[2] = changed(lines[2], number=99)
    assert breaks(lines) == [(3, "w")]


def test_edited_record_with_a_new_hash_is_found_at_the_next():
    lines = chained("w", 5)
    forged = HashChain("w")
    for line in lines[:2]:
        forged.advance(json.loads(line))
    lines[2] = json.dumps(forged.seal({"type": "decision", "number": 99}))
    assert breaks(lines) == [(4, "w")]


def test_removed_record_is_found():
    lines = chained("w", 5)
    del lines[2]
    assert breaks(lines) == [(3, "w")]


def test_removed_beginning_is_found():
    assert breaks(chained("w", 5)[2:]) == [(1, "w")]


def test_swapped_records_are_found():
    lines = chained("w", 5)
    lines[1], lines[2] = lines[2], lines[1]
    assert breaks(lines) == [(2, "w"), (3, "w")]


def test_duplicated_record_is_found():
    lines = chained("w", 5)
    lines.insert(3, lines[2])
    assert breaks(lines) == [(4, "w")]


def test_torn_last_line_is_reported():
    lines = chained("w", 3)
    lines[2] = lines[2][:40]
    report = verify_chain(lines)
    assert [(found.line_number, found.writer) for found in report.broken] == [(3, None)]
    assert report.writers[0].seq == 2


def test_cut_end_shows_in_the_head():
    lines = chained("w", 5)
    head = verify_chain(lines).writers[0]
    assert isinstance(head, ChainHead)
    assert verify_chain(lines[:3]).writers[0] != head


def test_break_of_one_writer_leaves_the_other_intact():
    a, b = chained("a", 3), chained("b", 3)
    a[1] = changed(a[1], number=0)
    assert breaks([line for pair in zip(a, b, strict=True) for line in pair]) == [(3, "a")]


def test_record_moved_to_another_writer_is_found():
    a, b = chained("a", 2), chained("b", 2)
    a[1] = relinked(a[1], writer="b")
    assert breaks([*a, *b])[0] == (2, "b")


def test_edited_number_does_not_mask_what_follows():
    lines = chained("w", 4)
    lines[1] = relinked(lines[1], seq=10**9)
    assert breaks(lines) == [(2, "w"), (3, "w")]


def test_name_that_stands_twice_is_found():
    lines = chained("w", 2)
    lines[0] = lines[0].replace('{"type":', '{"type": "attempt", "type":', 1)
    assert breaks(lines)[0] == (1, None)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("null", id="null"),
        pytest.param("[]", id="list"),
        pytest.param("{}", id="no chain"),
        pytest.param('{"chain": 1}', id="chain is no object"),
        pytest.param('{"chain": {"writer": "w", "seq": 1, "prev": ""}}', id="no hash"),
        pytest.param(
            '{"chain": {"writer": "w", "seq": true, "prev": "", "hash": ""}}', id="seq is no integer"
        ),
        pytest.param('{"chain": {"writer": 1, "seq": 1, "prev": "", "hash": ""}}', id="writer is no text"),
        pytest.param('{"chain": {"writer": "w", "seq": 1, "prev": "é", "hash": ""}}', id="prev is no ASCII"),
        pytest.param('{"x": NaN}', id="NaN"),
        pytest.param(
            '{"x": 1e999, "chain": {"writer": "w", "seq": 1, "prev": "", "hash": ""}}', id="infinite"
        ),
        pytest.param('{"x": ' + "9" * 5000 + "}", id="long integer"),
        pytest.param("[" * 100_000, id="deep"),
        pytest.param(b"\xff\xfe\xff", id="no text"),
    ],
)
def test_line_that_is_no_record_is_reported(line):
    assert len(verify_chain([line]).broken) == 1


@settings(deadline=None)
@given(st.lists(st.one_of(st.text(), st.binary()), max_size=5))
def test_no_line_raises(lines):
    verify_chain(lines)


@settings(deadline=None)
@given(st.data())
def test_any_changed_character_is_found(data):
    lines = chained("w", 3)
    number = data.draw(st.integers(0, 2))
    line = lines[number].rstrip("\n")
    at = data.draw(st.integers(0, len(line) - 1))
    character = data.draw(st.characters(min_codepoint=0x21, max_codepoint=0x7E))
    lines[number] = line[:at] + character + line[at + 1 :]
    try:
        is_same = json.loads(lines[number]) == json.loads(line)
    except ValueError:
        is_same = False
    assert verify_chain(lines).is_intact == is_same
