"""Requests per second of `LLMJudge` against a server that takes 200 ms, as a share of what 32 at a time allow: 160.

    python tests/benchmarks/judge_throughput.py [--requests 1600] [--latency 0.2] [--concurrency 32] [--book FILE]

The scripted server has a process of its own, on the same cores. With `--book` every answer is made durable in a SQLite
file, which must be new. The whole call is measured, opening connections and combining verdicts included.
"""

import argparse
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from judge_questions import candidates
from scripted_judge import MODEL, ScriptedJudge
from sparring.annotators.answer_book import SqliteBook
from sparring.annotators.judge.judge import LLMJudge
from sparring.annotators.judge.listwise import Listwise

SHARE = 0.85


def serve(latency: float, pipe: Connection) -> None:
    with ScriptedJudge(latency=latency) as server:
        pipe.send(server.url)
        pipe.recv()
        pipe.send(server.busiest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1600)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--book", default=None)
    options = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(options.latency, there), daemon=True)
    server.start()
    judge = LLMJudge(
        Listwise(),
        here.recv(),
        MODEL,
        None,
        concurrency=options.concurrency,
        book=None if options.book is None else SqliteBook(options.book),
    )
    words = " ".join(f"word{i}" for i in range(100))
    texts = [f"{i} {words}" for i in range(6)]
    batch = [candidates(*texts, request=f"Request {n}", name=str(n)) for n in range(options.requests)]
    judge(batch[:2])
    began, worked = time.perf_counter(), time.process_time()
    judgements = judge(batch[2:])
    seconds, busy = time.perf_counter() - began, time.process_time() - worked
    assert {judgement.status for judgement in judgements} == {"ok"}
    possible, reached = options.concurrency / options.latency, len(judgements) / seconds
    here.send(None)
    print(f"{reached:.1f} of {possible:.0f} requests/s: {reached / possible:.1%} (at least {SHARE:.0%} wanted)")
    print(f"client: {1e3 * busy / len(judgements):.2f} ms of processor per request; at most {here.recv()} at a time")
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
