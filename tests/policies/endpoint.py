"""A real OpenAI-compatible HTTP server over a tiny model, in a process of its own; it can be told to misbehave.

``POST /v1/chat/completions`` samples through TransformersPolicy. ``POST /behave`` with ``{"plan": [...]}`` sets what
the next requests meet, one entry each: ``ok``, ``500``, ``429``, ``400``, ``hang``, ``garbage``, ``no-choices``,
``reset``. Request bodies are kept and given back by ``GET /seen``.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from tiny_models import make_model, make_tokenizer

from pivotgym.envs.trajectory import Message
from pivotgym.harness.policies import Conversation, Sampling
from pivotgym.harness.policies.transformers_policy import TransformersPolicy

LOCK = threading.Lock()
PLAN: list[str] = []
SEEN: list[dict[str, Any]] = []
POLICY = TransformersPolicy(make_model(), make_tokenizer())
STRICT = "--one-choice" in sys.argv
CALL = {"id": "abc", "type": "function", "function": {"name": "get_ticket", "arguments": '{"id": "T1"}'}}
# Answers that a random model would not give, asked for by the last user message.
CANNED: dict[str, dict[str, Any]] = {
    "please call": {"content": None, "tool_calls": [CALL], "reasoning_content": "hm"},
    "please break": {"content": "so", "tool_calls": [{"id": "x", "function": {"name": "a", "arguments": '{"id": '}}]},
    "please hermes": {"content": '<think>t</think><tool_call>{"name": "b", "arguments": {}}</tool_call>'},
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._send(200, SEEN)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/behave":
            PLAN[:] = body["plan"]
            SEEN.clear()
            self._send(200, {})
            return
        with LOCK:
            SEEN.append(body)
            kind = PLAN.pop(0) if PLAN else "ok"
        if kind in ("500", "429", "400"):
            self._send(int(kind), {"error": {"message": f"planned {kind}"}})
        elif kind == "hang":
            time.sleep(3)
        elif kind == "garbage":
            self._send(200, None, raw=b'{"choices": [{"mess')
        elif kind == "no-choices":
            self._send(200, {"choices": []})
        elif kind == "reset":
            self.connection.close()
        elif STRICT and body.get("n", 1) != 1:
            self._send(400, {"error": {"message": "Only one completion choice is allowed: 'n' must be 1"}})
        elif STRICT and body.get("logprobs"):
            self._send(422, {"error": {"message": "extra field: logprobs"}})
        else:
            with LOCK:
                self._send(200, self._answer(body))

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        messages = [Message.model_validate(row) for row in body["messages"]]
        canned = CANNED.get(messages[-1].text)
        if canned is not None:
            return {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **canned}}]}
        sampling = Sampling(body["temperature"], body["top_p"], body["max_tokens"], body.get("seed"))
        (drawn,) = POLICY.sample([Conversation(messages, body.get("tools") or ())], body.get("n") or 1, sampling)
        choices = [
            {
                "index": index,
                "finish_reason": completion.stop_reason,
                "message": {"role": "assistant", "content": completion.text},
                "logprobs": {"content": [{"token": "", "logprob": value} for value in completion.logprobs]}
                if body.get("logprobs")
                else None,
            }
            for index, completion in enumerate(drawn)
        ]
        sampled = sum(len(completion.token_ids) for completion in drawn)
        usage = {"prompt_tokens": len(drawn[0].prompt_ids), "completion_tokens": sampled}
        return {"id": "1", "object": "chat.completion", "choices": choices, "usage": usage}

    def _send(self, status: int, body: Any, raw: bytes | None = None) -> None:
        data = json.dumps(body).encode() if raw is None else raw
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
