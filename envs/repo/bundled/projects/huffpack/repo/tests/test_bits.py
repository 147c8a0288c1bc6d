import pytest

from huffpack.bits import BitReader, BitWriter


def test_bits_come_out_as_they_went_in():
    writer = BitWriter()
    for value, width in ((0b1, 1), (0b0110, 4), (0b10101010101, 11)):
        writer.write(value, width)
    assert writer.getvalue() == bytes([0b10110101, 0b01010101])
    reader = BitReader(writer.getvalue())
    assert [reader.read() for _ in range(8)] == [1, 0, 1, 1, 0, 1, 0, 1]
    assert reader.unread_bytes == 1


def test_the_end_is_filled_up_with_zeros():
    writer = BitWriter()
    writer.write(0b111, 3)
    assert writer.getvalue() == bytes([0b11100000])


def test_nothing_left():
    with pytest.raises(EOFError):
        BitReader(b"").read()
