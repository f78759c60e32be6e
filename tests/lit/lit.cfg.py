import os

import lit.formats

config.name = "weft"
config.suffixes = [".mlir"]
config.test_format = lit.formats.ShTest()
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = lit_config.params["output"]
for tool in ("weft-opt", "FileCheck"):
    config.substitutions.append((rf"\b{tool}\b", lit_config.params[tool]))
