"""What measures this machine and shows what fastnn does on it. Needs nothing beyond fastnn.

The training benchmark, the same training by every runner, timed in turns (`fastnn bench train`):

    workloads.py  WHAT is trained: networks, data, the work in FLOPs, the targets
    runners.py    WHO trains: fastnn on each backend, and NumPy written by hand
    worker.py     WHERE: a process for each runner, asleep while another one is timed
    machine.py    what the machine can do at most, measured in the same run
    train.py      checks that all do the same work, then times it in rounds
    results.py    what that measured
    report.py     tables, JSON, picture

Beside it:

    ladder.py     gradient descent from explicit loops to native code, each rung proved equal (`fastnn bench ladder`)
    demo.py       a classifier of real images, trained and drawn (`fastnn demo`)

The peers (PyTorch, JAX, scikit-learn) are in the checkout's own `bench/`, for `python -m bench.train`.
"""
