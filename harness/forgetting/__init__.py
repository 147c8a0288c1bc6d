"""What training made a policy forget, measured: a suite that runs without a network, and lm-eval's tasks.

:func:`pivotgym.harness.forgetting.suite.run_forgetting` runs it.
"""
