from tabular import Column, Table
from tabular.__main__ import main


def cities():
    table = Table([Column("city"), Column("people", align="right")])
    table.append("Graz", 303270)
    table.append("Vienna", None)
    return table


def test_plain():
    assert cities().render().splitlines() == [
        "city   | people",
        "-------+-------",
        "Graz   | 303270",
        "Vienna |",
    ]


def test_box():
    assert cities().render("box").splitlines() == [
        "+--------+--------+",
        "| city   | people |",
        "+--------+--------+",
        "| Graz   | 303270 |",
        "| Vienna |        |",
        "+--------+--------+",
    ]


def test_limit():
    table = Table([Column("name", limit=5)])
    table.append("Salzburg")
    assert table.render("markdown").splitlines() == ["| name  |", "| ----- |", "| Salz\u2026 |"]


def test_column_width_counts_terminal_columns():
    table = Table([Column("city")])
    table.append("\u6771\u4eac\u90fd")
    assert table.widths() == [6]


def test_command_line(tmp_path, capsys):
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,22\n", encoding="utf-8")
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == "a | b\n--+---\n1 | 22\n"
