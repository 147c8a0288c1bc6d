import pytest

from huffpack import ArchiveError, canonical_codes, code_lengths, pack, unpack
from huffpack.__main__ import main
from huffpack.codes import mean_length

WOOD = b"how much wood would a woodchuck chuck if a woodchuck could chuck wood"


def test_what_occurs_often_is_short():
    assert code_lengths({97: 5, 98: 2, 99: 1, 100: 1}) == {97: 1, 98: 2, 99: 3, 100: 3}


def test_codes_follow_each_other():
    assert canonical_codes({97: 1, 98: 3, 99: 2, 100: 3}) == {97: (0, 1), 99: (2, 2), 98: (6, 3), 100: (7, 3)}


def test_lengths_that_no_code_has():
    with pytest.raises(ValueError):
        canonical_codes({1: 1, 2: 1, 3: 1})


def test_there_and_back():
    assert unpack(pack(WOOD)) == WOOD


def test_all_bytes_there_and_back():
    data = bytes(range(256)) * 3 + b"more of some"
    assert unpack(pack(data)) == data


def test_an_archive_byte_by_byte():
    assert pack(b"abca") == b"HUF1\0\0\0\4\0\3a\1b\2c\2" + bytes([0b01011000])


def test_mean_length():
    assert mean_length(b"aaaabbcd") == 1.75


def test_damaged_archives():
    packed = pack(WOOD)
    for damaged in (b"", b"GIF8" + packed[4:], packed[:12], packed[:-1], packed + b"x"):
        with pytest.raises(ArchiveError):
            unpack(damaged)


def test_command_line(tmp_path, capsys):
    source, packed, target = (tmp_path / name for name in ("a", "b", "c"))
    source.write_bytes(WOOD)
    assert main(["pack", str(source), str(packed)]) == main(["unpack", str(packed), str(target)]) == 0
    assert target.read_bytes() == WOOD
    assert main(["show", str(source)]) == 1
    assert capsys.readouterr().err == "huffpack: a: no archive\n"
