"""What the stock book refuses."""


class StockError(Exception):
    """Base of the errors of the stock book."""


class UnknownPlace(StockError):
    """Nothing was ever received at that place."""


class UnknownOrder(StockError):
    """There is no open order of that number."""


class OutOfStock(StockError):
    """A place does not have as much of an item as is wanted."""

    def __init__(self, place, item, wanted, there):
        super().__init__(f"{wanted} {item} wanted from {place}, {there} there")
        self.place = place
        self.item = item
        self.wanted = wanted
        self.there = there
