"""The test cases of this process's start method: a module, so that spawned children find them."""

import os

from test._test_multiprocessing import install_tests_in_module_dict

from tests.stdlib.environment import METHOD

install_tests_in_module_dict(globals(), os.environ[METHOD])
