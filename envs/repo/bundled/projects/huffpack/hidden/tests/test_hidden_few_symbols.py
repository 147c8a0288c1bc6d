import pytest

from huffpack import ArchiveError, code_lengths, pack, unpack
from huffpack.__main__ import main
from huffpack.codes import mean_length


def test_nothing_there_and_back():
    assert pack(b"") == b"HUF1\0\0\0\0\0\0"
    assert unpack(pack(b"")) == b""


def test_one_byte_there_and_back():
    assert pack(b"x") == b"HUF1\0\0\0\1\0\1x\1\0"
    assert unpack(pack(b"x")) == b"x"


def test_runs_of_one_byte_there_and_back():
    for byte in (0, 32, 255):
        for count in (2, 7, 8, 9, 1000):
            data = bytes([byte]) * count
            assert unpack(pack(data)) == data


def test_a_run_takes_one_bit_a_byte():
    assert len(pack(b"-" * 80)) == 4 + 4 + 2 + 2 + 10
    assert mean_length(b"-" * 80) == 1.0


def test_lengths_of_few_bytes():
    assert code_lengths({}) == {}
    assert code_lengths({7: 3}) == {7: 1}
    assert code_lengths({7: 3, 8: 0}) == {7: 1}


def test_mean_length_of_nothing():
    assert mean_length(b"") == 0


def test_empty_file_on_the_command_line(tmp_path, capsys):
    source, packed, target = (tmp_path / name for name in ("a", "b", "c"))
    source.write_bytes(b"")
    assert main(["pack", str(source), str(packed)]) == 0
    assert main(["unpack", str(packed), str(target)]) == 0
    assert target.read_bytes() == b""
    assert main(["show", str(packed)]) == 0
    assert capsys.readouterr().out == "0 bytes, 0 different\n"


def test_one_symbol_on_the_command_line(tmp_path, capsys):
    source, packed = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"    ")
    assert main(["pack", str(source), str(packed)]) == 0
    assert main(["show", str(packed)]) == 0
    assert capsys.readouterr().out == "4 bytes, 1 different\nb' ' 0\n"


def test_two_symbols_have_one_bit_each():
    assert code_lengths({1: 900, 2: 1}) == {1: 1, 2: 1}
    assert pack(b"ab") == b"HUF1\0\0\0\2\0\2a\1b\1" + bytes([0b01000000])


def test_lengths_of_many_bytes():
    assert code_lengths({1: 1, 2: 1, 3: 2, 4: 3, 5: 5}) == {1: 4, 2: 4, 3: 3, 4: 2, 5: 1}
    assert set(code_lengths({byte: 4 for byte in range(16)}).values()) == {4}


def test_damaged_archives_of_one_symbol():
    for damaged in (
        b"HUF1\0\0\0\2\0\0",
        b"HUF1\0\0\0\2\0\1x\0",
        b"HUF1\0\0\0\2\0\1x\1",
        b"HUF1\0\0\0\2\0\1x\1\xff",
        b"HUF1\0\0\0\2\0\1x\1\0\0",
    ):
        with pytest.raises(ArchiveError):
            unpack(damaged)


def test_text_there_and_back():
    data = "Größe und Maß\n".encode() * 5
    assert unpack(pack(data)) == data
