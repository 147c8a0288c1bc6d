"""The machine of the shop; the table is in the README."""

from .machine import Machine, Move
from .rules import covers_total, happened, refund, take_payment, waited, within

shop = Machine(
    Move("open", "pay", "paid", guard=covers_total, effect=take_payment),
    Move("open", "cancel", "cancelled"),
    Move("open", "remind", "open", guard=waited(3)),
    Move("open", "expire", "cancelled", guard=happened("remind", 2)),
    Move("paid", "ship", "shipped"),
    Move("paid", "cancel", "cancelled", effect=refund),
    Move("shipped", "deliver", "delivered"),
    Move("delivered", "return", "returned", guard=within(14), effect=refund),
    Move("delivered", "return", "exchanged", guard=within(30)),
)
