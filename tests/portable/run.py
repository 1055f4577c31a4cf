# SPDX-License-Identifier: Apache-2.0
"""Run the tests of one module where there is no pytest: micropython -m run MODULE [NAME...], all but those of
these names. Stops at a failure."""

import sys


def main(name, *others):
    """Run each test_* function of a module, but the others. An assertion that fails is not caught."""
    module = __import__(name)
    tests = sorted(
        [each for each in dir(module) if each.startswith("test_") and each not in others]
    )
    for test in tests:
        print(test)
        getattr(module, test)()
    print("passed:", len(tests))


main(*sys.argv[1:])
