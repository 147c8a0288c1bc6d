"""A second set of labelled actions, from other recordings.

The rules of :mod:`pivotgym.verifiers.talk` were adjusted while looking at the errors on :mod:`labelled`, so figures on
that set flatter them. These rows were labelled afterwards. When first measured, ``effects`` had no false positive and
6 false negatives of 35 here (``tool_call``: 7 errors, ``exact``: 15). General defects found that way
(``5-7 days``, requests with a subordinate clause, names inside longer names) were then mended, so today's figures
flatter a little too.
"""

from __future__ import annotations

from labelled import Row

SONNET, TUNED = "claude-sonnet-4-5_airline", "ft-gpt-4.1_retail"
LAS = {
    "reservation_id": "GV1N64",
    "cabin": "basic_economy",
    "flights": [{"flight_number": "HAT003", "date": "2024-05-19"}, {"flight_number": "HAT290", "date": "2024-05-20"}],
    "payment_id": "gift_card_1642017",
}
HOSE = {"order_id": "#W7181492", "item_ids": ["5753502325", "9851293632"], "payment_method_id": "paypal_3024827"}

HELD_OUT: list[Row] = [
    (SONNET, 4, 1, True, "other words",
     "I'm sorry, a passenger cannot be removed: the number of passengers on a reservation can't be changed. You can "
     "keep "
     "it as it is, or cancel the whole reservation if it qualifies and book anew. Would you like to proceed with one "
     "of "
     "these?"),
    (SONNET, 4, 1, False, "says the opposite", "Sure, I can remove Sophia. What is your reservation ID?"),
    (SONNET, 4, 2, True, "same call", [("get_user_details", {"user_id": "james_patel_9828"})]),
    (SONNET, 4, 2, False, "talk for call", "Let me look up your reservations."),
    (SONNET, 4, 3, True, "call order",
     [("get_reservation_details", {"reservation_id": one}) for one in ("GV1N64", "MQHHT6", "AAVMM8")]),
    (SONNET, 4, 3, False, "half of it", [("get_reservation_details", {"reservation_id": "GV1N64"})]),
    (SONNET, 4, 4, False, "other question",
     [("search_direct_flight", {"origin": "LAS", "destination": "DEN", "date": "2024-05-19"}),
      ("search_direct_flight", {"origin": "LAS", "destination": "DEN", "date": "2024-05-20"})]),
    (SONNET, 4, 4, True, "call order",
     [("search_direct_flight", {"origin": "DEN", "destination": "LAS", "date": "2024-05-20"}),
      ("search_direct_flight", {"origin": "LAS", "destination": "DEN", "date": "2024-05-19"})]),
    (SONNET, 4, 5, True, "other words",
     "In basic economy HAT003 on May 19 costs $53 and HAT290 on May 20 $99 per passenger, $456 for all 3 instead of "
     "$5,700. You would get $5,244 back to gift_card_1642017. Afterwards the flights can no longer be modified. Shall "
     "I "
     "downgrade reservation GV1N64?"),
    (SONNET, 4, 5, False, "wrong amount",
     "In basic economy HAT003 on May 19 costs $53 and HAT290 on May 20 $99 per passenger, $456 for all 3 instead of "
     "$5,700. You would get $5,144 back to gift_card_1642017. Afterwards the flights can no longer be modified. Shall "
     "I "
     "downgrade reservation GV1N64?"),
    (SONNET, 4, 5, False, "swapped",
     "In basic economy HAT003 on May 19 costs $99 and HAT290 on May 20 $53 per passenger, $456 for all 3 instead of "
     "$5,700. You would get $5,244 back to gift_card_1642017. Afterwards the flights can no longer be modified. Shall "
     "I "
     "downgrade reservation GV1N64?"),
    (SONNET, 4, 6, True, "argument order", [("update_reservation_flights", dict(reversed(LAS.items())))]),
    (SONNET, 4, 6, False, "wrong value", [("update_reservation_flights", {**LAS, "cabin": "economy"})]),
    (SONNET, 4, 6, False, "other tool", [("cancel_reservation", {"reservation_id": "GV1N64"})]),
    (SONNET, 4, 7, True, "other words",
     "Done: reservation GV1N64 has been changed from business to basic economy, HAT003 on May 19 and HAT290 on May 20 "
     "stay the same for all 3 passengers. The refund of $5,244 goes to gift_card_1642017 within 5 to 7 business days. "
     "Note that you cannot modify the flights any more."),
    (SONNET, 4, 7, False, "wrong id",
     "Done: reservation AAVMM8 has been changed from business to basic economy, HAT003 on May 19 and HAT290 on May 20 "
     "stay the same for all 3 passengers. The refund of $5,244 goes to gift_card_1642017 within 5 to 7 business days. "
     "Note that you cannot modify the flights any more."),
    (SONNET, 7, 1, True, "other words", "Gladly! May I have your user ID?"),
    (SONNET, 7, 1, False, "any text", "Gladly! One moment while I look that up."),
    (SONNET, 7, 3, False, "too many calls",
     [("get_reservation_details", {"reservation_id": one})
      for one in ("NM1VX1", "KC18K6", "S61CZX", "H8Q05L", "WUNA5K", "NM1VX1", "KC18K6")]),
    (SONNET, 7, 6, False, "half of it", "The total is $348. How would you like to proceed with payment?"),
    (TUNED, 5, 1, True, "other words", "Of course. What's the email on your account?"),
    (TUNED, 5, 2, True, "other words", "No worries. Can you tell me your first and last name and your zip code?"),
    (TUNED, 5, 2, False, "asks for something else", "No worries. Can you tell me your phone number?"),
    (TUNED, 5, 5, True, "other words",
     "Your account has four orders: #W3792453, #W7181492, #W5565470 and #W2575533. Which one has the hose, the "
     "backpack "
     "and the hiking boots?"),
    (TUNED, 5, 5, False, "half of it",
     "Your account has two orders: #W3792453 and #W7181492. Which one has the hose, the backpack and the hiking "
     "boots?"),
    (TUNED, 5, 8, False, "wrong id", [("get_product_details", {"product_id": "6679515468"})]),
    (TUNED, 5, 10, True, "list order",
     [("return_delivered_order_items", {**HOSE, "item_ids": list(reversed(HOSE["item_ids"]))})]),
    (TUNED, 5, 10, False, "half of it", [("return_delivered_order_items", {**HOSE, "item_ids": ["5753502325"]})]),
    (TUNED, 5, 13, True, "other words",
     "Sorry, a return request cannot be cancelled once submitted. The exchange of the boots becomes possible when the "
     "return of the hose and the backpack has been completed."),
    (TUNED, 5, 13, False, "says the opposite",
     "Yes, I have cancelled the return of the hose and backpack and will exchange the boots now."),
    (TUNED, 9, 5, True, "other words",
     "The gift card gift_card_8245350 has $60.00 left, and #W4923227 was paid with the Mastercard ending in 4336 "
     "(credit_card_8554680). A gift card can't be applied to an order already placed, but I can switch it to your Visa "
     "ending in 8902 (credit_card_8897086). Shall I change the payment method?"),
    (TUNED, 9, 5, True, "fewer ids",
     "Your gift card balance is $60, and order #W4923227 was paid with the Mastercard ending in 4336. The gift card "
     "cannot be applied to a placed order, but I can switch the payment to your Visa ending in 8902. Shall I go ahead "
     "and change it?"),
    (TUNED, 9, 7, True, "other words",
     "All set: #W4923227 is now paid with the Visa ending in 8902, updated successfully; the charge on the Mastercard "
     "ending in 4336 has been refunded and shows in 5-7 business days."),
    (TUNED, 9, 7, False, "wrong number",
     "All set: #W4923227 is now paid with the Visa ending in 8902, updated successfully; the charge on the Mastercard "
     "ending in 4336 has been refunded and shows in 3 business days."),
    (TUNED, 9, 7, False, "any text", "You're welcome! Have a great day!"),
]  # fmt: skip
