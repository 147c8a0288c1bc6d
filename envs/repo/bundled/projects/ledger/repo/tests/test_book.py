from fractions import Fraction

import pytest

from ledger import Ledger, MoneyError
from ledger.__main__ import main
from ledger.report import balance_sheet, load_csv, statement

CSV = "debit,credit,amount,note\ncash,sales,19.99,lamp\nrent,cash,5.00,\n"


def test_balances_add_up_to_zero():
    book = Ledger("EUR")
    book.post_entry("cash", "sales", "19.99")
    book.post_entry("rent", "cash", "5")
    assert book.balances() == {"cash": 1499, "rent": 500, "sales": -1999}


def test_two_accounts_are_needed():
    with pytest.raises(MoneyError):
        Ledger("EUR").post_entry("cash", "cash", "1")


def test_sale_with_tax():
    book = Ledger("EUR")
    assert book.sell("cash", "19.99", "19%") == 2379
    assert book.balances() == {"cash": 2379, "sales": -1999, "tax owed": -380}


def test_refund_takes_a_sale_back():
    book = Ledger("EUR")
    book.sell("cash", "19.99", "19%")
    book.refund("cash", "19.99", "19%")
    assert book.balances() == {"cash": 0, "sales": 0, "tax owed": 0}


def test_split():
    book = Ledger("EUR")
    book.split(["anna", "ben", "carl"], "cash", "1.00")
    assert book.balances() == {"anna": 34, "ben": 33, "carl": 33, "cash": -100}


def test_converted():
    book = Ledger("EUR")
    book.post_entry("cash", "sales", "10")
    assert book.converted("USD", Fraction(11, 10)) == {"cash": 1100, "sales": -1100}


def test_reports(tmp_path):
    path = tmp_path / "entries.csv"
    path.write_text(CSV, encoding="utf-8")
    book = load_csv(path)
    assert balance_sheet(book) == "cash    14.99 EUR\nrent     5.00 EUR\nsales  -19.99 EUR"
    assert statement(book, "cash") == "lamp: 19.99\n-: 14.99"


def test_command_line(tmp_path, capsys):
    path = tmp_path / "entries.csv"
    path.write_text(CSV, encoding="utf-8")
    assert main(["report", str(path), "--account", "rent"]) == 0
    assert capsys.readouterr().out == "-: 5.00\n"
