from csvtools import EXCEL, TABS, UNIX, Dialect, FormatError, Table, read_rows, write_rows
from csvtools.__main__ import main

ODD = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


def problem(text, dialect=EXCEL):
    try:
        rows = list(read_rows(text, dialect))
    except FormatError as error:
        return str(error)
    return rows


def test_both_characters_are_kept_in_quotes():
    assert list(read_rows('1,"a\r\nb"\r\n2,c\r\n')) == [["1", "a\r\nb"], ["2", "c"]]


def test_carriage_return_is_kept_in_quotes():
    assert list(read_rows('"a\rb"\r"c\r\rd",e')) == [["a\rb"], ["c\r\rd", "e"]]


def test_mixed_ends_in_one_field():
    assert list(read_rows('"\n\r\n\r\n\n\r",x\n')) == [["\n\r\n\r\n\n\r", "x"]]


def test_line_feeds_in_quotes():
    assert list(read_rows('"a\n\n\nb",c\n"\n"\n')) == [["a\n\n\nb", "c"], ["\n"]]


def test_other_separators_are_data():
    assert list(read_rows(f"1,x{ODD}y\n2,z\n")) == [["1", f"x{ODD}y"], ["2", "z"]]


def test_other_separators_are_data_in_quotes():
    assert list(read_rows(f'"x,{ODD}",{ODD}\r\n')) == [[f"x,{ODD}", ODD]]


def test_a_field_of_one_separator():
    assert [list(read_rows(sign + "\n")) for sign in ODD] == [[[sign]] for sign in ODD]


def test_three_ends_and_empty_lines():
    assert list(read_rows("a\n\nb\r\n\r\nc\r\rd\n\re")) == [["a"], ["b"], ["c"], ["d"], ["e"]]
    assert [list(read_rows(text)) for text in ("", "\n", "\r\n\r")] == [[], [], []]


def test_round_trip():
    fields = ["", "a", '"', '""', ",", "\t", "\n", "\r", "\r\n", "\n\r", "a\r\nb", 'x"\r\n"y', ODD, " "]
    rows = [[one, two] for one in fields for two in fields] + [[one] for one in fields]
    for dialect in (EXCEL, UNIX, TABS, Dialect(";", "'", "\r")):
        assert list(read_rows(write_rows(rows, dialect), dialect)) == rows


def test_errors_count_the_three_ends_only():
    assert problem(f'a{ODD}\r\nb\rc\n"d') == "line 4: a quote is never closed"
    assert problem('"x\r\ny\rz"\nq"w"\n') == "line 4: a quote within a bare field"
    assert problem('a\n"b\nc"d\n') == "line 2: 'd' after a closing quote"


def test_plain_errors_are_unchanged():
    assert problem('ok\n"x') == "line 2: a quote is never closed"
    assert problem('"a""b"\n') == [['a"b']]


def test_table_keeps_addresses():
    table = Table.from_text('id,address\r\n1,"A\r\nB"\r\n')
    assert table.select("address").to_text() == 'address\r\n"A\r\nB"\r\n'


def test_convert_keeps_addresses(tmp_path, capsys):
    path = tmp_path / "in.csv"
    path.write_bytes(b'1,"A\r\nB"\r\n2,c\x0cd\r\n')
    assert main(["convert", "--to", "tabs", str(path)]) == 0
    assert capsys.readouterr().out == '1\t"A\r\nB"\n2\tc\x0cd\n'
