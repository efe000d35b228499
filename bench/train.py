"""The training benchmark with every peer that is installed: see docs/performance.md.

python -m bench.train [--workloads NAME ...] [--runners NAME ...] [--rounds N] [--seconds S] [--quick] [--out NAME]
"""

from __future__ import annotations

import argparse

from bench.peers import PEERS
from fastnn.bench import train
from fastnn.bench.runners import OURS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.train", description="Time the same training everywhere.")
    train.add_options(parser, (*OURS, *PEERS))
    options = parser.parse_args()
    train.run(options, (*OURS, *PEERS))


if __name__ == "__main__":
    main()
