import unittest

from csvtools import EXCEL, TABS, UNIX, Dialect, FormatError, Table, read_rows, write_rows
from csvtools.__main__ import main


class ReadTest(unittest.TestCase):
    def test_plain(self):
        self.assertEqual(list(read_rows("a,b\r\nc,\r\n")), [["a", "b"], ["c", ""]])

    def test_three_ends(self):
        self.assertEqual(list(read_rows("a\nb\r\nc\rd")), [["a"], ["b"], ["c"], ["d"]])

    def test_quotes(self):
        self.assertEqual(list(read_rows('"a,b","say ""hi"""\n')), [["a,b", 'say "hi"']])

    def test_line_in_quotes(self):
        self.assertEqual(list(read_rows('"two\nlines",x\n')), [["two\nlines", "x"]])

    def test_empty_lines_are_skipped(self):
        self.assertEqual(list(read_rows('a\n\n""\n')), [["a"], [""]])

    def test_tabs(self):
        self.assertEqual(list(read_rows("a,b\tc\n", TABS)), [["a,b", "c"]])

    def test_errors_name_the_line(self):
        for text, message in [
            ('a\nb"c\nd"\n', "line 2: a quote within a bare field"),
            ('"a"b\n', "line 1: 'b' after a closing quote"),
            ('a\n"b\n', "line 2: a quote is never closed"),
        ]:
            with self.assertRaises(FormatError) as caught:
                list(read_rows(text))
            self.assertEqual(str(caught.exception), message)


class WriteTest(unittest.TestCase):
    def test_quotes_where_needed(self):
        self.assertEqual(write_rows([["a", "b,c", 'd"']], EXCEL), 'a,"b,c","d"""\r\n')
        self.assertEqual(write_rows([["a\nb"], [""]], EXCEL), '"a\nb"\r\n""\r\n')

    def test_quote_all(self):
        self.assertEqual(write_rows([["a", ""]], UNIX), '"a",""\n')

    def test_bad_dialect(self):
        with self.assertRaises(ValueError):
            Dialect(delimiter='"')


class TableTest(unittest.TestCase):
    def test_select_and_where(self):
        table = Table.from_text("id,name\n1,Ann\n2,Bo\n")
        self.assertEqual(table.where("id", lambda field: field == "2").select("name").rows, [["Bo"]])
        self.assertEqual(table.select("name").to_text(TABS), "name\nAnn\nBo\n")


def test_convert(tmp_path, capsys):
    path = tmp_path / "in.csv"
    path.write_bytes(b"a,b\r\n1,x y\r\n")
    assert main(["convert", "--to", "tabs", str(path)]) == 0
    assert capsys.readouterr().out == "a\tb\n1\tx y\n"
    assert main(["columns", str(path)]) == 0
    assert capsys.readouterr().out == "a\nb\n"
