from fractions import Fraction

from ledger import Ledger, allocate, parse_rate, share_of
from ledger.report import balance_sheet


def test_negative_halves_go_away_from_zero():
    assert [share_of(cents, Fraction(1, 2)) for cents in (-1, -3, -5, -7)] == [-1, -2, -3, -4]


def test_positive_halves_go_away_from_zero():
    assert [share_of(cents, Fraction(1, 2)) for cents in (1, 3, 5, 7)] == [1, 2, 3, 4]


def test_shares_mirror_for_many_rates():
    rates = [Fraction(part, whole) for whole in (2, 3, 4, 8, 20, 40, 1000) for part in (1, 3, 7)]
    for rate in rates:
        forth = [share_of(cents, rate) for cents in range(0, 200)]
        back = [-share_of(-cents, rate) for cents in range(0, 200)]
        assert back == forth


def test_nearest_cent_on_both_sides_of_zero():
    assert [share_of(cents, Fraction(1, 4)) for cents in (1, 3, 5, 7, 9)] == [0, 1, 1, 2, 2]
    assert [share_of(cents, Fraction(1, 4)) for cents in (-1, -3, -5, -7, -9)] == [0, -1, -1, -2, -2]


def test_shares_stay_exact_for_large_amounts():
    assert share_of(10**20 + 1, Fraction(1, 2)) == 5 * 10**19 + 1
    assert share_of(123456789012345678, parse_rate("10%")) == 12345678901234568


def test_whole_results_are_not_rounded():
    assert [share_of(cents, Fraction(1, 10)) for cents in (-200, -10, 0, 10, 200)] == [-20, -1, 0, 1, 20]


def test_negative_rate_of_a_discount():
    assert [share_of(1, Fraction(-1, 2)), share_of(3, Fraction(-1, 2)), share_of(-1, Fraction(-1, 2))] == [-1, -2, 1]


def test_every_refund_cancels_its_sale():
    for rate in ("5%", "7.5%", "12.5%", "19%"):
        book = Ledger("EUR")
        for cents in range(100, 180):
            net = f"1.{cents - 100:02d}"
            assert book.refund("cash", net, rate) == -book.sell("cash", net, rate)
        assert book.balances() == {"cash": 0, "sales": 0, "tax owed": 0}


def test_converted_balances_add_up():
    book = Ledger("EUR")
    book.post_entry("cash", "sales", 5)
    assert book.converted("XXX", Fraction(1, 2)) == {"cash": 3, "sales": -3}
    assert book.converted("EUR", Fraction(1, 2)) == {"cash": 5, "sales": -5}


def test_refund_sheet():
    book = Ledger("EUR")
    book.refund("cash", "1.10", "5%")
    assert balance_sheet(book) == "cash      -1.16 EUR\nsales      1.10 EUR\ntax owed   0.06 EUR"


def test_allocate_is_unchanged():
    assert allocate(-5, 2) == [-3, -2]
    assert allocate(5, 2) == [3, 2]
