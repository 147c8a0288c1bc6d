"""Actions labelled by hand, at turns of real recordings and of the service desk.

Each row: recording, its place in the file, turn, right or wrong, what makes it so, the action (a text, or calls as
(name, arguments) pairs). The labels were written from the conversations, not from what any verifier says. "Right" is
what serves the conversation as well as the demonstration does.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from pivotgym.envs.formats.jsonl import read_jsonl
from pivotgym.envs.formats.tau2 import read_tau2
from pivotgym.envs.tools import servicedesk
from pivotgym.envs.trajectory import Message, ToolCall, Trajectory
from pivotgym.verifiers.measure import Labelled

Row = tuple[str, int, int, bool, str, Any]
AIR, SHOP, TEL = "gpt-4.1_airline", "gpt-4.1_retail", "gpt-4.1_telecom"
FQ = {"reservation_id": "FQ8APE"}
LEGS = [{"flight_number": "HAT110", "date": "2024-05-24"}, {"flight_number": "HAT172", "date": "2024-05-24"}]
M05 = {"reservation_id": "M05KNL", "cabin": "economy", "flights": LEGS, "payment_id": "gift_card_8887175"}
RETURN = {"order_id": "#W5565470", "item_ids": ["7602931732", "9570044148"], "payment_method_id": "paypal_3024827"}
ADDRESS = {
    "order_id": "#W8665881",
    "address1": "123 Elm Street",
    "address2": "Suite 641",
    "city": "Austin",
    "state": "TX",
    "country": "USA",
    "zip": "78712",
}
BOOKING = {
    "user_id": "sophia_silva_7557",
    "origin": "ORD",
    "destination": "PHL",
    "flight_type": "one_way",
    "cabin": "economy",
    "flights": [{"flight_number": "HAT271", "date": "2024-05-26"}],
    "passengers": [
        {"first_name": "Sophia", "last_name": "Silva", "dob": "1957-10-05"},
        {"first_name": "Kevin", "last_name": "Smith", "dob": "2001-04-12"},
    ],
    "payment_methods": [{"payment_id": "certificate_8045380", "amount": 348}],
    "total_baggages": 0,
    "nonfree_baggages": 0,
    "insurance": "no",
}
ORDERS = ("#W3792453", "#W7181492", "#W5565470", "#W2575533")
CONFIRM_ANYTHING = "Would you like to proceed? Please confirm (yes/no)."

CALLS: list[Row] = [
    # A write: the cheapest flights, after a confirmation.
    (AIR, 2, 9, True, "argument order", [("update_reservation_flights", dict(reversed(M05.items())))]),
    (AIR, 2, 9, False, "wrong id", [("update_reservation_flights", {**M05, "payment_id": "certificate_7473723"})]),
    (AIR, 2, 9, False, "wrong id", [("update_reservation_flights", {**M05, "reservation_id": "UHDAHF"})]),
    (AIR, 2, 9, False, "wrong value", [("update_reservation_flights", {**M05, "cabin": "basic_economy"})]),
    (AIR, 2, 9, False, "omitted argument", [("update_reservation_flights", {k: M05[k] for k in list(M05)[:3]})]),
    (AIR, 2, 9, False, "half of it", [("update_reservation_flights", {**M05, "flights": LEGS[:1]})]),
    (AIR, 2, 9, False, "read only", [("get_reservation_details", {"reservation_id": "M05KNL"})]),
    (AIR, 2, 9, False, "talk for call", "Your flights have been changed to HAT110 and HAT172 for $207."),
    (
        AIR, 2, 9, False, "extra write",
        [("update_reservation_flights", M05), ("cancel_reservation", {"reservation_id": "UHDAHF"})],
    ),
    (
        AIR, 2, 9, True, "extra read",
        [("get_reservation_details", {"reservation_id": "M05KNL"}), ("update_reservation_flights", M05)],
    ),
    # A booking with nested values.
    (AIR, 3, 12, True, "number spelling", [("book_reservation", {**BOOKING, "total_baggages": 0.0})]),
    (AIR, 3, 12, True, "argument order", [("book_reservation", dict(sorted(BOOKING.items())))]),
    (AIR, 3, 12, False, "wrong value", [("book_reservation", {**BOOKING, "insurance": "yes"})]),
    (
        AIR, 3, 12, False, "wrong amount",
        [("book_reservation", {**BOOKING, "payment_methods": [{"payment_id": "certificate_8045380", "amount": 300}]})],
    ),
    (
        AIR, 3, 12, False, "wrong id",
        [("book_reservation", {**BOOKING, "payment_methods": [{"payment_id": "certificate_3887113", "amount": 348}]})],
    ),
    # Bags: the same numbers in another spelling.
    (
        AIR, 5, 9, True, "argument order",
        [("update_reservation_baggages",
          {"payment_id": "credit_card_6754990", "nonfree_baggages": 1, "total_baggages": 3, **FQ})],
    ),
    (
        AIR, 5, 9, False, "wrong value",
        [("update_reservation_baggages",
          {**FQ, "total_baggages": 3, "nonfree_baggages": 3, "payment_id": "credit_card_6754990"})],
    ),
    # Reads.
    (AIR, 2, 2, True, "same call", [("get_user_details", {"user_id": "aarav_garcia_1177"})]),
    (AIR, 2, 2, False, "wrong id", [("get_user_details", {"user_id": "james_lee_6136"})]),
    (AIR, 2, 2, False, "unknown id", [("get_user_details", {"user_id": "aarav_garcia"})]),
    (
        AIR, 2, 4, True, "call order",
        [("get_reservation_details", {"reservation_id": "UHDAHF"}),
         ("get_reservation_details", {"reservation_id": "M05KNL"})],
    ),
    (AIR, 2, 4, False, "half of it", [("get_reservation_details", {"reservation_id": "M05KNL"})]),
    (
        AIR, 2, 6, False, "other question",
        [("search_direct_flight", {"origin": "ATL", "destination": "PHX", "date": "2024-05-23"})],
    ),
    (
        AIR, 2, 6, False, "other question",
        [("search_direct_flight", {"origin": "PHL", "destination": "PHL", "date": "2024-05-24"})],
    ),
    (AIR, 0, 7, False, "other question", [("get_flight_status", {"flight_number": "HAT223", "date": "2024-05-14"})]),
    # Free text in an argument.
    (
        AIR, 1, 5, True, "other words",
        [("transfer_to_human_agents",
          {"summary": "The user requests an exception to add travel insurance after booking, which policy forbids."})],
    ),
    (
        AIR, 1, 5, False, "other matter",
        [("transfer_to_human_agents", {"summary": "Passenger lost a suitcase at the airport and is very angry."})],
    ),
    (
        AIR, 1, 5, False, "extra write",
        [("cancel_reservation", {"reservation_id": "PEP4E0"}),
         ("transfer_to_human_agents",
          {"summary": "The user requests an exception to add travel insurance after booking, which policy forbids."})],
    ),
    # Retail.
    (SHOP, 1, 3, False, "wrong value", [
        ("find_user_id_by_name_zip", {"first_name": "Isabella", "last_name": "Johansson", "zip": "32287"})]),
    (SHOP, 1, 3, True, "another way to know", [
        ("find_user_id_by_email", {"email": "isabella.johansson9391@example.com"})]),
    (SHOP, 1, 5, True, "call order", [("get_order_details", {"order_id": order}) for order in reversed(ORDERS)]),
    (SHOP, 1, 5, False, "half of it", [("get_order_details", {"order_id": order}) for order in ORDERS[:3]]),
    (SHOP, 1, 5, True, "extra read", [
        *(("get_order_details", {"order_id": order}) for order in ORDERS),
        ("get_user_details", {"user_id": "isabella_johansson_2152"})]),
    (SHOP, 1, 7, True, "list order", [
        ("return_delivered_order_items", {**RETURN, "item_ids": ["9570044148", "7602931732"]})]),
    (SHOP, 1, 7, False, "extra item", [
        ("return_delivered_order_items", {**RETURN, "item_ids": [*RETURN["item_ids"], "6857426243"]})]),
    (SHOP, 1, 7, False, "half of it", [
        ("return_delivered_order_items", {**RETURN, "item_ids": ["7602931732"]})]),
    (SHOP, 1, 7, False, "fails", [("return_delivered_order_items", {**RETURN, "order_id": "W5565470"})]),
    (SHOP, 2, 7, True, "argument order", [("modify_pending_order_address", dict(sorted(ADDRESS.items())))]),
    (SHOP, 2, 7, False, "wrong value", [("modify_pending_order_address", {**ADDRESS, "address2": "Suite 640"})]),
    (SHOP, 2, 7, False, "other tool", [
        ("modify_user_address", {"user_id": "fatima_johnson_7581", **{k: ADDRESS[k] for k in list(ADDRESS)[1:]}})]),
    (SHOP, 2, 7, False, "extra write", [
        ("modify_pending_order_address", ADDRESS),
        ("modify_user_address", {"user_id": "fatima_johnson_7581", **{k: ADDRESS[k] for k in list(ADDRESS)[1:]}})]),
    (SHOP, 0, 7, True, "same call", [
        ("modify_pending_order_payment", {"payment_method_id": "credit_card_8897086", "order_id": "#W4923227"})]),
    (SHOP, 0, 7, False, "wrong id", [
        ("modify_pending_order_payment", {"order_id": "#W4923227", "payment_method_id": "gift_card_8245350"})]),
    (SHOP, 0, 7, False, "unknown tool", [("change_payment", {"order_id": "#W4923227"})]),
    # Telecom: the same customer by phone, by id; the same line by id.
    (TEL, 2, 2, True, "another way to know", [("get_customer_by_id", {"customer_id": "C1001"})]),
    (TEL, 2, 2, False, "wrong id", [("get_customer_by_id", {"customer_id": "C1002"})]),
    (TEL, 2, 2, True, "another way to know", [("get_details_by_id", {"id": "C1001"})]),
    (TEL, 2, 4, False, "wrong id", [("get_details_by_id", {"id": "L1003"})]),
    (TEL, 2, 12, False, "wrong id", [("get_data_usage", {"customer_id": "C1001", "line_id": "L1002"})]),
]  # fmt: skip

TEXTS: list[Row] = [
    (AIR, 0, 1, True, "other words", "Sure! Please share your user ID and your reservation number."),
    (AIR, 0, 1, False, "asks for something else", "Sure! What is your date of birth, please?"),
    (AIR, 0, 1, False, "any text", "I can help you with your request."),
    (AIR, 0, 1, False, "any text", "Hello! How are you today?"),
    (AIR, 0, 8, True, "other words",
     "I'm sorry: flight HAT030 of May 13, 2024 on this reservation has already been flown, so the cabin can't be "
     "changed "
     "and I cannot upgrade it or change the return flight. Shall I transfer you to a human agent?"),
    (AIR, 0, 8, False, "wrong date",
     "I'm sorry: flight HAT030 of May 14, 2024 on this reservation has already been flown, so the cabin can't be "
     "changed "
     "and I cannot upgrade it. Shall I transfer you to a human agent?"),
    (AIR, 0, 8, False, "says the opposite",
     "Good news: flight HAT030 on 2024-05-13 has not been a problem, and I can upgrade your reservation and change "
     "your "
     "return flight. Shall I transfer you to a human agent?"),
    (AIR, 1, 3, True, "other words",
     "There is no travel insurance on reservation PEP4E0, and I'm afraid it can't be added now; that is only possible "
     "when booking."),
    (AIR, 1, 3, False, "says the opposite", "I've added travel insurance to your reservation PEP4E0."),
    (AIR, 1, 3, False, "half of it", "Your reservation is PEP4E0. Let me know if you need anything else!"),
    (AIR, 1, 6, True, "other words", "You are being transferred to a human agent, please hold on."),
    (AIR, 1, 6, False, "any text", "Let me know if there is anything else I can do for you."),
    (AIR, 2, 3, True, "other words",
     "I see two reservations, M05KNL and UHDAHF. Which one is the Atlanta to Philadelphia flight?"),
    (AIR, 2, 3, False, "half of it", "I see reservation M05KNL. Which one is the Atlanta to Philadelphia flight?"),
    (AIR, 2, 3, False, "invented id",
     "I see two reservations, M05KNL and UHDAHQ. Which one is the Atlanta to Philadelphia flight?"),
    (AIR, 2, 8, True, "other words",
     "The cheapest one-stop option in economy on 2024-05-24 is HAT110 (ATL to LGA, 2 PM to 4:30 PM, $105), then HAT172 "
     "(LGA to PHL, 11 PM to 00:00+1, $102), $207 in all. You move from business to economy and the difference is "
     "refunded to your original payment method. Shall I change the booking?"),
    (AIR, 2, 8, False, "wrong amount",
     "The cheapest one-stop option in economy on 2024-05-24 is HAT110 (ATL to LGA, 2 PM to 4:30 PM, $105), then HAT172 "
     "(LGA to PHL, 11 PM to 00:00+1, $102), $217 in all. You move from business to economy and the difference is "
     "refunded to your original payment method. Shall I change the booking?"),
    (AIR, 2, 8, False, "does not ask", "I found flights HAT110 and HAT172 for $207 on May 24, 2024."),
    (AIR, 2, 8, False, "reports what is not done",
     "You have been booked on HAT110 (14:00 to 16:30, $105) and HAT172 (23:00 to 00:00+1, $102) for May 24, 2024; the "
     "total economy fare is $207."),
    (AIR, 2, 8, False, "any text", CONFIRM_ANYTHING),
    (AIR, 3, 11, False, "any text", CONFIRM_ANYTHING),
    (AIR, 5, 6, True, "other words",
     "So for FQ8APE: Omar Rossi (born June 6, 1970) becomes the passenger, the cabin is upgraded to economy, and 3 "
     "checked bags are added. Shall I go ahead with these changes?"),
    (AIR, 5, 6, False, "wrong value",
     "So for FQ8APE: Omar Rossi (born June 6, 1970) becomes the passenger, the cabin is upgraded to economy, and 5 "
     "checked bags are added. Shall I go ahead with these changes?"),
    (SHOP, 0, 1, True, "other words", "Of course. Which e-mail address is your account under?"),
    (SHOP, 0, 1, False, "asks for something else", "Of course. What is your order number?"),
    (SHOP, 0, 5, True, "other words",
     "Your gift card holds 60 dollars, and order #W4923227 was paid with the Mastercard ending in 4336."),
    (SHOP, 0, 5, False, "wrong amount",
     "Your gift card holds 80 dollars, and order #W4923227 was paid with the Mastercard ending in 4336."),
    (SHOP, 0, 5, False, "wrong card",
     "Your gift card holds $60, and order #W4923227 was paid with the Visa ending in 8902."),
    (SHOP, 0, 5, False, "either way",
     "Your gift card holds $60.00 or $321.18, and order #W4923227 was paid with the Mastercard ending in 4336."),
    (SHOP, 0, 5, False, "lists everything",
     "Isabella Lopez, 710 Sunset Drive, Suite 176, Phoenix AZ 85034, isabella.lopez3271@example.com. "
     "credit_card_8897086 "
     "Visa 8902, gift_card_8245350 $60.00, credit_card_8554680 Mastercard 4336, paypal_1621947. Order #W4923227, "
     "speaker "
     "4768869376, 7751905257, $321.18, pending."),
    (SHOP, 1, 1, False, "any text", "Thank you for contacting us. Have a great day!"),
    (SHOP, 1, 2, True, "other words", "That's fine. What are your first name, last name and zip code?"),
    (SHOP, 1, 2, False, "asks for less", "That's fine. What is your zip code?"),
    (SHOP, 1, 6, False, "wrong number",
     "Order #W5565470 went to Texas: Electric Kettle, Mechanical Keyboard, Pet Bed; tracking number 907614527589. "
     "Shall "
     "I return the Electric Kettle and Mechanical Keyboard, with the refund to PayPal?"),
    (SHOP, 1, 6, True, "other words",
     "Order #W5565470 went to Texas: Electric Kettle, Mechanical Keyboard, Pet Bed; tracking number 907614527588. "
     "Shall "
     "I return the Electric Kettle and Mechanical Keyboard, with the refund to PayPal?"),
    (SHOP, 2, 8, True, "other words",
     "Done! Order #W8665881 will go to 123 Elm St, Suite 641, Austin, TX 78712; its address has been updated."),
    (SHOP, 2, 8, False, "wrong address",
     "Done! Order #W8665881 will go to 124 Elm St, Suite 641, Austin, TX 78712; its address has been updated."),
    (SHOP, 2, 8, False, "call for talk", [("get_order_details", {"order_id": "#W8665881"})]),
    (TEL, 2, 1, True, "other words", "Happy to help. What is your phone number or customer ID?"),
    (TEL, 2, 1, False, "asks for something else", "Happy to help. Which error message do you see?"),
    (TEL, 2, 11, True, "other words",
     "Those values look fine. Still, please reset the APN settings to default and then restart your phone, and tell me "
     "whether the internet works."),
    (TEL, 2, 11, False, "other step", "Please turn off Airplane Mode and run a speed test."),
]  # fmt: skip


def labelled(shared: Path) -> list[Labelled]:
    """All labelled actions, those at one pivot next to each other."""
    return from_rows(CALLS + TEXTS, shared) + service_desk()


def from_rows(rows: list[Row], shared: Path) -> list[Labelled]:
    """Looks the recordings up."""
    find = lru_cache(maxsize=None)(_finder(shared))
    return [
        Labelled(trajectory=find(name, index), turn=turn, action=_action(action), right=right, kind=kind)
        for name, index, turn, right, kind, action in sorted(rows, key=lambda row: row[:3])
    ]


def service_desk() -> list[Labelled]:
    """Labelled actions on the bundled recordings: values are taken from the recording, for it is made by a program."""
    bundled = list(read_jsonl(Path(servicedesk.__file__).with_name("trajectories.jsonl.gz")))

    def first(kind: str, opens_with: str = "") -> Trajectory:
        return next(
            one
            for one in bundled
            if one.id.startswith(f"servicedesk-{kind}-train") and one.action(0).text.startswith(opens_with)
        )

    rows: list[Labelled] = []

    def at(trajectory: Trajectory, turn: int, *cases: tuple[bool, str, Any]) -> None:
        for right, kind, action in cases:
            rows.append(Labelled(trajectory=trajectory, turn=turn, action=_action(action), right=right, kind=kind))

    refund = first("refund")
    turns = {call.name: (turn, dict(call.arguments)) for turn, call in _first_calls(refund)}
    turn, login = turns["login"]
    at(
        refund, turn,
        (True, "number for text", [("login", {**login, "pin": int(login["pin"])})]),
        (True, "letter case", [("login", {**login, "contact": login["contact"].upper()})]),
        (False, "wrong value", [("login", {**login, "pin": str(9999 - int(login["pin"])).zfill(4)})]),
    )  # fmt: skip
    turn, read = turns["get_order"]
    order = read["order"]
    logged_in = json.loads(refund.answer(turns["login"][0])[0].text)
    other = next(name for name in logged_in["orders"] if name != order)
    at(
        refund, turn,
        (False, "wrong id", [("get_order", {"order": other})]),
        (True, "letter case", [("get_order", {"order": order.lower()})]),
    )  # fmt: skip
    turn, paid = turns["refund"]
    amount = paid["amount"]
    at(
        refund, turn,
        (True, "number spelling", [("refund", {"amount": float(amount), "order": order})]),
        (False, "wrong amount", [("refund", {"order": order, "amount": amount - 1})]),
        (False, "wrong id", [("refund", {"order": other, "amount": amount})]),
        (False, "other tool", [("escalate", {"id": order})]),
        (False, "talk for call", f"Done, I refunded {amount} for {order}."),
    )  # fmt: skip
    at(
        refund, len(refund.turns) - 1,
        (True, "other words", f"I have refunded ${amount}.00 for order {order}."),
        (False, "wrong amount", f"Done, I refunded {amount + 45} for {order}."),
        (False, "wrong id", f"Done, I refunded {amount} for {other}."),
        (False, "not done", f"I will look at the refund of {amount} for {order}."),
    )  # fmt: skip
    late = first("refund_late")
    days, old = re.findall(r"(\d+) days", late.action(-1 + len(late.turns)).text)[0], _order(late)
    at(
        late, len(late.turns) - 1,
        (True, "other words", f"I am sorry, I cannot refund {old}: it is {days} days old."),
        (False, "says the opposite", f"Done, I refunded 20 for {old}, it is {days} days old."),
    )  # fmt: skip
    cancel = first("cancel", "Please tell me your PIN")
    stopped = _order(cancel)
    at(
        cancel, 0,
        (True, "other words", "What is your PIN?"),
        (False, "asks for something else", "Please tell me your e-mail."),
        (False, "any text", "Sure, I can help you with that."),
    )  # fmt: skip
    turn = next(turn for turn, call in _first_calls(cancel) if call.name == "cancel")
    known = [name for turn_, call in _first_calls(cancel) if call.name == "login"
             for name in json.loads(cancel.answer(turn_)[0].text)["orders"]]  # fmt: skip
    another = next(name for name in known if name != stopped)
    at(
        cancel, turn,
        (False, "wrong id", [("cancel", {"order": another})]),
        (True, "extra read", [("get_order", {"order": stopped}), ("cancel", {"order": stopped})]),
    )  # fmt: skip
    at(
        cancel, len(cancel.turns) - 1,
        (True, "other words", f"I cancelled order {stopped} for you."),
        (False, "wrong id", f"Order {another} is cancelled."),
        (False, "says the opposite", f"Order {stopped} is not cancelled."),
        (False, "repeats itself", f"Order {stopped} is cancelled. " * 12),
    )  # fmt: skip
    big = first("refund_big")
    case = re.findall(r"E\d+", big.action(len(big.turns) - 1).text)[0]
    at(
        big, len(big.turns) - 1,
        (True, "other words", f"I have escalated your refund; the case number is {case}."),
        (False, "invented id", f"Your refund is escalated, case E{(int(case[1:]) + 1) % 1000:03d}."),
    )  # fmt: skip
    return rows


def _first_calls(trajectory: Trajectory) -> list[tuple[int, ToolCall]]:
    turns = range(len(trajectory.turns))
    return [(turn, trajectory.action(turn).tool_calls[0]) for turn in turns if trajectory.action(turn).tool_calls]


def _order(trajectory: Trajectory) -> str:
    return next(str(dict(call.arguments)["order"]) for _, call in _first_calls(trajectory) if call.name == "get_order")


def _finder(shared: Path) -> Callable[[str, int], Trajectory]:
    def find(name: str, index: int) -> Trajectory:
        return next(itertools.islice(read_tau2(shared / "tau2" / f"{name}.json"), index, None))

    return find


def _action(action: Any) -> Message:
    if isinstance(action, str):
        return Message(role="assistant", content=action)
    calls = [ToolCall(name=name, arguments=arguments) for name, arguments in action]
    return Message(role="assistant", tool_calls=calls)
